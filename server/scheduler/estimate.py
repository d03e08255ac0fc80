"""When would an answer be ready? By what waits ahead, the cost model, and how fast it really goes.

An admitted job keeps its deadline: a later one of equal or lower priority that would overtake it is
refused if that made it late.
"""

import time
from collections.abc import Callable

from server.errors import WouldMiss
from server.scheduler.batcher import Batcher, BatchPolicy
from server.scheduler.costs import CostModel
from server.scheduler.decoder import Decoder, turn_of
from server.scheduler.gate import jittered
from server.scheduler.job import Job, Request

PACE_WEIGHT = 0.1
"""Of the latest batch, in the mean of those before it."""
MEAN_WEIGHT, RISE, FALL = 0.01, 0.03, 0.005
DEVIATIONS = 3
LARGEST_MARGIN = 0.4
"""Of the timeout: a server that refuses all would never find out that things are better again."""
PROBE_EVERY_S = 1.0
PROBE_TIMEOUT, PROBE_MEMORY_S = 0.9, 10.0
"""A probe has at least this part of the longest timeout that was refused lately: shorter ones have
the smaller chance."""


class Margin:
    """How much later than expected an answer may well be: what was seen lately.

    Mean and mean deviation of the errors, as in TCP's timer of retransmission (RFC 6298). The
    deviation rises faster than it falls: errors come in runs, as a slow moment delays all jobs.
    """

    def __init__(self) -> None:
        self._mean = self._deviation = 0.0

    def saw(self, error_s: float) -> None:
        """An answer came, or its deadline passed, so much later than expected."""
        off = abs(error_s - self._mean) - self._deviation
        self._deviation += (RISE if off > 0 else FALL) * off
        self._mean += MEAN_WEIGHT * (error_s - self._mean)

    def halve(self) -> None:
        """A probe was answered in time."""
        self._mean, self._deviation = self._mean / 2, self._deviation / 2

    def of(self, timeout_s: float) -> float:
        """The margin in seconds of a request with this timeout."""
        margin_s = self._mean + DEVIATIONS * self._deviation
        return min(max(0.0, margin_s), LARGEST_MARGIN * timeout_s)


class Probe:
    """Admits one request per second although the estimate says no: else a slow moment, or a
    calibration made in one, might refuse all for ever, as the cost model learns from work only.

    Of one priority. Times are those of the clock.
    """

    def __init__(self) -> None:
        self.refusing = False
        self._refusing_since = 0.0
        self._longest = self._longest_at = 0.0
        self._uploading_since = -PROBE_EVERY_S

    def admitted(self) -> None:
        """To be called when a job was admitted, as a probe or not."""
        self.refusing, self._longest = False, 0.0

    def due(self, timeout_s: float, now: float) -> bool:
        """Asked for every request that the estimate refuses: whether it is the probe."""
        if not self.refusing:
            self.refusing, self._refusing_since = True, now
        if timeout_s >= self._longest or now - self._longest_at > PROBE_MEMORY_S:
            self._longest, self._longest_at = timeout_s, now
        return (
            now - self._refusing_since > PROBE_EVERY_S
            and timeout_s >= PROBE_TIMEOUT * self._longest
        )

    def due_for_upload(self, timeout_s: float, now: float) -> bool:
        """`due`, before the upload: one at a time."""
        if not self.due(timeout_s, now) or now - self._uploading_since < PROBE_EVERY_S:
            return False
        self._uploading_since = now
        return True


