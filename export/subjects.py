"""The subjects of an evaluation: checkpoints, bundles, teachers and running servers, with one
interface."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from threading import local
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from alexnet.bundle import MANIFEST, Bundle
from alexnet.labels import Label, Labels
from alexnet.postprocess import softmax
from alexnet.preprocess import InvalidImage, preprocess
from alexnet.spec import Preprocess
from alexnet.ten_views import cut_ten_views, of_the_square
from training.evaluate import Outputs, Predict, infer_all

BATCH = 64
PREFERENCE = ("int8", "fp32")  # as in the server

TIMEOUT_S = 60.0
PAUSES_S = (0.2, 1.0, 5.0)
# Statuses of docs/operations.md: the photo is rejected; a retry may succeed.
_REJECTED = (400, 413, 415)
_RETRYABLE = (429, 503, 504)
# A picture of one pixel: the answer to any photo lists the classes of a server.
_PIXEL = bytes.fromhex(
    "424d3a0000000000000036000000280000000100000001000000010018000000"
    "0000040000000000000000000000000000000000000000000000"
)


class SubjectError(ValueError):
    """The subject cannot be scored; the message says why."""


@dataclass(frozen=True)
class Subject:
    """Photos in, probabilities out: `predict` takes a stack of what `read` returned."""

    name: str
    """As given on the command line."""
    model: str
    labels: Labels
    read: Callable[[bytes], NDArray[Any]]
    """Takes the bytes of one photo; thread-safe. Raises InvalidImage."""
    predict: Callable[[NDArray[Any]], Outputs]
    """(N, classes) probabilities."""
    close: Callable[[], None] = lambda: None


def open_subject(
    name: str, views: int = 1, *, class_order: Path | None = None, mean: Path | None = None
) -> Subject:
    """`name` is `http://host:8000`, a teacher (`.onnx`), a bundle (with `:int8` or `:fp32` behind
    it, else the first of these that it has), or weights: only they take `class_order` and `mean`.

    Raises SubjectError, BundleError or CheckpointError.
    """
    if name.startswith(("http://", "https://")):
        if views != 1:
            raise SubjectError(
                f"{name} shows its network one view of a photo and takes no others: "
                f"score {views} views of the bundle or the checkpoint that it serves"
            )
        return RestServer(name).subject()
    path, precision = _path_and_precision(name)
    if path.name.endswith(".tar.xz") or (path / MANIFEST).is_file():
        return _bundle(name, path, precision, views)
    if path.suffix == ".onnx":
        return _teacher(name, path, views)
    if precision:
        raise SubjectError(f"{path} is no bundle, so there is no {precision} to choose")
    return _weights(name, views, class_order, mean)


def _path_and_precision(name: str) -> tuple[Path, str]:
    path, colon, precision = name.rpartition(":")
    return (Path(path), precision) if colon and not Path(name).exists() else (Path(name), "")


def _bundle(name: str, path: Path, precision: str, views: int) -> Subject:
    from export.parity import predictor  # imported here: not needed to score a server

    bundle = Bundle.open(path)
    manifest = bundle.manifest
    usable = {a.precision: a for a in manifest.artifacts if a.runtime == "onnxruntime"}
    wanted = (precision,) if precision else PREFERENCE
    chosen = next((usable[p] for p in wanted if p in usable), None)
    if chosen is None:
        raise SubjectError(
            f"{path} has no {' or '.join(wanted)} artifact for ONNX Runtime; "
            f"it has {', '.join(sorted(usable)) or 'none at all'}"
        )
    model = f"{manifest.model.name} {manifest.model.version} {chosen.precision}"
    predict = predictor(bundle.files[chosen.file])
    return _local(name, model, bundle.labels, predict, manifest.preprocess, views)


def _teacher(name: str, path: Path, views: int) -> Subject:
    from training.teacher import Teacher

    teacher = Teacher(path)
    spec = teacher.description.preprocess
    return _photos(name, f"teacher {teacher.name}", teacher.labels, teacher, spec, views)


def _weights(name: str, views: int, class_order: Path | None, mean: Path | None) -> Subject:
    import torch

    from training.importers import load_model

    model = load_model(Path(name), class_order, mean=mean)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = model.deployable.to(device)

    def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(crops).to(device)).cpu().numpy()

    text = f"{model.network.arch} {model.sha256[:7]} fp32"
    return _local(name, text, model.labels, predict, model.preprocess, views)


def _local(
    name: str, model: str, labels: Labels, network: Predict, spec: Preprocess, views: int
) -> Subject:
    """`network` answers with logits."""
    return _photos(name, model, labels, lambda crops: softmax(network(crops)), spec, views)


def _photos(
    name: str, model: str, labels: Labels, network: Predict, spec: Preprocess, views: int
) -> Subject:
    """`network` answers with probabilities."""
    seen = spec if views == 1 else of_the_square(spec)

    def read(data: bytes) -> NDArray[np.uint8]:
        return preprocess(data, seen).crop

    def predict(photos: NDArray[np.uint8]) -> Outputs:
        if views == 1:
            return network(photos)
        crops = cut_ten_views(photos, spec.crop).reshape(-1, spec.crop, spec.crop, 3)
        return infer_all(network, crops, BATCH).reshape(len(photos), views, -1).mean(1)

    return Subject(name, model, labels, read, predict)


class RestServer:
    """A client of a server's REST API, with one connection per thread."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._url, self._host, self._root = url, parts.netloc, parts.path.rstrip("/")
        self._connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._per_thread = local()
        self._connections: list[HTTPConnection] = []

    def subject(self) -> Subject:
        """Raises SubjectError, also if another program answers at the address."""
        try:
            model = self._ask("GET", "/v1/models", retry=False)["models"][-1]
            classify = f"/v1/classify?top_k={model['classes']}&version={model['version']}"
            answer = self._ask("POST", classify, _PIXEL, retry=False)
            served = answer["model"]
            rows = sorted(answer["predictions"], key=lambda p: p["index"])
            labels = Labels(tuple(Label(p["synset"], p["label"]) for p in rows))
            text = f"{model['name']} {model['build']} {model['precision']}"
        except (KeyError, IndexError, TypeError, InvalidImage) as error:
            raise SubjectError(f"{self._url} is no AlexNet server: {error!r}") from None
        finally:
            self.close()  # the connection of this thread, which sends no more requests

        def read(data: bytes) -> NDArray[np.float64]:
            answer = self._ask("POST", classify, data)
            if answer["model"] != served:
                now, before = (f"{m['name']} {m['build']}" for m in (answer["model"], served))
                raise SubjectError(f"{self._url} serves {now} now, {before} before")
            return _row(answer["predictions"])

        return Subject(self._url, text, labels, read, lambda rows: rows, self.close)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _ask(self, method: str, path: str, body: bytes | None = None, *, retry: bool = True) -> Any:
        """The answer's JSON. Raises InvalidImage if the photo is rejected, and SubjectError without
        an answer; retries after PAUSES_S if `retry`."""
        pauses = list(PAUSES_S if retry else ())
        while True:
            try:
                status, data = self._exchange(method, path, body)
            except (OSError, HTTPException) as error:
                again, problem = True, str(error) or type(error).__name__
            else:
                answer = _json(data)
                if status == 200 and answer is not None:
                    return answer
                again, problem = status in _RETRYABLE, _problem(status, answer)
                if status in _REJECTED:
                    raise InvalidImage(problem)
            if not (again and pauses):
                raise SubjectError(f"no answer from {self._url}: {problem}")
            time.sleep(pauses.pop(0))

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        if not hasattr(self._per_thread, "connection"):
            self._per_thread.connection = self._connection(self._host, timeout=TIMEOUT_S)
            self._connections.append(self._per_thread.connection)
        connection: HTTPConnection = self._per_thread.connection
        try:
            if connection.sock is None:
                connection.connect()
            # The server answers a photo that is too large before it has received all of it.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self._root + path, body)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException):
            connection.close()  # the next photo needs a connection in a clean state
            raise


def _row(ranked: list[dict[str, Any]]) -> NDArray[np.float64]:
    """(classes,): probabilities by index.

    A server rounds them to six digits. A tiny offset per rank keeps its order of classes that are
    equal after rounding.
    """
    row = np.zeros(len(ranked))
    for place, prediction in enumerate(ranked):
        row[prediction["index"]] = prediction["probability"] + 1e-10 * (len(ranked) - place)
    return row


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _problem(status: int, answer: Any) -> str:
    try:
        return str(answer["error"]["message"])
    except (KeyError, TypeError):
        return f"status {status} and no JSON that an AlexNet server sends"
