"""The runtimes that can run the network, in the order in which `auto` prefers them."""

from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

NVIDIA = {"cuda-bindings", "nvidia-ml-py", "onnx"}
"""What every engine on a GPU imports beside its runtime: the extra `nvidia`."""


@dataclass(frozen=True)
class Runtime:
    name: str
    packages: tuple[str, ...]
    """Any of these, as pip names them, must be installed."""
    extra: str
    """What of our package installs it; empty: the package alone does."""
    precisions: tuple[str, ...]
    """The first is what `auto` takes, if the bundle has what it is made from."""
    on_gpu: bool = True

    def is_among(self, installed: Collection[str]) -> bool:
        """Whether these packages are enough for it."""
        found = not set(self.packages).isdisjoint(installed)
        return found and (not self.on_gpu or NVIDIA.issubset(installed))


RUNTIMES = (
    Runtime(
        "tensorrt", ("tensorrt", "tensorrt-rtx"), "server-tensorrt",
        ("fp16", "int8", "fp8", "bf16", "fp32"),
    ),
    Runtime("torch-cuda", ("torch",), "server-torch", ("fp16", "bf16", "fp32")),
    Runtime("onnxruntime-cuda", ("onnxruntime-gpu",), "server-gpu", ("fp16", "fp32")),
    Runtime("onnxruntime-tensorrt", ("onnxruntime-gpu",), "server-gpu", ("fp16", "fp32")),
    # int8 AlexNet runs at 2.5 to 5 times the rate of fp32 on a CPU (docs/records/).
    Runtime(
        "onnxruntime-cpu", ("onnxruntime", "onnxruntime-gpu"), "", ("int8", "fp32"),
        on_gpu=False,
    ),
    # By its measured speed beside ONNX Runtime's (server/engines/on_cpu.py).
    Runtime("openvino-cpu", ("openvino",), "server-openvino", ("int8", "fp32"), on_gpu=False),
)  # fmt: skip
ENGINES = tuple(runtime.name for runtime in RUNTIMES)


def version_of(package: str) -> str:
    """Empty: it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def versions() -> tuple[str, ...]:
    """Of every package that RUNTIMES names: what a figure of speed depends on."""
    return tuple(version_of(package) for runtime in RUNTIMES for package in runtime.packages)
