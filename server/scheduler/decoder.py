"""Photos -> crops, on a bounded pool of threads (Pillow lets go of the GIL while it decodes)."""

import logging
import threading
import time

from alexnet.preprocess import ImageTooLarge, InvalidImage, UnsupportedFormat, preprocess
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
from server.scheduler.queue import FairQueue

log = logging.getLogger(__name__)

_REFUSALS: dict[type[Exception], type[ServeError]] = {
    ImageTooLarge: TooLarge,
    UnsupportedFormat: UnsupportedImage,
    InvalidImage: BadImage,
}


class Decoder:
    """Takes jobs in the order of the queue and hands each on, decoded, to its version."""

    def __init__(self, threads: int, max_pixels: int, priority_levels: int):
        self.threads, self.max_pixels = threads, max_pixels
        self.queue = FairQueue(priority_levels)
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"decode-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """On a thread of the pool the job's version gets `decoded(job)`, or the job fails with
        BadImage, UnsupportedImage, TooLarge, Expired or WouldMiss."""
        with self.queue.changed:
            self.queue.push(job)
            self.queue.changed.notify()

    def close(self) -> None:
        """Ends after the photos under way; those that wait get NotReady."""
        with self.queue.changed:
            self._closed = True
            left = self.queue.clear()
            self.queue.changed.notify_all()
        for job in left:
            job.fail(NotReady("the server stopped before the photo was decoded"))
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        cpus.yield_to_others(cpus.DECODER)
        while True:
            with self.queue.changed:
                while not self.queue.jobs and not self._closed:
                    self.queue.changed.wait()
                if self._closed:
                    return
                job = self.queue.pop()
            try:
                self._decode(job)
            except ServeError as error:
                job.fail(error)
            except Exception:
                log.exception("a bug answered a photo with 'internal error'")
                job.fail(ServeError())
            del job  # an idle thread holds no photo

    def _decode(self, job: Job) -> None:
        if job.settled:
            return
        job.decode_started = time.monotonic()
        if job.decode_started > job.deadline:
            raise Expired("the deadline passed while waiting for a decoder")
        if job.decode_started + job.decode_s > job.deadline and not job.probe:
            raise WouldMiss("the deadline is too near for the photo to be decoded in time")
        try:
            spec = job.request.version.model.bundle.manifest.preprocess
            job.photo = preprocess(job.image, spec, self.max_pixels, job.header)
        except (ImageTooLarge, UnsupportedFormat, InvalidImage) as error:
            raise _REFUSALS[type(error)](str(error)) from None
        job.crop, job.image = job.photo.crop, b""
        job.decoded = time.monotonic()
        job.request.version.decoded(job)
