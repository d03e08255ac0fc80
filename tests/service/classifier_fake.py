"""Photos that say what their answer is to be, and the commands that ask, as people run them."""

import os
import pty
import subprocess
import sys
import termios
import time
from collections.abc import Callable

from clients.errors import ClassifyError
from clients.fake import FakeServer, Outcome
from clients.results import Classification, Image, ModelVersion, Prediction, Timing

LABELS = {"n01": "tabby cat", "n02": "Egyptian cat", "n03": "lynx"}


def telling() -> FakeServer:
    """`n01 n02` is answered with these synsets, of probability 1/2, 1/4, ...; `!NOT_FOUND no photo`
    fails so. What follows a NUL does not count."""
    return FakeServer(told)


def told(image: bytes) -> Outcome:
    text = image.split(b"\0")[0].decode()
    if text.startswith("!"):
        code, _, message = text[1:].partition(" ")
        return ClassifyError(code, message)
    return Classification(
        predictions=tuple(
            Prediction(i, synset, LABELS.get(synset, synset), 0.5 ** (i + 1))
            for i, synset in enumerate(text.split())
        ),
        model=ModelVersion("fake", "7", ""),
        image=Image("JPEG", 640, 480, "RGB", 1),
        timing=Timing(1, 2, 3, len(text), 1),
        request_id="",
    )


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-W", "error", "-m", module, *map(str, arguments)]


def run(
    module: str, *arguments: object, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(module, *arguments),
        input=stdin,
        capture_output=True,
        timeout=30,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def on_terminal(module: str, *arguments: object, **environment: str) -> str:
    """What a terminal that is both stdout and stderr gets to see."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    with subprocess.Popen(
        command(module, *arguments),
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **environment},
    ):
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError:  # how Linux says that the other side is closed
            pass
    os.close(ours)
    return seen.decode()
