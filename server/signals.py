"""SIGTERM and SIGINT: the first asks to stop, a second ends the process. SIGHUP asks to read again
what may change without a restart. systemd is told."""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

STOP = signal.SIGTERM, signal.SIGINT


def stop_event() -> asyncio.Event:
    """Set by the first of them; to be called on the loop of the main thread."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        log.info("%s: finishing what was accepted; once more to stop at once", number.name)
        tell_systemd("STOPPING=1")
        stop.set()
        for again in STOP:
            loop.remove_signal_handler(again)
            signal.signal(again, signal.SIG_DFL)

    for number in STOP:
        loop.add_signal_handler(number, on_signal, number)
    return stop


def on_hangup(reload: Callable[[], Awaitable[None]]) -> None:
    """Calls it for every SIGHUP, one after the other; several that come meanwhile are one."""
    wanted, loop = asyncio.Event(), asyncio.get_running_loop()

    async def reloading() -> None:
        while await wanted.wait():
            wanted.clear()
            log.info("SIGHUP: reading certificates, keys and versions again")
            tell_systemd(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                await reload()
            except Exception:
                log.exception("a bug kept something from being read again")
            tell_systemd("READY=1")

    loop.add_signal_handler(signal.SIGHUP, wanted.set)
    _tasks.add(loop.create_task(reloading(), name="SIGHUP"))  # or it would be garbage


_tasks: set[asyncio.Task[None]] = set()


def tell_systemd(state: str) -> None:
    """`READY=1` or `STOPPING=1`, where a unit of Type=notify started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(state.encode(), f"\0{address[1:]}" if address[0] == "@" else address)
    except OSError as error:
        log.warning("systemd could not be told %s: %s", state, error)
