"""How much later than expected an answer may well be: what was seen lately.

Mean and mean deviation of the errors, as TCP does it for its timer of retransmission (RFC 6298).
The deviation rises faster than it falls: errors come in runs, as a slow moment makes everybody late
who waits. In silence both fade: who refuses all work after a slow moment would never see another.
"""

import time
from collections.abc import Callable

WEIGHT, RISE, FALL = 0.01, 0.03, 0.005
DEVIATIONS = 3
HALF_LIFE_S = 5.0
# Of the timeout, at most: who refuses everybody would never find out that things are better again.
MOST = 0.4


class Margin:
    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._mean = self._deviation = self._seen = 0.0

    def saw(self, error_s: float) -> None:
        """An answer came, or was given up, so much later than expected."""
        self._fade()
        off = abs(error_s - self._mean) - self._deviation
        self._deviation += (RISE if off > 0 else FALL) * off
        self._mean += WEIGHT * (error_s - self._mean)

    def of(self, timeout_s: float) -> float:
        """In seconds, for a request with such a timeout."""
        self._fade()
        margin_s = self._mean + DEVIATIONS * self._deviation
        return min(max(0.0, margin_s), MOST * timeout_s)

    def _fade(self) -> None:
        now = self._clock()
        left = 0.5 ** ((now - self._seen) / HALF_LIFE_S)
        self._mean, self._deviation, self._seen = left * self._mean, left * self._deviation, now
