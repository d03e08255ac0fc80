"""When would an answer be ready? By what waits ahead, the cost model, and how fast it really goes.

Who is admitted has a promise: nobody of the same or a lower priority who comes later and would go
first may break it.
"""

import time
from random import uniform

from server.errors import WouldMiss
from server.scheduler.batcher import Batcher, BatchPolicy
from server.scheduler.costs import CostModel
from server.scheduler.decoder import Decoder
from server.scheduler.job import Job
from server.scheduler.margin import Margin
from server.scheduler.trial import Trial

PACE_WEIGHT = 0.1


class Forecast:
    """Of one version; decoders are shared with the others, the engine is its own."""

    def __init__(self, costs: CostModel, decoder: Decoder, batcher: Batcher, policy: BatchPolicy):
        self._costs, self._decoder, self._batcher = costs, decoder, batcher
        self._max_batch = policy.max_batch_size
        # Of each level: the lower ones wait for the higher, which need not know of it.
        self._margins = [Margin() for _ in range(policy.priority_levels)]
        self._trials = [Trial() for _ in range(policy.priority_levels)]
        self.pace = 1.0
        """Seconds that pass for each second of the cost model, while photos wait."""
        self._last = 0.0
        self._was_busy = False

    def settled(self, job: Job) -> None:
        """Compares the answer, or the moment when the caller gave up, with what was expected."""
        now, margin = time.monotonic(), self._margins[job.level - 1]
        if not job.trial:
            margin.saw(now - job.expected)
        elif now <= job.deadline:
            margin.halve()

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
        now, trial = time.monotonic(), self._trials[job.level - 1]
        latest = job.expected + self._margins[job.level - 1].of(job.deadline - job.arrived)
        if latest > job.deadline:
            job.trial = job.deadline > now and trial.due(job.deadline - job.start, now)
            if not job.trial:
                raise self._too_late(job.start, job.deadline, latest, job.decode_s)
        if after:
            self._keep_promises(job, after)
        trial.admitted()

    def check(self, level: int, start: float, deadline: float) -> None:
        """Raises WouldMiss when a photo that is still to be uploaded would have no chance."""
        decode_s = self._costs.decode_s(None)
        expected, _ = self._expected(level, deadline, decode_s)
        latest = expected + self._margins[level - 1].of(deadline - start)
        passes = self._trials[level - 1].passes
        if latest > deadline and not passes(deadline - start, time.monotonic()):
            raise self._too_late(start, deadline, latest, decode_s)

    def _expected(self, level: int, deadline: float, decode_s: float) -> tuple[float, list[Job]]:
        """When such an answer would be ready, and who would have to wait longer for it."""
        costs, most = self._costs, self._max_batch
        now = time.monotonic()
        decoding, decoding_after = self._decoder.around(level, deadline)
        queued, queued_after = self._batcher.around(level, deadline)
        after = decoding_after + queued_after
        full, rest = divmod(len(decoding) + len(queued), most)
        ahead_s = sum([job.decode_s for job in decoding]) / self._decoder.threads
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

    def _too_late(self, start: float, deadline: float, latest: float, decode_s: float) -> WouldMiss:
        timeout_ms = round((deadline - start) * 1000)
        least = decode_s + self._costs.infer_s(1)
        if start + least > deadline:
            return WouldMiss(
                f"such a photo takes about {least * 1000:.0f} ms here; the deadline was "
                f"{timeout_ms} ms"
            )
        return WouldMiss(
            f"an answer may take {(latest - start) * 1000:.0f} ms now; the deadline was "
            f"{timeout_ms} ms: try again later",
            retry_after_s=jittered(latest - deadline),
        )

    def _keep_promises(self, newcomer: Job, after: list[Job]) -> None:
        most = self._max_batch
        infer_s = self._costs.infer_s(most) / most / self._batcher.parallel
        share = max(infer_s, newcomer.decode_s / self._decoder.threads)
        delay = self.pace * share
        ours = (j for j in after if j.level <= newcomer.level)
        if any(j.expected <= j.deadline < j.expected + delay for j in ours):  # and not broken yet
            raise WouldMiss(
                "photos that were accepted before would be late: try again later",
                retry_after_s=jittered(self.backlog_s()),
            )
        for job in after:
            job.expected += delay


def jittered(seconds: float) -> float:
    """Half to one and a half of it, so that those who were refused do not all come back at once."""
    return max(0.01, seconds) * uniform(0.5, 1.5)
