"""Photos -> crops, on a bounded pool of threads (Pillow lets go of the GIL while it decodes)."""

import logging
import threading
import time
from collections.abc import Callable

from alexnet.header import Header
from alexnet.preprocess import (
    ImageTooLarge,
    InvalidImage,
    UnsupportedFormat,
    check_pixels,
    preprocess,
)
from alexnet.spec import Preprocess
from server.errors import BadImage, Expired, TooLarge, UnsupportedImage, WouldMiss
from server.scheduler import cpus
from server.scheduler.job import Job
from server.scheduler.queue import FairQueue
from server.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

Forward = Callable[[Job], None]


class Decoder:
    """Takes jobs in the order of the queue and hands each on, decoded."""

    def __init__(self, threads: int, max_pixels: int, priority_levels: int, metrics: Metrics):
        self.threads = threads
        self._max_pixels, self._metrics = max_pixels, metrics
        self._waiting = FairQueue(priority_levels)
        self._next: dict[Job, tuple[Preprocess, Forward]] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"decode-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        """Photos waiting for a thread."""
        return len(self._waiting)

    def submit(self, job: Job, spec: Preprocess, forward: Forward) -> None:
        """Calls `forward(job)` on a thread of the pool once `job.photo` is there.

        BadImage, UnsupportedImage, TooLarge, Expired or WouldMiss come to `job.answer` instead.
        """
        with self._lock:
            self._waiting.push(job)
            self._next[job] = spec, forward
            self._changed.notify()

    def check(self, header: Header) -> None:
        """Raises TooLarge for more pixels than are accepted."""
        try:
            check_pixels(header.width, header.height, self._max_pixels)
        except ImageTooLarge as error:
            raise TooLarge(str(error)) from None

    def remove(self, job: Job) -> bool:
        """Takes the job out of the queue; False when it is not, or no longer, in it."""
        with self._lock:
            self._next.pop(job, None)
            return self._waiting.remove(job)

    def around(self, level: int, deadline: float) -> tuple[list[Job], list[Job]]:
        with self._lock:
            return self._waiting.around(level, deadline)

    def close(self) -> None:
        """Ends after the photos under way; who waits then is cancelled."""
        with self._lock:
            self._closed = True
            left = [self._waiting.pop() for _ in range(len(self._waiting))]
            self._changed.notify_all()
        for job in left:
            job.loop.call_soon_threadsafe(job.answer.cancel)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        cpus.yield_to_others(cpus.DECODER)
        while True:
            with self._lock:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self._waiting.pop()
                spec, forward = self._next.pop(job)
            if job.answer.done():
                self._metrics.left(job.deadline)
                continue
            try:
                self._decode(job, spec)
                forward(job)
            except Exception as error:  # whoever waits answers, and logs what is a bug
                job.fail(error)
            del job, forward  # an idle thread holds no photo

    def _decode(self, job: Job, spec: Preprocess) -> None:
        job.decode_started = time.monotonic()
        late = job.decode_started > job.deadline
        if late or (job.decode_started + job.decode_s > job.deadline and not job.trial):
            error = (
                Expired("the deadline passed while waiting for a decoder")
                if late
                else WouldMiss("the deadline is too near for the photo to be decoded in time")
            )
            self._metrics.dropped.labels(error.reason).inc()
            raise error
        try:
            job.photo = preprocess(job.image, spec, self._max_pixels)
        except ImageTooLarge as error:
            raise TooLarge(str(error)) from None
        except UnsupportedFormat as error:
            raise UnsupportedImage(str(error)) from None
        except InvalidImage as error:
            raise BadImage(str(error)) from None
        job.crop = job.photo.crop
        job.image = b""
        job.decoded = time.monotonic()
