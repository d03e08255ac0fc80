"""Which runtime, artifact and precision, for the machine at hand; said in the log.

`auto` takes the first of RUNTIMES that is installed, on a GPU if the driver shows one.
"""

import logging
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from alexnet.bundle import Bundle, BundleError
from alexnet.extras import installing
from alexnet.manifest import Artifact
from alexnet.spec import INPUT_NAME
from gpu import present
from server.engines.base import Engine
from server.engines.graph import check_graph
from server.engines.runtimes import NVIDIA, RUNTIMES, Runtime, version_of

log = logging.getLogger(__name__)


# How much further from the trained network's probabilities the narrower arithmetic of a GPU may
# be than the artifact it is made from. Not run on a GPU: by the widths of the mantissas.
LOSS = {"fp32": 0.002, "fp16": 0.01, "int8": 0.02, "bf16": 0.04, "fp8": 0.1}


@dataclass(frozen=True)
class Wanted:
    """What the operator asked for."""

    engine: str = "auto"
    precision: str = "auto"
    devices: tuple[int, ...] = ()
    """GPUs by CUDA's numbers; none: the first."""
    threads: int = 1
    max_batch_size: int = 1
    cache_dir: Path | None = None


@dataclass(frozen=True)
class Choice:
    runtime: Runtime
    artifact: Artifact
    precision: str
    devices: tuple[int, ...]
    """Empty on the CPU."""
    rivals: tuple[str, ...] = ()
    """Runtimes that are used in its place where they turn out to be faster."""

    @property
    def tolerance(self) -> float:
        """How far any probability of the golden batch may be from the trained network's."""
        return self.artifact.tolerance + (LOSS[self.precision] if self.runtime.on_gpu else 0)


def choose(
    bundle: Bundle,
    wanted: Wanted,
    gpus: int | None = None,
    installed: Collection[str] | None = None,
) -> Choice:
    """`gpus` are counted and `installed` packages looked up unless given. Raises BundleError that
    says what the bundle, or the machine, lacks."""
    gpus = present.count() if gpus is None else gpus
    if installed is None:
        packages = NVIDIA.union(*(r.packages for r in RUNTIMES))
        installed = [package for package in packages if _is_here(package)]
    here = [r for r in RUNTIMES if r.is_among(installed)]
    if wanted.engine == "auto":
        usable = [r for r in here if gpus or wanted.devices or not r.on_gpu]
    else:
        usable = [r for r in here if r.name == wanted.engine]
        if not usable:
            (named,) = (r for r in RUNTIMES if r.name == wanted.engine)
            first = [
                f"pip uninstall {p}, which knows no GPU; " for p in named.packages if _for_cpus(p)
            ]
            raise BundleError(
                f"the engine {named.name} needs what is not installed here: "
                + "".join([*first, installing(named.extra)])
            )
    artifacts = {a.precision: a for a in bundle.manifest.artifacts if a.runtime == "onnxruntime"}
    for runtime in usable:
        source = bundle.manifest.source if runtime.on_gpu else artifacts.get
        for precision in runtime.precisions:
            if wanted.precision in ("auto", precision):
                artifact = source(precision)
                if artifact:
                    devices = _devices(runtime, wanted, gpus)
                    rivals = _rivals(runtime, usable, precision)
                    choice = Choice(runtime, artifact, precision, devices, rivals)
                    _tell(wanted, gpus, choice)
                    return choice
    names = " or ".join(r.name for r in usable) or "any engine that is installed"
    what = "no artifact" if wanted.precision == "auto" else f"nothing to run in {wanted.precision}"
    raise BundleError(
        f"{bundle.origin} has {what} for {names}; "
        f"it has {', '.join(sorted(artifacts)) or 'none at all'}"
    )


def _is_here(package: str) -> bool:
    """By the package's name: ONNX Runtime for GPUs is the same module as that for CPUs."""
    return bool(version_of(package)) and not _for_cpus(package)


def _for_cpus(package: str) -> bool:
    """It is a build, of torch, that knows no GPU."""
    return version_of(package).endswith("+cpu")


def _devices(runtime: Runtime, wanted: Wanted, gpus: int) -> tuple[int, ...]:
    if not runtime.on_gpu:
        if wanted.devices:
            raise BundleError(
                f"--devices names GPUs, and {runtime.name} runs on the CPU: choose another --engine"
            )
        return ()
    devices = wanted.devices or (0,)
    if missing := [str(d) for d in devices if d >= gpus]:
        raise BundleError(f"there is no GPU {', '.join(missing)}: the driver shows {gpus}")
    return devices


def _rivals(runtime: Runtime, usable: Sequence[Runtime], precision: str) -> tuple[str, ...]:
    """Other runtimes of the CPU: which of them is fast depends on the processor."""
    if runtime.on_gpu:
        return ()
    others = usable[usable.index(runtime) + 1 :]
    return tuple(r.name for r in others if not r.on_gpu and precision in r.precisions)


def _tell(wanted: Wanted, gpus: int, choice: Choice) -> None:
    devices = choice.devices
    where = f" on GPU {', '.join(map(str, devices))}" if devices else ""
    why = "as asked" if wanted.engine != "auto" else f"{gpus} GPU{'s' * (gpus != 1)} here"
    log.info(
        "engine %s%s in %s from %s (%s)", " or ".join([choice.runtime.name, *choice.rivals]), where,
        choice.precision, choice.artifact.file, why,
    )  # fmt: skip
    if gpus and not devices and wanted.engine == "auto":
        log.warning(
            "a GPU is here and not used: nothing that runs on it is installed, or none of it knows "
            "%s; %s", wanted.precision, installing("server-tensorrt"),
        )  # fmt: skip


def open_engines(bundle: Bundle, choice: Choice, wanted: Wanted) -> tuple[Engine, ...]:
    """One for each device. Loads the runtime, and only now; each has its own errors."""
    onnx = bundle.files[choice.artifact.file]
    check_graph(onnx)
    if not choice.runtime.on_gpu:
        from server.engines.on_cpu import open_on_cpu

        names = (choice.runtime.name, *choice.rivals)
        engine = open_on_cpu(
            names, onnx, bundle, choice.precision, choice.tolerance, wanted.threads,
            wanted.max_batch_size,
        )  # fmt: skip
        return (engine,)
    from gpu.open import open_on_gpu

    side, classes = bundle.manifest.preprocess.crop, bundle.manifest.model.classes
    assert bundle.manifest.input.name == INPUT_NAME
    engines: list[Engine] = []
    with ExitStack() as opened:
        for number in choice.devices:
            engine = open_on_gpu(
                choice.runtime.name, onnx, choice.precision, number,
                wanted.max_batch_size, side, classes, wanted.cache_dir,
            )  # fmt: skip
            engines.append(engine)
            opened.callback(engine.close)
        opened.pop_all()  # all are there: nothing to undo
    return tuple(engines)
