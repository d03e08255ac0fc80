"""A TensorRT plan with what it was made of, and the folder where plans are kept.

Deserialising takes a plan at its word and may crash on one that is damaged or was built elsewhere.
So each is written behind a header that is checked first: a line of JSON, and the engine's sha256.
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

__all__ = ["MODULES", "Plan", "PlanError", "Recipe", "cached", "tensorrt"]

log = logging.getLogger(__name__)

MAGIC = b"alexnet plan 1"
# precision -> the first compute capability that has it; TensorRT itself begins at OLDEST
NEEDS, OLDEST = {"bf16": (8, 0), "fp8": (8, 9)}, (7, 5)


@dataclass(frozen=True)
class Recipe:
    """All that a plan is made of: if anything differs, it is another plan."""

    onnx: str
    """sha256 of the typed graph."""
    precision: str
    sizes: tuple[int, ...]
    tensorrt: str
    gpu: Gpu
    level: int = LEVEL
    workspace: int = WORKSPACE_BYTES

    @property
    def key(self) -> str:
        return sha256(json.dumps(asdict(self)).encode())

    def file(self, folder: Path) -> Path:
        return folder / f"{self.key}.plan"

    def profile(self, size: int) -> int:
        """The number of the optimisation profile for batches of `size`."""
        if size not in self.sizes:
            raise PlanError(f"the plan is for batches of {_listed(self.sizes)}, not of {size}")
        return self.sizes.index(size)

    @classmethod
    def of(cls, header: dict) -> "Recipe":
        gpu = header.pop("gpu")
        gpu["capability"] = tuple(gpu["capability"])
        return cls(**{**header, "sizes": tuple(header["sizes"])}, gpu=Gpu(**gpu))


@dataclass(frozen=True)
class Plan:
    recipe: Recipe
    engine: bytes
    """For `deserialize_cuda_engine`; its profiles are in the order of `recipe.sizes`."""

    def to_bytes(self) -> bytes:
        header = json.dumps({"sha256": sha256(self.engine), **asdict(self.recipe)})
        return b"\n".join((MAGIC, header.encode(), self.engine))

    @classmethod
    def read(cls, data: bytes, runs: str, gpu: Gpu) -> "Plan":
        """For that GPU under the TensorRT that `runs`; raises PlanError for any other."""
        try:
            magic, header, engine = data.split(b"\n", 2)
            facts = json.loads(header)
            intact = facts.pop("sha256") == sha256(engine)
            recipe = Recipe.of(facts)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise PlanError("this is no plan, or one that is cut off in its header") from None
        if magic != MAGIC or not intact:
            raise PlanError("the plan is damaged: its sha256 is not the one in its header")
        if recipe.tensorrt != runs:
            raise PlanError(f"the plan was built by {recipe.tensorrt}, and here is {runs}")
        if (recipe.gpu.name or gpu.name, recipe.gpu.capability) != (gpu.name, gpu.capability):
            raise PlanError(f"the plan was built for {recipe.gpu}, and here is {gpu}")
        return cls(recipe, engine)


def cached(
    onnx: bytes, precision: str, sizes: Sequence[int], gpu: Gpu, folder: Path | None, *,
    modules: Sequence[str] = MODULES, progress: Progress = log.info,
) -> Plan:  # fmt: skip
    """The plan of an exported graph, as kept in the folder, else built, which may take minutes.

    One that was built ahead for all GPUs of the capability serves too. `onnx`, `precision` as in
    gpu.typed. Raises ValueError: PlanError if it is TensorRT or the GPU that cannot do it.
    """
    if list(sizes) != sorted({size for size in sizes if size > 0}) or not sizes:
        raise PlanError(f"batch sizes must be positive and rising, not {_listed(sizes)}")
    major, minor = NEEDS.get(precision, OLDEST)
    if gpu.capability < (major, minor):
        raise PlanError(f"{precision} needs compute capability {major}.{minor}, and here is {gpu}")
    trt = tensorrt(modules)
    graph, runs = typed(onnx, precision), f"{trt.__name__} {trt.__version__}"
    recipe = Recipe(sha256(graph), precision, tuple(sizes), runs, gpu)
    ahead = replace(recipe, gpu=Gpu("", gpu.capability, ""))
    for known in dict.fromkeys((recipe, ahead)):
        if folder and (plan := _kept(known, gpu, folder)):
            return plan
    progress(f"building the {precision} plan for batches of {_listed(sizes)} on {gpu} with {runs}")
    start = time.monotonic()
    timings = folder / f"timings-{sha256(f'{runs} {gpu}'.encode())}" if folder else None
    engine, taken = build(
        trt, graph, sizes, capability=gpu.capability, exact=precision == "fp32",
        timings=timings.read_bytes() if timings and timings.exists() else b"", progress=progress,
    )  # fmt: skip
    plan = Plan(recipe, engine)
    progress(f"built {len(engine) / 1e6:.0f} MB in {time.monotonic() - start:.0f} s")
    if folder and timings:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(recipe.file(folder), plan.to_bytes())
            if taken:
                _write(timings, taken)
        except OSError as error:
            log.warning("the plan is not kept for the next start: %s", error)
    return plan


def _kept(recipe: Recipe, gpu: Gpu, folder: Path) -> Plan | None:
    file = recipe.file(folder)
    try:
        plan = Plan.read(file.read_bytes(), recipe.tensorrt, gpu)
        if plan.recipe != recipe:
            raise PlanError("the plan is that of something else")
    except FileNotFoundError:
        return None
    except (OSError, PlanError) as error:
        log.warning("%s cannot be used, and is built again: %s", file, error)
        return None
    log.info("the %s plan is %s", recipe.precision, file)
    return plan


def _write(file: Path, data: bytes) -> None:
    """All of it or nothing, whoever else writes it at the same time, and whenever power fails."""
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


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
