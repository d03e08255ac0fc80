"""A server without a model, and the commands that ask it, as people run them."""

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock

import grpc

from protos.classifier_pb2 import (
    ClassifyRequest,
    ClassifyResponse,
    Image,
    ModelVersion,
    Prediction,
    Timing,
)
from protos.classifier_pb2_grpc import ClassifierServicer, add_ClassifierServicer_to_server

MAX_MESSAGE_BYTES = 64 << 20
LABELS = {"n01": "tabby cat", "n02": "Egyptian cat", "n03": "lynx"}


class FakeClassifier(ClassifierServicer):
    """A photo says what its answer is to be.

    `n01 n02` is answered with these synsets, of probability 1/2, 1/4, ...; `!NOT_FOUND no photo`
    fails so. What follows a NUL does not count.
    """

    address = ""

    def __init__(self) -> None:
        self.gate = Event()
        """Calls wait for it; it is open unless a test closes it."""
        self.gate.set()
        self.fail_next: list[grpc.StatusCode] = []
        self.requests: list[ClassifyRequest] = []
        self.most_at_once = 0
        self.waiting = Event()
        """A call is at the gate."""
        self._at_once = 0
        self._lock = Lock()

    def Classify(  # noqa: N802 - the name is the wire's
        self, request: ClassifyRequest, context: grpc.ServicerContext
    ) -> ClassifyResponse:
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            code = self.fail_next.pop(0) if self.fail_next else None
        self.waiting.set()
        self.gate.wait(20)
        with self._lock:
            self._at_once -= 1
        if code:
            context.abort(code, "as planned")
        return _answer(request, context)


def _answer(request: ClassifyRequest, context: grpc.ServicerContext) -> ClassifyResponse:
    text = request.image.split(b"\0")[0].decode()
    if text.startswith("!"):
        code, _, message = text[1:].partition(" ")
        context.abort(grpc.StatusCode[code], message)
    return ClassifyResponse(
        predictions=[
            Prediction(
                index=i, synset=synset, label=LABELS.get(synset, synset), probability=0.5 ** (i + 1)
            )
            for i, synset in enumerate(text.split()[: request.top_k or 5])
        ],
        model=ModelVersion(name="fake", version="7"),
        image=Image(format="JPEG", width=640, height=480, mode="RGB", orientation=1),
        timing=Timing(decode_ms=1, queue_ms=2, infer_ms=3, total_ms=len(text), batch_size=1),
        request_id=request.request_id or "made-up",
    )


@contextmanager
def serving(port: int = 0, max_message_bytes: int = MAX_MESSAGE_BYTES) -> Iterator[FakeClassifier]:
    fake = FakeClassifier()
    server = grpc.server(
        ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", max_message_bytes)]
    )
    add_ClassifierServicer_to_server(fake, server)
    fake.address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield fake
    finally:
        fake.gate.set()
        server.stop(None).wait()


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
