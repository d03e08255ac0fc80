"""A model: opened, warmed up and proven before it gets a request."""

import logging
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alexnet.bundle import Bundle
from alexnet.golden import Golden
from alexnet.kinds import Kinds
from alexnet.manifest import Artifact, BundleError
from alexnet.spec import batch_sizes
from server.engines.activation import Activation
from server.engines.base import Engine, LooksInside
from server.engines.choice import Wanted, choose, open_engines

log = logging.getLogger(__name__)

LONG_S = 0.015


@dataclass(frozen=True)
class Model:
    """A bundle, the artifact chosen from it, and the engines that run it."""

    bundle: Bundle
    artifact: Artifact
    precision: str
    """Of the arithmetic; on a GPU it may be another than the artifact's."""
    engines: tuple[Engine, ...]
    """All of a kind, one for each device."""
    called: str = ""
    """By callers; empty: as the bundle is."""

    @cached_property
    def engine(self) -> Engine:
        return self.engines[0]

    @cached_property
    def name(self) -> str:
        return self.called or self.bundle.manifest.model.name

    @cached_property
    def build(self) -> str:
        """Which weights these are."""
        return self.bundle.manifest.model.version

    @cached_property
    def kinds(self) -> Kinds:
        return Kinds(self.bundle.labels)

    @property
    def activation(self) -> Activation | None:
        """Where the evidence for a class lies; None where the engine or the graph cannot tell."""
        return self.engine.activation if isinstance(self.engine, LooksInside) else None

    @cached_property
    def classes(self) -> int:
        return self.bundle.manifest.model.classes


def open_model(bundle: Bundle, wanted: Wanted, gently: bool = False) -> Model:
    """Opens the engines, checks the golden batch and warms every power of two up to the largest
    batch; `gently` rests between runs and leaves out those that would hold up other versions.

    Raises BundleError, also when an engine computes something else.
    """
    choice = choose(bundle, wanted)
    engines: tuple[Engine, ...] = ()
    try:
        engines = open_engines(bundle, choice, wanted)
        for engine in engines:
            _prove(engine, bundle.golden, choice.tolerance, wanted.max_batch_size, gently)
    except Exception as error:  # each runtime has its own, without a common base
        for engine in engines:
            engine.close()
        said = " ".join(str(error).split())  # ONNX Runtime ends some with an empty line
        raise BundleError(f"{bundle.origin}, {choice.artifact.file}: {said}") from error
    return Model(bundle, choice.artifact, choice.precision, engines)


def _prove(
    engine: Engine, golden: Golden, tolerance: float, max_batch_size: int, gently: bool
) -> None:
    start = time.monotonic()
    parts = range(0, len(golden.crops), max_batch_size)
    logits = [engine.run(golden.crops[i : i + max_batch_size]) for i in parts]
    difference = golden.check(np.concatenate(logits), tolerance)
    for size in batch_sizes(max_batch_size):
        began = time.monotonic()
        engine.run(np.resize(golden.crops, (size, *golden.crops.shape[1:])))
        took = time.monotonic() - began
        if gently and took > LONG_S:
            break
        if gently:
            time.sleep(3 * took)
    log.info(
        "golden batch passed on %s: within %.4f of training (%.4f allowed); warm in %.1f s",
        engine.name,
        difference,
        tolerance,
        time.monotonic() - start,
    )
