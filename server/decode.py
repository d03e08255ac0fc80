"""Photos -> crops, on a bounded pool of threads (Pillow lets go of the GIL while it decodes)."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from alexnet.preprocess import (
    ImageTooLarge,
    InvalidImage,
    Photo,
    UnsupportedFormat,
    preprocess,
)
from alexnet.spec import Preprocess
from server.errors import BadImage, TooLarge, UnsupportedImage


class Decoder:
    def __init__(self, spec: Preprocess, threads: int, max_pixels: int):
        self.threads = threads
        self._spec, self._max_pixels = spec, max_pixels
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    async def decode(self, image: bytes) -> Photo:
        """Raises BadImage, UnsupportedImage or TooLarge. Cancelled while waiting, it never runs."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._pool, preprocess, image, self._spec, self._max_pixels
            )
        except ImageTooLarge as error:
            raise TooLarge(str(error)) from None
        except UnsupportedFormat as error:
            raise UnsupportedImage(str(error)) from None
        except InvalidImage as error:
            raise BadImage(str(error)) from None

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
