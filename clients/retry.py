"""When to ask a server again: where that is safe, helps, and still leaves time for the answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count
from random import uniform
from typing import TypeVar

from clients.errors import ClassifyError

MOST_ATTEMPTS = 5
LONGEST_TIMEOUT_S = 1e6  # gRPC takes what it cannot count for the past
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 2.0
BURST, EARNED = 50, 0.1

# A photo's classes are the same however often one asks. But from a server that does not say when,
# these mean that the time is over, or that the photo is larger than a message may be.
WHEN_TOLD = ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")

T = TypeVar("T")


class Budget:
    """Retries cannot multiply an overload: each costs a token, a success earns a tenth of one.

    As in gRFC A6. Bounded calls need none: there a photo keeps its place until it is answered, so
    that retries come instead of other photos, not on top of them.
    """

    def __init__(self) -> None:
        self._tokens: float = BURST

    def earn(self) -> None:
        self._tokens = min(BURST, self._tokens + EARNED)

    def spend(self) -> bool:
        """False when there is nothing left."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


async def answered(
    ask: Callable[[float], Awaitable[T]], timeout_s: float, budget: Budget | None = None
) -> tuple[T, int]:
    """The answer and how many attempts it took; `ask` is given the seconds that are left.

    Raises the last attempt's ClassifyError.
    """
    deadline = time.monotonic() + min(timeout_s, LONGEST_TIMEOUT_S)
    for attempt in count(1):
        try:
            answer = await ask(deadline - time.monotonic())
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
    raise AssertionError("counting does not end")


def _wait_s(error: ClassifyError) -> float | None:
    """None: asking again is not safe, or would not help."""
    if error.attempts >= MOST_ATTEMPTS or error.code not in ("UNAVAILABLE", *WHEN_TOLD):
        return None
    if error.retry_after_s is not None or error.code in WHEN_TOLD:
        return error.retry_after_s  # the server's is jittered already
    # Full jitter: anything less, and the callers of a server that went away return together.
    return uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (error.attempts - 1)))
