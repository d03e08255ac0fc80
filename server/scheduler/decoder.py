"""Photos -> crops, on a bounded pool of threads (Pillow lets go of the GIL while it decodes).

A decode is not interrupted for another, so that a few photos of 64 megapixels would hold every
thread for seconds. One thread is kept for the others, and within a priority a photo goes behind
those that come soon after it and cost less (docs/adr/0031-costly-photos.md).
"""

import logging
import threading
import time
from collections.abc import Sequence

from alexnet.preprocess import ImageTooLarge, InvalidImage, UnsupportedFormat, preprocess
from alexnet.source import OutOfTime
from alexnet.ten_views import of_the_square
from server.errors import (
    BadImage,
    Expired,
    NotReady,
    ServeError,
    TooLarge,
    UnsupportedImage,
    WouldMiss,
)
from server.scheduler import cpus
from server.scheduler.job import Job
from server.scheduler.lane import Lane
from server.scheduler.queue import FairQueue

log = logging.getLogger(__name__)

_REFUSALS: dict[type[Exception], type[ServeError]] = {
    ImageTooLarge: TooLarge,
    UnsupportedFormat: UnsupportedImage,
    InvalidImage: BadImage,
}


_IDLE_ENDS_S = 0.5
"""Added to the timeout of `close`, in which threads that decode nothing end in any case."""
COSTLY_S = 0.1
"""Of one thread, on a quiet machine: what is priced higher is costly. A photo of 12 megapixels as a
JPEG takes 0.07."""
YIELD = 4
"""Times its price: so much later than it did, a photo counts as having come."""
KEPT_S = 10.0
"""After the last photo that is not costly: until then a thread is kept for the next one."""

LOOK_S = 0.1
"""Between looks for room that nothing tells of."""


def turn_of(deadline: float, decode_s: float) -> float:
    """Shortest first, and the longer ones age: nothing that comes after their turn goes before."""
    return deadline + YIELD * decode_s


def turn(job: Job) -> float:
    return turn_of(job.deadline, job.decode_s)


