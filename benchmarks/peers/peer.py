"""A server to compare with: how it is installed, started and asked, and where its answer stands."""

import json
import struct
import sys
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVERS = Path(__file__).parent / "servers"
BOUNDARY = "alexnet-photo"
JPEG, FORM, JSON = "image/jpeg", f"multipart/form-data; boundary={BOUNDARY}", "application/json"


def plain(photo: bytes) -> bytes:
    return photo


def form(field: str) -> Callable[[bytes], bytes]:
    """The photo as a file of a form, as `curl -F field=@photo.jpg` sends it."""
    head = (
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{field}"; filename="photo.jpg"\r\n'
        "content-type: image/jpeg\r\n\r\n"
    )
    return lambda photo: head.encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()


def base64_tensor(photo: bytes) -> bytes:
    """A request of the Open Inference Protocol, whose JSON has no other place for bytes."""
    data = b64encode(photo).decode()
    tensor = {"name": "photo", "datatype": "BYTES", "shape": [1, 1], "data": [data]}
    return json.dumps({"inputs": [tensor]}).encode()


def at(*path: str | int) -> Callable[[bytes], str]:
    """What stands there in an answer of JSON."""

    def first(answer: bytes) -> str:
        found: Any = json.loads(answer)
        for step in path:
            found = found[step]
        return str(found)

    return first


def first_of_binary(answer: bytes) -> str:
    """Of the Open Inference Protocol's JSON with tensors behind it; the labels come first."""
    _, end = json.JSONDecoder().raw_decode(answer.decode("latin-1"))
    (length,) = struct.unpack_from("<I", answer, end)
    return answer[end + 4 : end + 4 + length].decode()


first_label = at(0, "label")


@dataclass(frozen=True)
class Peer:
    name: str
    """Of its folder in servers/, and of its environment."""
    title: str
    start: str
    """For a shell, in its folder; PORT, MODEL, CORES, PRECISION and WORK are set."""
    deployed: str
    """What its server file does, in a few words."""
    path: str
    first: Callable[[bytes], str] = first_label
    """The best class, of an answer."""
    body: Callable[[bytes], bytes] = plain
    content_type: str = JPEG
    headers: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()
    """Commands that must be here."""
    pausable: bool = True
    """Whether it answers again after it was stopped for some seconds: PyTriton's proxies do not."""

    @property
    def folder(self) -> Path:
        return SERVERS / self.name


OURS = Peer(
    "ours",
    "ours",
    f"exec {sys.executable} -m server --http-port $PORT --grpc-port 0 --metrics-port 0 "
    "--model $BUNDLE --precision $PRECISION --log-level warning",
    "the server as it starts by default",
    "/v1/classify",
    at("predictions", 0, "label"),
)

PEERS = (
    Peer(
        "mosec",
        "mosec",
        "exec python server.py --address 127.0.0.1 --port $PORT --timeout 60000",
        "a process a core decodes; one runs the network, batches of 16, 10 ms",
        "/inference",
    ),
    Peer(
        "litserve",
        "LitServe",
        "exec python server.py",
        "a worker a core, batches of 8, 10 ms",
        "/predict",
        body=form("request"),
        content_type=FORM,
    ),
    Peer(
        "bentoml",
        "BentoML",
        "exec bentoml serve service:Classifier --host 127.0.0.1 --port $PORT",
        "a worker a core, adaptive batches of 16",
        "/classify",
        at(0, 0, "label"),
        form("photos"),
        FORM,
    ),
    Peer(
        "triton",
        "Triton (PyTriton)",
        "exec python server.py",
        "an instance a core, dynamic batches of 16",
        "/v2/models/alexnet/infer",
        first_of_binary,
        headers=(("Inference-Header-Content-Length", "0"),),
        pausable=False,
    ),
    Peer(
        "ray", "Ray Serve", "exec python server.py", "a replica a core, batches of 16, 10 ms", "/"
    ),
    Peer(
        "mlserver",
        "MLServer",
        "MLSERVER_HTTP_PORT=$PORT MLSERVER_GRPC_PORT=$((PORT + 1)) "
        "MLSERVER_METRICS_PORT=$((PORT + 2)) MLSERVER_PARALLEL_WORKERS=$CORES "
        "exec mlserver start .",
        "a worker a core, adaptive batches of 16, 10 ms",
        "/v2/models/alexnet/infer",
        lambda answer: first_label(at("outputs", 0, "data", 0)(answer).encode()),
        base64_tensor,
        JSON,
    ),
    Peer(
        "torchserve",
        "TorchServe",
        "exec sh start.sh",
        "a worker a core, batches of 16, 10 ms",
        "/predictions/alexnet",
        needs=("java",),
    ),
)
