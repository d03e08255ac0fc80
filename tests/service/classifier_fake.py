"""A fake server whose photos spell out their own answers, and the command lines run as users do."""

import os
import pty
import subprocess
import sys
import termios
import time
from collections.abc import Callable

from alexnet_client.errors import ClassifyError
from alexnet_client.fake import FakeServer, Outcome
from alexnet_client.results import Classification, Image, ModelVersion, Prediction, Timing

LABELS = {"n01": "tabby cat", "n02": "Egyptian cat", "n03": "lynx"}


def telling() -> FakeServer:
    """The photo `n01 n02` gets these synsets with the probabilities 1/2, 1/4, ...; the photo
    `!NOT_FOUND no photo` fails with this code and message, `!INVALID_ARGUMENT:too_large so large`
    with this reason, too. Bytes after a NUL are padding."""
    return FakeServer(parse_answer)


def parse_answer(image: bytes) -> Outcome:
    text = image.split(b"\0")[0].decode()
    if text.startswith("!"):
        name, _, message = text[1:].partition(" ")
        code, _, reason = name.partition(":")
        return ClassifyError(code, message, reason)
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
    """The output on a terminal that is both stdout and stderr."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    with subprocess.Popen(
        command(module, *arguments), stdout=theirs, stderr=theirs, env={**os.environ, **environment}
    ):
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError:  # Linux raises it when the other end is closed
            pass
    os.close(ours)
    return seen.decode()
