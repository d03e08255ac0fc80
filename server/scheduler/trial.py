"""Who is tried though he should be refused: else a slow moment, or a calibration that was made in
one, might refuse everybody for ever, as the cost model learns from nothing but work."""

EVERY_S = 1.0
# Who asked for less time than another who was refused lately has the smaller chance.
SERIOUS, LATELY_S = 0.9, 10.0


class Trial:
    """Of one priority. Times are of time.monotonic."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._longest = self._longest_at = 0.0
        self._passed = -EVERY_S

    def admitted(self) -> None:
        """Somebody was, for a trial or not."""
        self._since, self._longest = None, 0.0

    def due(self, timeout_s: float, now: float) -> bool:
        """To be asked of everybody who is refused: whether he is the one."""
        if self._since is None:
            self._since = now
        if timeout_s >= self._longest or now - self._longest_at > LATELY_S:
            self._longest, self._longest_at = timeout_s, now
        return now - self._since > EVERY_S and timeout_s >= SERIOUS * self._longest

    def passes(self, timeout_s: float, now: float) -> bool:
        """`due`, before the upload: one at a time."""
        if not self.due(timeout_s, now) or now - self._passed < EVERY_S:
            return False
        self._passed = now
        return True
