"""How much later than expected an answer may well be: what was seen lately.

Mean and mean deviation of the errors, as TCP does it for its timer of retransmission (RFC 6298).
The deviation rises faster than it falls: errors come in runs, as a slow moment makes everybody late
who waits.
"""

WEIGHT, RISE, FALL = 0.01, 0.03, 0.005
DEVIATIONS = 3
# Of the timeout, at most: who refuses everybody would never find out that things are better again.
MOST = 0.4


class Margin:
    def __init__(self) -> None:
        self._mean = self._deviation = 0.0

    def saw(self, error_s: float) -> None:
        """An answer came, or was given up, so much later than expected."""
        off = abs(error_s - self._mean) - self._deviation
        self._deviation += (RISE if off > 0 else FALL) * off
        self._mean += WEIGHT * (error_s - self._mean)

    def halve(self) -> None:
        """Somebody who would have been refused was answered in time."""
        self._mean, self._deviation = self._mean / 2, self._deviation / 2

    def of(self, timeout_s: float) -> float:
        """In seconds, for a request with such a timeout."""
        margin_s = self._mean + DEVIATIONS * self._deviation
        return min(max(0.0, margin_s), MOST * timeout_s)