class Decoder:
    """Takes jobs in the order of the queue and hands each on, decoded, to its version."""

    def __init__(
        self,
        threads: int,
        max_pixels: int,
        priority_levels: int,
        max_bytes: int = 1 << 30,
        lane: Lane | None = None,
    ):
        """`max_bytes`: of all that is being decoded at once. Costly photos leave an eighth of that
        to the others; one that needs more goes through the `lane`, where there are workers."""
        self.threads, self.max_pixels, self.max_bytes = threads, max_pixels, max_bytes
        self._lane = lane
        self.queue = FairQueue(priority_levels, turn)
        self.soon: set[Job] = set()
        """Those of the queue that are not costly."""
        self._closed = False
        self._running: set[Job] = set()
        self._kept_until = time.monotonic() + KEPT_S
        self._threads = [
            threading.Thread(target=self._serve, name=f"decode-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def check_room(self, decoding_bytes: int) -> None:
        """Raises TooLarge."""
        most = self._lane.most_bytes if self._lane else self.most_bytes
        if decoding_bytes > most:
            raise TooLarge(
                f"decoding the image would take {decoding_bytes:,} bytes of memory; at most "
                f"{most:,} are given to one: send it smaller"
            )

    def submit(self, job: Job) -> None:
        """On a thread of the pool the job's version gets `decoded(job)`, or the job fails with
        BadImage, UnsupportedImage, TooLarge, Expired or WouldMiss."""
        with self.queue.changed:
            self.queue.push(job)
            if not job.costly:
                self.soon.add(job)
                self._kept_until = time.monotonic() + KEPT_S
            self.queue.changed.notify_all()

    def remove(self, job: Job) -> None:
        """It need not be decoded any more."""
        self.queue.remove(job)
        self.soon.discard(job)

    def ahead_s(self, jobs: Sequence[Job], costly: bool) -> float:
        """How long a photo waits for those of the queue that go before it."""
        alike = sum([job.decode_s for job in jobs if job.costly == costly])
        if costly:
            return max(
                alike / self._most_costly, sum([job.decode_s for job in jobs]) / self.threads
            )
        busy = len(self.soon) < len(self.queue.jobs) or any(
            job.costly for job in self._running.copy()
        )
        return alike / max(1, self.threads - busy * self._most_costly)

    def close(self, timeout_s: float = 30.0) -> None:
        """Ends after the photos under way, or without those that take longer; what waits gets
        NotReady."""
        with self.queue.changed:
            self._closed = True
            left = self.queue.clear()
            self.soon.clear()
            self.queue.changed.notify_all()
        for job in left:
            job.fail(NotReady("the server stopped before the photo was decoded"))
        end = time.monotonic() + timeout_s + _IDLE_ENDS_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            log.warning("stopped while a photo was still being decoded")

    def _serve(self) -> None:
        cpus.yield_to_others(cpus.DECODER)
        while job := self._next():
            try:
                self._decode(job)
            except ServeError as error:
                self._fail(job, error)
            except Exception:
                log.exception("a bug answered a photo with 'internal error'")
                self._fail(job, ServeError())
            finally:
                with self.queue.changed:
                    self._running.remove(job)
                    if self._lane and self._is_large(job):
                        self._lane.leave()
                    self.queue.changed.notify_all()
            del job  # an idle thread holds no photo

    def _next(self) -> Job | None:
        """With a thread and room to decode it; None when closed."""
        with self.queue.changed:
            while not self._closed:
                if job := self._take():
                    return job
                # Every decode here ends, and tells; nothing tells that no thread is kept any more,
                # or that another worker has left the lane.
                self.queue.changed.wait(LOOK_S if self.queue.jobs else None)
        return None

    def _take(self) -> Job | None:
        """The next in order that may be decoded now. Of what is costly, and of what is not, the
        first waits for its room, and those behind it wait, too: none is passed over for ever."""
        waits: set[bool] = set()

        def fits(job: Job) -> bool:
            if job.costly in waits or not self._has_room(job):
                waits.add(job.costly)
                return False
            return True

        try:
            job = self.queue.pop(fits)
        except IndexError:
            return None
        self.soon.discard(job)
        self._running.add(job)
        return job

    def _has_room(self, job: Job) -> bool:
        running, most = list(self._running), self.max_bytes
        if job.costly:
            running, most = [each for each in running if each.costly], self.most_bytes
            if len(running) >= self._most_costly:
                return False
        if running:  # what goes through the lane leaves the others their eighth, too
            sizes = [min(each.decoding_bytes, self.most_bytes) for each in running]
            return sum(sizes) + job.decoding_bytes <= most
        return not (self._lane and self._is_large(job)) or self._lane.enter()

    def _is_large(self, job: Job) -> bool:
        return job.decoding_bytes > self.most_bytes

    @property
    def most_bytes(self) -> int:
        """Of one photo, and of all that are costly."""
        return self.max_bytes - self.max_bytes // 8

    @property
    def _most_costly(self) -> int:
        """Threads that may decode costly photos at once."""
        kept = self.threads > 1 and time.monotonic() < self._kept_until
        return self.threads - kept

    def _fail(self, job: Job, error: ServeError) -> None:
        if not self._closed:  # else the event loop may have gone
            job.fail(error)

    def _decode(self, job: Job) -> None:
        if job.settled:
            return
        job.decode_started = time.monotonic()
        if job.decode_started > job.deadline:
            raise Expired("the deadline passed while waiting for a decoder")
        if job.decode_started + job.decode_s > job.deadline and not job.probe:
            raise WouldMiss("the deadline is too near for the photo to be decoded in time")

        def over() -> bool:
            return job.settled or self._closed or time.monotonic() > job.deadline

        try:
            spec = job.request.version.model.bundle.manifest.preprocess
            if job.square:
                spec = of_the_square(spec)
            job.photo = preprocess(job.image, spec, self.max_pixels, job.header, over)
        except OutOfTime:
            raise Expired("the deadline passed while the photo was decoded") from None
        except (ImageTooLarge, UnsupportedFormat, InvalidImage) as error:
            raise _REFUSALS[type(error)](str(error)) from None
        if self._closed:  # the server stops; what would take it has gone
            return
        job.crop, job.image = job.photo.crop, b""
        job.decoded = time.monotonic()
        job.request.version.decoded(job)
