"""The cost model of a version: measured at start, and kept from one start to the next."""

import hashlib
import logging
import os
from pathlib import Path

from alexnet.preprocess import preprocess
from gpu.buckets import BucketEngine
from server.engines.model import Model
from server.engines.runtimes import versions
from server.scheduler import cpus
from server.scheduler.costs import CostModel

log = logging.getLogger(__name__)


def calibrated(model: Model, max_batch_size: int, folder: Path | None) -> CostModel:
    """From the file of an earlier start on such a machine, else measured: five seconds at most."""
    spec = model.bundle.manifest.preprocess
    file = folder / f"costmodel-{_key(model, max_batch_size)}.json" if folder else None
    if file:
        try:
            costs = CostModel.from_json(file.read_text(encoding="utf-8"))
            if costs.max_batch_size == max_batch_size:
                return costs
            log.warning("%s is for batches up to %d: it is ignored", file, costs.max_batch_size)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.warning("%s cannot be used, the cost model is measured again: %s", file, error)
    costs = CostModel.measure(
        model.engine.run, model.bundle.golden.crops, max_batch_size, lambda b: preprocess(b, spec)
    )
    if file:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(costs.to_json(), encoding="utf-8")
            temporary.replace(file)
        except OSError as error:
            log.warning("the cost model is not kept for the next start: %s", error)
    return costs


def _key(model: Model, max_batch_size: int) -> str:
    """Everything that its figures depend on."""
    engine = model.engine
    gpu = engine.gpu if isinstance(engine, BucketEngine) else ""
    facts = (
        model.artifact.sha256, model.precision, engine.name, engine.threads, gpu, versions(),
        max_batch_size, model.bundle.manifest.preprocess, cpus.name(), cpus.available(),
    )  # fmt: skip
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