class Estimate:
    """Of one version; decoders are shared with the others, the engines are its own."""

    def __init__(
        self,
        costs: CostModel,
        decoder: Decoder,
        batcher: Batcher,
        policy: BatchPolicy,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._costs, self._decoder, self._batcher, self._clock = costs, decoder, batcher, clock
        self._max_batch = policy.max_batch_size
        # Of each level: the lower ones wait for the higher, which need not know of it.
        self._margins = [Margin() for _ in range(policy.priority_levels)]
        self._probes = [Probe() for _ in range(policy.priority_levels)]
        self.pace = 1.0
        """Seconds that pass for each second of the cost model, while photos wait."""
        self._last_batch = 0.0
        self._was_busy = False

    def check(self, request: Request) -> None:
        """Before the upload. Raises WouldMiss when no photo of this request has a chance. With
        nothing else to do the photo itself is estimated, and that is enough."""
        timeout_s = request.deadline - request.start
        margin_s = self._margins[request.level - 1].of(timeout_s)
        busy = self._decoder.queue.jobs or self._batcher.queue.jobs or self._engine_free_at()
        if not busy and timeout_s > self._costs.least_s + margin_s:
            return
        decode_s = self._costs.decode_s(None)
        expected, _ = self._expected(request.level, request.deadline, decode_s, costly=False)
        latest = expected + margin_s
        probe = self._probes[request.level - 1]
        if latest > request.deadline and not probe.due_for_upload(timeout_s, self._clock()):
            raise self._too_late(request, latest, decode_s)

    def admit(self, job: Job) -> None:
        """Notes when the answer is expected.

        Raises WouldMiss when that is too late, or would make the answer of another job late.
        """
        now, probe = self._clock(), self._probes[job.level - 1]
        margin_s = self._margins[job.level - 1].of(job.deadline - now)
        job.expected, behind = self._expected(job.level, job.deadline, job.decode_s, job.costly)
        if job.expected + margin_s > job.deadline:
            timeout_s = job.deadline - job.request.start
            job.probe = job.deadline > now and probe.due(timeout_s, now)
            if not job.probe:
                raise self._too_late(job.request, job.expected + margin_s, job.decode_s)
        if behind:
            self._delay(behind, job)
        if probe.refusing:
            probe.admitted()

    def learn(self, job: Job, answered: bool) -> None:
        """Compares the answer, or the moment when the deadline passed, with what was expected."""
        now, margin = self._clock(), self._margins[job.level - 1]
        if not (answered or now >= job.deadline):
            return
        if not job.probe:
            margin.saw(now - job.expected)
        elif now <= job.deadline:
            margin.halve()

    def ran(self, jobs: list[Job]) -> None:
        """Compares with the clock: what passed between two batches while photos waited includes all
        that the cost model does not know, such as the event loop."""
        now = jobs[0].inferred
        if self._was_busy:
            decode_s = sum([job.decode_s for job in jobs]) / self._decoder.threads
            predicted = max(self._costs.infer_s(len(jobs)) / self._batcher.parallel, decode_s)
            ratio = min(max((now - self._last_batch) / predicted, 0.2), 5.0)
            self.pace += PACE_WEIGHT * (ratio - self.pace)
        self._last_batch = now
        self._was_busy = bool(self._decoder.soon or self._batcher.queue.jobs)

    def backlog_s(self) -> float:
        """How long until everything that waits now is answered."""
        decoding = self._decoder.queue.jobs.copy()
        decode_s = sum([job.decode_s for job in decoding]) / self._decoder.threads
        batches = -(-(len(decoding) + len(self._batcher.queue.jobs)) // self._max_batch)
        infer_s = batches * self._costs.infer_s(self._max_batch) / self._batcher.parallel
        return self.pace * max(decode_s, infer_s)

    def _expected(
        self, level: int, deadline: float, decode_s: float, costly: bool
    ) -> tuple[float, list[Job]]:
        """When such an answer would be ready, and the jobs that would wait longer for it."""
        costs, most = self._costs, self._max_batch
        now = self._clock()
        ahead, decoded = 0, decode_s
        behind: list[Job] = []
        if self._decoder.queue.jobs:
            decoding, behind = self._decoder.queue.around(level, turn_of(deadline, decode_s))
            decoded += self.pace * self._decoder.ahead_s(decoding, costly)
            ahead += len(decoding)
        if self._batcher.queue.jobs:
            queued, queued_behind = self._batcher.queue.around(level, deadline)
            behind = behind + queued_behind
            ahead += len(queued)
        free = max(0.0, self._engine_free_at() - now)
        full, rest = divmod(ahead, most)
        if full:
            free += self.pace * full * costs.infer_s(most) / self._batcher.parallel
        infer_s = costs.infer_s(min(most, rest + 1 + len(behind)))
        return now + max(decoded, free) + infer_s, behind

    def _engine_free_at(self) -> float:
        """When the first engine should be free; 0 when one is idle."""
        return min([engine.free_at for engine in self._batcher.engines])

    def _delay(self, behind: list[Job], newcomer: Job) -> None:
        """Raises WouldMiss when a job that is in time so far would not be."""
        most = self._max_batch
        infer_s = self._costs.infer_s(most) / most / self._batcher.parallel
        delay_s = self.pace * max(infer_s, newcomer.decode_s / self._decoder.threads)
        for job in behind:
            if job.costly > newcomer.costly:  # its promise must not shut the others out
                continue
            if (
                job.level <= newcomer.level
                and job.expected <= job.deadline < job.expected + delay_s
            ):
                raise WouldMiss(
                    "photos that were accepted before would be late: try again later",
                    retry_after_s=jittered(self.backlog_s()),
                )
        for job in behind:
            job.expected += delay_s

    def _too_late(self, request: Request, latest: float, decode_s: float) -> WouldMiss:
        timeout_ms = round((request.deadline - request.start) * 1000)
        least_s = decode_s + self._costs.infer_s(1)
        if request.start + least_s > request.deadline:
            return WouldMiss(
                f"such a photo takes about {least_s * 1000:.0f} ms here; the deadline was "
                f"{timeout_ms} ms"
            )
        return WouldMiss(
            f"an answer may take {(latest - request.start) * 1000:.0f} ms now; the deadline was "
            f"{timeout_ms} ms: try again later",
            retry_after_s=jittered(latest - request.deadline),
        )
