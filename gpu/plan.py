"""A TensorRT plan with its key, and the folder where plans are cached.

Deserialising does not validate a plan, and may crash if it is damaged or was built elsewhere. So
each is stored behind a header that is checked first: a line of JSON with the engine's sha256.
"""

import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from alexnet.bundle import sha256
from gpu.builder import LEVEL, MODULES, WORKSPACE_BYTES, PlanError, Progress, build, tensorrt
from gpu.facts import Gpu
from gpu.typed import typed

__all__ = ["MODULES", "Plan", "PlanError", "PlanKey", "cached", "tensorrt"]

log = logging.getLogger(__name__)

MAGIC = b"alexnet plan 2"
"""Another one where the builder is set up in another way: no plan from before is taken."""
# precision -> the first compute capability that has it; TensorRT itself begins at OLDEST
NEEDS, OLDEST = {"bf16": (8, 0), "fp8": (8, 9)}, (7, 5)


@dataclass(frozen=True)
class PlanKey:
    """Everything that determines a plan."""

    onnx: str
    """sha256 of the typed graph."""
    precision: str
    sizes: tuple[int, ...]
    tensorrt: str
    gpu: Gpu
    level: int = LEVEL
    workspace: int = WORKSPACE_BYTES

    @property
    def digest(self) -> str:
        return sha256(MAGIC + json.dumps(asdict(self)).encode())

    def file(self, folder: Path) -> Path:
        return folder / f"{self.digest}.plan"

    def profile(self, size: int) -> int:
        """The number of the optimisation profile for batches of `size`."""
        if size not in self.sizes:
            raise PlanError(f"the plan is for batches of {_join(self.sizes)}, not of {size}")
        return self.sizes.index(size)

    @classmethod
    def from_header(cls, header: dict) -> "PlanKey":
        gpu = header.pop("gpu")
        gpu["capability"] = tuple(gpu["capability"])
        return cls(**{**header, "sizes": tuple(header["sizes"])}, gpu=Gpu(**gpu))


@dataclass(frozen=True)
class Plan:
    key: PlanKey
    engine: bytes
    """For `deserialize_cuda_engine`; its profiles are in the order of `key.sizes`."""

    def to_bytes(self) -> bytes:
        header = json.dumps({"sha256": sha256(self.engine), **asdict(self.key)})
        return b"\n".join((MAGIC, header.encode(), self.engine))

    @classmethod
    def read(cls, data: bytes, runs: str, gpu: Gpu) -> "Plan":
        """Raises PlanError unless the plan is for this GPU and the TensorRT that `runs`."""
        try:
            magic, header, engine = data.split(b"\n", 2)
            facts = json.loads(header)
            intact = facts.pop("sha256") == sha256(engine)
            key = PlanKey.from_header(facts)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise PlanError("this is no plan, or one that is cut off in its header") from None
        if magic != MAGIC or not intact:
            raise PlanError("the plan is damaged: its sha256 is not the one in its header")
        if key.tensorrt != runs:
            raise PlanError(f"the plan was built by {key.tensorrt}, and here is {runs}")
        if (key.gpu.name or gpu.name, key.gpu.capability) != (gpu.name, gpu.capability):
            raise PlanError(f"the plan was built for {key.gpu}, and here is {gpu}")
        return cls(key, engine)


def cached(
    onnx: bytes, precision: str, sizes: Sequence[int], gpu: Gpu, folder: Path | None, *,
    modules: Sequence[str] = MODULES, progress: Progress = log.info,
) -> Plan:  # fmt: skip
    """The plan of an exported graph: from `folder`, or else built, which may take minutes.

    A cached plan for all GPUs of the capability is used, too. `onnx` and `precision` are as in
    gpu.typed. Raises ValueError; PlanError if TensorRT or the GPU cannot build it.
    """
    if list(sizes) != sorted({size for size in sizes if size > 0}) or not sizes:
        raise PlanError(f"batch sizes must be positive and rising, not {_join(sizes)}")
    major, minor = NEEDS.get(precision, OLDEST)
    if gpu.capability < (major, minor):
        raise PlanError(f"{precision} needs compute capability {major}.{minor}, and here is {gpu}")
    trt = tensorrt(modules)
    graph, runs = typed(onnx, precision), f"{trt.__name__} {trt.__version__}"
    key = PlanKey(sha256(graph), precision, tuple(sizes), runs, gpu)
    ahead = replace(key, gpu=Gpu("", gpu.capability, ""))
    for candidate in dict.fromkeys((key, ahead)):
        if folder and (plan := _read_cached(candidate, gpu, folder)):
            return plan
    progress(f"building the {precision} plan for batches of {_join(sizes)} on {gpu} with {runs}")
    start = time.monotonic()
    timings = folder / f"timings-{sha256(f'{runs} {gpu}'.encode())}" if folder else None
    engine, taken = build(
        trt, graph, sizes, capability=gpu.capability, exact=precision == "fp32",
        timings=timings.read_bytes() if timings and timings.exists() else b"", progress=progress,
    )  # fmt: skip
    plan = Plan(key, engine)
    progress(f"built {len(engine) / 1e6:.0f} MB in {time.monotonic() - start:.0f} s")
    if folder and timings:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(key.file(folder), plan.to_bytes())
            if taken:
                _write(timings, taken)
        except OSError as error:
            log.warning("the plan is not kept for the next start: %s", error)
    return plan


def _read_cached(key: PlanKey, gpu: Gpu, folder: Path) -> Plan | None:
    file = key.file(folder)
    try:
        plan = Plan.read(file.read_bytes(), key.tensorrt, gpu)
        if plan.key != key:
            raise PlanError("the plan is that of something else")
    except FileNotFoundError:
        return None
    except (OSError, PlanError) as error:
        log.warning("%s cannot be used, and is built again: %s", file, error)
        return None
    log.info("the %s plan is %s", key.precision, file)
    return plan


def _write(file: Path, data: bytes) -> None:
    """Writes the file atomically, also against other processes and loss of power."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(handle)
        temporary.chmod(0o644)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _join(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
