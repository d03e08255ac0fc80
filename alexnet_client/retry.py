"""When to retry a call: where that is safe, helps, and leaves time for the answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count
from random import uniform
from typing import TypeVar

from alexnet_client.errors import ClassifyError

MAX_ATTEMPTS = 5
MAX_TIMEOUT_S = 1e6  # gRPC reads larger ones as deadlines in the past
FIRST_WAIT_S, MAX_WAIT_S = 0.2, 2.0
BURST, EARNED = 50, 0.1

# Classifying is idempotent. But without the server's advice these codes mean that the deadline has
# passed or that the photo exceeds gRPC's message limit: a retry would fail, too.
NEED_ADVICE = ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")

T = TypeVar("T")


class Budget:
    """A token bucket as in gRFC A6, so that retries cannot multiply an overload: a retry costs a
    token, a success earns a tenth of one.

    Calls with a bounded number in flight need none: there a retry delays the next photo.
    """

    def __init__(self) -> None:
        self._tokens: float = BURST

    def earn(self) -> None:
        self._tokens = min(BURST, self._tokens + EARNED)

    def spend(self) -> bool:
        """False when the bucket is empty."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


async def call_with_retries(
    call: Callable[[float], Awaitable[T]], timeout_s: float, budget: Budget | None = None
) -> tuple[T, int]:
    """The answer and the number of attempts; `call` takes the seconds that are left.

    Raises the ClassifyError of the last attempt.
    """
    deadline = time.monotonic() + min(timeout_s, MAX_TIMEOUT_S)
    for attempt in count(1):
        try:
            answer = await call(deadline - time.monotonic())
        except ClassifyError as error:
            error.attempts = attempt
            wait_s = _wait_s(error)
            left_s = deadline - time.monotonic()
            if wait_s is None or wait_s >= left_s or (budget and not budget.spend()):
                raise
        else:
            if budget:
                budget.earn()
            return answer, attempt
        await asyncio.sleep(wait_s)
    raise AssertionError("count() is endless")


def _wait_s(error: ClassifyError) -> float | None:
    """None if a retry is not safe or would not help."""
    if error.attempts >= MAX_ATTEMPTS or error.code not in ("UNAVAILABLE", *NEED_ADVICE):
        return None
    if error.retry_after_s is not None or error.code in NEED_ADVICE:
        return error.retry_after_s  # already jittered by the server
    # Full jitter, so that the clients of a restarted server do not all return at once.
    return uniform(0, min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** (error.attempts - 1)))
