"""Runs of training for tests."""

import os
import signal
from collections.abc import Iterator, Sequence

from training.loader import Order
from training.loop import Training


class Interrupted(Training):
    """Gets a real SIGINT while step `at` is prepared; never, if that is negative."""

    at = 0

    def _orders(self, epoch: int) -> Iterator[Sequence[Order]]:
        for orders in super()._orders(epoch):
            if self.state.step == self.at:
                os.kill(os.getpid(), signal.SIGINT)
            yield orders
