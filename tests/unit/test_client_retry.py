"""When the client retries a call, and when it does not."""

import asyncio
from collections.abc import Iterator
from itertools import repeat

import pytest

from alexnet_client import retry
from alexnet_client.errors import ClassifyError
from alexnet_client.retry import BURST, MAX_ATTEMPTS, Budget, call_with_retries


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits in seconds, none of which is slept; those without advice at their longest."""
    seconds: list[float] = []

    async def sleep(wait_s: float) -> None:
        seconds.append(wait_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(retry, "uniform", lambda low, high: high)
    return seconds


class Server:
    """Raises the given failures, then answers "lynx"."""

    def __init__(self, *failures: ClassifyError, always: ClassifyError | None = None) -> None:
        self._failures: Iterator[ClassifyError] = repeat(always) if always else iter(failures)
        self.left_s: list[float] = []

    async def ask(self, left_s: float) -> str:
        self.left_s.append(left_s)
        for failure in self._failures:
            raise failure
        return "lynx"


def full(retry_after_s: float | None = 0.5) -> ClassifyError:
    return ClassifyError("RESOURCE_EXHAUSTED", "the queue is full", "overloaded", retry_after_s)


@pytest.mark.parametrize(
    "code", ["CANCELLED", "INVALID_ARGUMENT", "INTERNAL", "NOT_FOUND", "UNKNOWN", "UNIMPLEMENTED"]
)
async def test_codes_for_which_a_retry_is_unsafe_or_useless_are_never_retried(
    code: str, waits: list[float]
) -> None:
    server = Server(always=ClassifyError(code, "", retry_after_s=0.1))
    with pytest.raises(ClassifyError) as caught:
        await call_with_retries(server.ask, 10)
    assert (caught.value.code, caught.value.attempts, waits) == (code, 1, [])


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"])
async def test_a_refusal_is_retried_only_with_the_servers_advice(
    code: str, waits: list[float]
) -> None:
    with pytest.raises(ClassifyError):
        await call_with_retries(Server(ClassifyError(code, "")).ask, 10)
    assert waits == []
    advising = Server(ClassifyError(code, "", retry_after_s=0.3), full(0.0))
    assert await call_with_retries(advising.ask, 10) == ("lynx", 3)
    assert waits == [0.3, 0.0], "exactly what the server advised"


async def test_without_advice_the_waits_double_up_to_the_longest(waits: list[float]) -> None:
    server = Server(always=ClassifyError("UNAVAILABLE", "no server"))
    with pytest.raises(ClassifyError) as caught:
        await call_with_retries(server.ask, 10)
    assert waits == [0.2, 0.4, 0.8, 1.6]
    assert caught.value.attempts == len(server.left_s) == MAX_ATTEMPTS


async def test_the_jitter_is_full(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    monkeypatch.setattr(retry, "uniform", lambda low, high: low)
    await call_with_retries(Server(ClassifyError("UNAVAILABLE", "")).ask, 10)
    assert waits == [0.0]


async def test_there_is_no_wait_past_the_deadline(waits: list[float]) -> None:
    with pytest.raises(ClassifyError, match="queue is full"):
        await call_with_retries(Server(full(0.5)).ask, 0.5)
    assert waits == []


async def test_each_attempt_gets_the_time_that_is_left() -> None:
    server = Server(full(0.02), full(0.02))
    assert await call_with_retries(server.ask, 1.0) == ("lynx", 3)
    first, second, third = server.left_s
    assert 1.0 >= first >= second + 0.02 >= third + 0.04 > 0


async def test_retries_cannot_multiply_an_overload(waits: list[float]) -> None:
    budget, overloaded = Budget(), Server(always=full())
    for _ in range(2 * BURST):
        with pytest.raises(ClassifyError):
            await call_with_retries(overloaded.ask, 10, budget)
    assert len(overloaded.left_s) == 2 * BURST + BURST
    for _ in range(11):  # successes earn retries
        await call_with_retries(Server().ask, 10, budget)
    assert await call_with_retries(Server(full()).ask, 10, budget) == ("lynx", 2)
    with pytest.raises(ClassifyError):
        await call_with_retries(Server(full()).ask, 10, budget)
