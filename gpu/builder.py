"""TensorRT's builder: a typed ONNX graph -> an engine with a profile for each batch size.

Written for TensorRT 11, which takes all types from the graph; the same code runs on TensorRT 10 and
on TensorRT for RTX, which builds without a GPU and has no timing cache.
"""

import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from alexnet.spec import INPUT_NAME

MODULES: tuple[str, ...] = ("tensorrt", "tensorrt_rtx")
LEVEL = 3  # TensorRT's own default, of 0 to 5
WORKSPACE_BYTES = 4 << 30
REPORT_EVERY_S = 5.0

Progress = Callable[[str], None]


class PlanError(ValueError):
    """There is no usable plan; the message is one sentence for the operator."""


def tensorrt(modules: Sequence[str] = MODULES) -> Any:
    """The first of `modules` that is installed: TensorRT, else TensorRT for RTX."""
    for name in modules:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:
            if getattr(error, "name", None) != name:
                raise PlanError(f"{name} is installed, but cannot be loaded: {error}") from None
    names = " or ".join(name.replace("_", "-") for name in modules)
    raise PlanError(f"{names} is not installed: pip install {modules[0].replace('_', '-')}")


def build(
    trt: Any, graph: bytes, sizes: Sequence[int], *,
    capability: tuple[int, int], exact: bool, timings: bytes, progress: Progress,
) -> tuple[bytes, bytes]:  # fmt: skip
    """The engine, and the timing cache that shortens the next build on such a GPU.

    For CUDA's current device, or with RTX for all GPUs of the `capability`. `exact`: float32 is
    not replaced by TF32. Raises PlanError.
    """
    log, name = _make_log(trt), f"{trt.__name__} {trt.__version__}"
    try:
        builder = trt.Builder(log)
    except TypeError:  # how the bindings report an error
        raise PlanError(f"{name} finds no GPU to build for: {_first(log.errors)}") from None
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise PlanError(f"{name} cannot read the graph: {_first(errors)}")
    config = builder.create_builder_config()
    config.builder_optimization_level = LEVEL
    monitor = config.progress_monitor = _make_monitor(trt, progress)  # must live through the build
    if exact:
        config.clear_flag(trt.BuilderFlag.TF32)
    for size in sizes:
        # Batches are padded to exactly these sizes, so no profile needs a range.
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT_NAME, *[(size, *network.get_input(0).shape[1:])] * 3)
        config.add_optimization_profile(profile)
    times = trt.__name__ != "tensorrt_rtx"
    if times:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        for data in (timings, b""):  # the old cache may be damaged or of another GPU
            cache = config.create_timing_cache(data)
            if cache and config.set_timing_cache(cache, ignore_mismatch=False):
                break
    else:
        # Without it a run may take memory, which no graph can hold.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        target = trt.ComputeCapability.__members__.get("SM{}{}".format(*capability))
        if target:
            config.num_compute_capabilities = 1
            config.set_compute_capability(target, 0)
        else:
            progress(
                f"{name} does not name this GPU: its plan is for 8.0 and later, and may not load"
            )
    engine = builder.build_serialized_network(network, config)
    del monitor
    if engine is None:
        raise PlanError(f"{name} cannot build the plan: {_first(log.errors)}")
    cache = config.get_timing_cache() if times else None
    return bytes(engine), bytes(cache.serialize()) if cache else b""


def _first(errors: list[str]) -> str:
    """Later errors are consequences of the first."""
    return " ".join(errors[0].split()) if errors else "no reason given"


def _make_log(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(text)

    return Log()


def _make_monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Called from the builder's own threads."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.reported_at = time.monotonic()

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = steps

        def phase_finish(self, phase: str) -> None:
            pass

        def step_complete(self, phase: str, step: int) -> bool:
            if time.monotonic() >= self.reported_at + REPORT_EVERY_S:
                self.reported_at = time.monotonic()
                progress(f"{phase}: {step + 1} of {self.steps.get(phase)}")
            return True  # continue the build

    return Monitor()
