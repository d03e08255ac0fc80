"""A model: opened, warmed up and proven before anyone may ask it."""

import logging
import time
from dataclasses import dataclass

import numpy as np

from alexnet.bundle import Bundle
from alexnet.manifest import Artifact, BundleError
from server.costmodel import batch_sizes
from server.engines import choose, open_engine
from server.engines.base import Engine

log = logging.getLogger(__name__)


LONG_S = 0.015


@dataclass(frozen=True)
class Model:
    """A bundle, the artifact chosen from it, and the engine that runs it."""

    bundle: Bundle
    artifact: Artifact
    engine: Engine

    @property
    def name(self) -> str:
        return self.bundle.manifest.model.name

    @property
    def version(self) -> str:
        return self.bundle.manifest.model.version

    @property
    def classes(self) -> int:
        return self.bundle.manifest.model.classes


def load(
    bundle: Bundle, precision: str, threads: int, max_batch_size: int, gently: bool = False
) -> Model:
    """Opens the engine, checks the golden batch and warms every power of two up to the largest
    batch; `gently` rests between runs and leaves out those that would hold up who is being served.

    Raises BundleError, also when the engine computes something else.
    """
    artifact = choose(bundle, precision)
    golden = bundle.golden
    start = time.monotonic()
    try:
        engine = open_engine(bundle, artifact, threads)
        difference = golden.check(engine.run(golden.crops), artifact.tolerance)
    except Exception as error:  # each runtime has its own, without a common base
        raise BundleError(f"{bundle.origin}, {artifact.file}: {error}") from error
    for size in batch_sizes(max_batch_size):
        began = time.monotonic()
        engine.run(np.resize(golden.crops, (size, *golden.crops.shape[1:])))
        took = time.monotonic() - began
        if gently and took > LONG_S:
            break
        if gently:
            time.sleep(3 * took)
    log.info(
        "golden batch passed: within %.4f of training (%.4f allowed); warm in %.1f s",
        difference,
        artifact.tolerance,
        time.monotonic() - start,
    )
    return Model(bundle, artifact, engine)
