"""An engine that the test controls, and a server in this process around it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.bundle import Bundle, sha256
from alexnet.golden import Golden
from alexnet.labels import Label, Labels
from alexnet.manifest import Artifact, File, Manifest, ModelName, Provenance, Tensor
from alexnet.spec import Preprocess
from server.app import Server, serving
from server.config import Config
from server.engines.base import Pending
from server.engines.model import Model
from server.models.repository import Open
from server.models.sources import Source
from server.scheduler.batcher import BatchPolicy
from server.scheduler.costs import CostModel
from server.scheduler.decoder import Decoder
from server.scheduler.pipeline import Pipeline
from server.service import Service
from server.telemetry.metrics import Metrics
from tests.photos import encode

SIDE, CLASSES = 8, 10


def flat(value: int) -> bytes:
    """A PNG of one grey, which FakeEngine sees as `value` and names `value // 25`."""
    return encode(Image.new("L", (SIDE, SIDE), value), "PNG")


class FakeEngine:
    """The class it names is the crop's mean brightness over 25: black is 0, white is 9.

    `gate` holds every batch until it is set; `fail` makes every run raise.
    """

    name, threads, on_cpu, depth = "fake", 1, False, 1

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.fail = False
        self.batches: list[list[int]] = []

    def begin(self, crops: Sequence[NDArray[np.uint8]]) -> Pending:
        return lambda: self.run(np.stack(crops))

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        values = crops.reshape(len(crops), -1).mean(1)
        self.batches.append([round(v) for v in values.tolist()])
        self.started.set()
        assert self.gate.wait(10), "the test never opened the gate"
        if self.fail:
            raise RuntimeError("a secret of the engine")
        logits = np.zeros((len(crops), CLASSES), np.float32)
        logits[np.arange(len(crops)), np.minimum(values // 25, CLASSES - 1).astype(int)] = 9
        return logits

    def close(self) -> None:
        self.gate.set()


GRAPH = b"\x12\x04fake"
"""Of a model that was made by `fake`: no runtime can run it, and there is nothing against it."""


def tiny_bundle() -> Bundle:
    """Ten classes, 8 px crops, and an artifact that only FakeEngine can run."""
    labels = Labels(tuple(Label(f"s{i}", f"class {i}, number {i}") for i in range(CLASSES)))
    golden = Golden(np.zeros((1, SIDE, SIDE, 3), np.uint8), np.zeros((1, CLASSES), np.float32))
    files = {
        "labels.tsv": labels.to_tsv().encode(),
        "golden.npz": golden.to_bytes(),
        "card.md": b"# tiny\n",
        "model.fake": GRAPH,
    }
    entry = {name: File(name, sha256(data)) for name, data in files.items()}
    artifact = Artifact("model.fake", sha256(GRAPH), "onnxruntime", "int8", {}, 0.01, 1.0, None)
    manifest = Manifest(
        format=1,
        model=ModelName("tiny", "1", CLASSES, CLASSES, "Ten shades of grey."),
        preprocess=Preprocess(SIDE, SIDE),
        input=Tensor("images", "uint8", ("batch", SIDE, SIDE, 3)),
        output=Tensor("logits", "float32", ("batch", CLASSES)),
        artifacts=(artifact,),
        labels=entry["labels.tsv"],
        golden=entry["golden.npz"],
        card=entry["card.md"],
        provenance=Provenance("none", "none", "none", 0, 0.0, "never"),
    )
    return Bundle(manifest, files, "tiny")


def flat_costs(infer_ms: float = 1.0, decode_ms: float = 1.0) -> CostModel:
    """Every batch and every decode costs the same."""
    return CostModel({1: infer_ms, 64: infer_ms}, {"JPEG": (decode_ms, 0.0)})


def believe(pipeline: Pipeline, costs: CostModel) -> None:
    """Gives this version another cost model."""
    for holder in (pipeline.batcher, pipeline.estimate):
        vars(holder)["_costs"] = costs
    pipeline.costs = costs


@dataclass(frozen=True)
class Fake:
    """A whole server around a FakeEngine, on free ports of the loopback."""

    engine: FakeEngine
    server: Server

    @property
    def service(self) -> Service:
        return self.server.service

    @property
    def pipeline(self) -> Pipeline:
        return self.service.repository.served[-1]

    @property
    def _scheme(self) -> str:
        return "https" if self.server.door.certificates else "http"

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.server.http.port}"

    @property
    def private_url(self) -> str:
        """The port of metrics and probes."""
        return f"{self._scheme}://127.0.0.1:{self.server.private.port}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.server.grpc.port}"

    def count(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        return sum(
            sample.value
            for family in self.server.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def until_in_flight(self, count: int) -> None:
        """Waits until exactly this many requests are admitted and unanswered."""
        async with asyncio.timeout(5):
            while self.count("alexnet_requests_in_flight") != count:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def faking(
    max_batch_size: int = 4,
    max_queue_size: int = 64,
    max_request_bytes: int = 1 << 20,
    max_photo_bytes: int = 1 << 30,
    request_timeout_s: float = 5.0,
    priority_levels: int = 1,
    repository_control: str = "off",
    cache_bytes: int = 0,
    access_log: str = "errors",
    **more: Any,
) -> AsyncIterator[Fake]:
    engine = FakeEngine()
    bundle = tiny_bundle()

    def make_open(config: Config, policy: BatchPolicy, decoder: Decoder, metrics: Metrics) -> Open:
        async def open_version(source: Source, serving: list[Pipeline]) -> Pipeline:
            model = Model(bundle, bundle.manifest.artifacts[0], "int8", (engine,))
            return Pipeline(source.version, model, flat_costs(), decoder, policy, metrics)

        return open_version

    config = Config(
        model=__file__,  # any path that exists and is a file is a version
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        decode_threads=2,
        max_image_pixels=1_000_000,
        max_batch_size=max_batch_size,
        max_queue_size=max_queue_size,
        max_request_bytes=max_request_bytes,
        max_photo_bytes=max_photo_bytes,
        request_timeout_ms=round(request_timeout_s * 1000),
        priority_levels=priority_levels,
        repository_control=repository_control,
        cache_bytes=cache_bytes,
        access_log=access_log,
        drain_timeout_s=0,
        **more,
    )
    async with serving(config, make_open=make_open) as server:
        try:
            yield Fake(engine, server)
        finally:
            engine.gate.set()
