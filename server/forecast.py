"""When would an answer be ready? By what waits ahead, the cost model, and how fast it really goes.

Who is admitted has a promise: nobody who comes later and would go first may break it.
"""

import time
from random import uniform

from server.batcher import Batcher
from server.costmodel import CostModel
from server.decode import Decoder
from server.errors import WouldMiss
from server.job import Job

PACE_WEIGHT = 0.1
# How wrong a forecast may be: mean and mean deviation of the errors, as TCP does it for its timer
# of retransmission (RFC 6298). The deviation rises faster than it falls: errors come in runs, as a
# slow moment makes everybody late who waits.
ERROR_WEIGHT, RISE, FALL = 0.01, 0.03, 0.005
DEVIATIONS = 3
MOST_MARGIN = 0.4


class Forecast:
    """Of one version; decoders are shared with the others, the engine is its own."""

    def __init__(self, costs: CostModel, decoder: Decoder, batcher: Batcher, max_batch_size: int):
        self._costs, self._decoder, self._batcher = costs, decoder, batcher
        self._max_batch = max_batch_size
        self.pace = 1.0
        """Seconds that pass for each second of the cost model, while photos wait."""
        self._last = 0.0
        self._was_busy = False
        self._error = self._deviation = 0.0

    def settled(self, job: Job) -> None:
        """Compares the answer, or the moment when the caller gave up, with what was expected."""
        error = time.monotonic() - job.expected
        off = abs(error - self._error) - self._deviation
        self._deviation += (RISE if off > 0 else FALL) * off
        self._error += ERROR_WEIGHT * (error - self._error)

    def backlog_s(self) -> float:
        """How long until everything that waits now is answered."""
        waiting = len(self._decoder) + len(self._batcher)
        decode = len(self._decoder) * self._costs.decode_s(None) / self._decoder.threads
        batches = -(-waiting // self._max_batch)
        infer = batches * self._costs.infer_s(self._max_batch) / self._batcher.parallel
        return self.pace * max(decode, infer)

    def admit(self, job: Job) -> None:
        """Notes what the job costs and when its answer is expected.

        Raises WouldMiss when that would be too late, or would make somebody else's answer late.
        """
        job.decode_s = 0.0 if job.crop is not None else self._costs.decode_s(job.header)
        job.expected, after = self._expected(job.level, job.deadline, job.decode_s)
        if job.expected + self._margin_s(job.deadline - job.arrived) > job.deadline:
            raise self._too_late(job.arrived, job.deadline, job.expected, job.decode_s)
        if after:
            self._keep_promises(after, job.decode_s)

    def check(self, level: int, start: float, deadline: float) -> None:
        """Raises WouldMiss when a photo that is still to be uploaded would have no chance."""
        decode_s = self._costs.decode_s(None)
        expected, _ = self._expected(level, deadline, decode_s)
        if expected + self._margin_s(deadline - start) > deadline:
            raise self._too_late(start, deadline, expected, decode_s)

    def _expected(self, level: int, deadline: float, decode_s: float) -> tuple[float, list[Job]]:
        """When such an answer would be ready, and who would have to wait longer for it."""
        costs, most = self._costs, self._max_batch
        now = time.monotonic()
        decoding, decoding_after = self._decoder.around(level, deadline)
        queued, queued_after = self._batcher.around(level, deadline)
        after = decoding_after + queued_after
        full, rest = divmod(len(decoding) + len(queued), most)
        ahead_s = sum(job.decode_s for job in decoding) / self._decoder.threads
        decoded = self.pace * ahead_s + decode_s
        running = max(0.0, self._batcher.busy_until - now)
        free = running + self.pace * full * costs.infer_s(most) / self._batcher.parallel
        infer_s = costs.infer_s(min(most, rest + 1 + len(after)))
        return now + max(decoded, free) + infer_s, after

    def executed(self, jobs: list[Job]) -> None:
        """Compares with the clock: what passed between two batches while photos waited includes all
        that the cost model does not know, such as the faces."""
        now = jobs[0].inferred
        if self._was_busy:
            decode = sum(job.decode_s for job in jobs) / self._decoder.threads
            predicted = max(self._costs.infer_s(len(jobs)) / self._batcher.parallel, decode)
            ratio = min(max((now - self._last) / predicted, 0.2), 5.0)
            self.pace += PACE_WEIGHT * (ratio - self.pace)
        self._last, self._was_busy = now, len(self._decoder) + len(self._batcher) > 0

    def _margin_s(self, timeout_s: float) -> float:
        """How much later than expected an answer may well be. At most a part of the timeout: who
        refuses everybody would never find out that things are better again."""
        margin_s = self._error + DEVIATIONS * self._deviation
        return min(max(0.0, margin_s), MOST_MARGIN * timeout_s)

    def _too_late(
        self, start: float, deadline: float, expected: float, decode_s: float
    ) -> WouldMiss:
        timeout_ms = round((deadline - start) * 1000)
        least = decode_s + self._costs.infer_s(1)
        if start + least > deadline:
            return WouldMiss(
                f"such a photo takes about {least * 1000:.0f} ms here; the deadline was "
                f"{timeout_ms} ms"
            )
        return WouldMiss(
            f"an answer would take about {(expected - start) * 1000:.0f} ms now; the deadline was "
            f"{timeout_ms} ms: try again later",
            retry_after_s=jittered(expected + self._margin_s(deadline - start) - deadline),
        )

    def _keep_promises(self, after: list[Job], decode_s: float) -> None:
        most = self._max_batch
        infer_s = self._costs.infer_s(most) / most / self._batcher.parallel
        share = max(infer_s, decode_s / self._decoder.threads)
        delay = self.pace * share
        if any(job.expected + delay > job.deadline for job in after):
            raise WouldMiss(
                "photos that were accepted before would be late: try again later",
                retry_after_s=jittered(self.backlog_s()),
            )
        for job in after:
            job.expected += delay


def jittered(seconds: float) -> float:
    """Half to one and a half of it, so that those who were refused do not all come back at once."""
    return max(0.01, seconds) * uniform(0.5, 1.5)
