"""SIGTERM and SIGINT: the first asks to stop, a second ends the process at once."""

import asyncio
import logging
import signal

log = logging.getLogger(__name__)

STOP = signal.SIGTERM, signal.SIGINT


def stop_event() -> asyncio.Event:
    """Set by the first of them; to be called on the loop of the main thread."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        log.info("%s: finishing what was accepted; once more to stop at once", number.name)
        stop.set()
        for again in STOP:
            loop.remove_signal_handler(again)
            signal.signal(again, signal.SIG_DFL)

    for number in STOP:
        loop.add_signal_handler(number, on_signal, number)
    return stop
