"""The resources that our kernels need on a GPU, determined without one.

    python -m benchmarks.gpu.resources

The launchers run unchanged, with tensors on the meta device and a fake driver for Triton, which is
given the same machine code to load as a GPU of that architecture.
"""

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from benchmarks.gpu.rank import rank
from gpu.kernels.norm import Norm, normalise, normalise_backward
from gpu.kernels.pixels import View, in_blocks
from gpu.kernels.response import response
from gpu.kernels.weight_only import Quantised, weight_only

Launch = Callable[[], object]
ARCHITECTURES = (80, 90)
VIEW = View((128.0,) * 3, (64.0,) * 3)


class Resources(NamedTuple):
    """Of one kernel: registers and spilled bytes per thread, bytes of shared memory."""

    kernel: str
    registers: int
    spilled: int
    shared: int


def cases(architecture: int) -> dict[str, Launch]:
    """Every kernel at the sizes of AlexNet, by name and batch size."""
    conv1, bias = _like(128, 55, 55, 96, dtype=torch.float32), _like(4096)
    found: dict[str, Launch] = {
        "pixels, 256": partial(in_blocks, _like(256, 224, 224, 3, dtype=torch.uint8), VIEW),
        "rank, 256": partial(rank, _like(256, 1000), 5),
        "norm 96, 128": partial(normalise, conv1, Norm(columns=2)),
        "norm 96 backward, 128": partial(normalise_backward, conv1, conv1, Norm(columns=2)),
    }
    pools = (("pool 64", None, 55), ("norm, pool 96", Norm(), 55), ("norm, pool 256", Norm(), 27))
    codes = [torch.int8, torch.float8_e4m3fn][: 2 if architecture > 80 else 1]
    for count, (name, norm, side) in product((1, 256), pools):
        maps = int(name.split()[-1])
        x = _like(count, side, side, maps)
        found[f"{name}, {count}"] = partial(response, x, _like(maps), norm)
    for count, code in product((1, 64), codes):
        weight = Quantised(_like(4096, 9216, dtype=code), _like(4096, dtype=torch.float32))
        found[f"fc6 {code}, {count}"] = partial(weight_only, _like(count, 9216), weight, bias)
    return found


def _like(*shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def resources(launch: Launch, architecture: int) -> list[Resources]:
    """Of the kernels that `launch` launches, on sm_80 or sm_90 (80 or 90).

    It must pass tensors on the meta device. Triton's interpreter must be off.
    """
    chip = _FakeDriver(architecture)
    with chip.active():
        launch()
    return chip.loaded


class _FakeDriver:
    """The parts of Triton's driver for compiling and launching; kernels do nothing."""

    def __init__(self, architecture: int):
        self.target = GPUTarget("cuda", architecture, 32)
        self.loaded: list[Resources] = []
        self.utils = self

    @contextmanager
    def active(self) -> Iterator[None]:
        before = driver._active
        driver.set_active(self)
        try:
            yield
        finally:
            driver.set_active(before)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> "_FakeDriver":
        return self  # a new device, for which Triton has no cached kernels

    def get_current_stream(self, device: object) -> int:
        return 0

    def launcher_cls(self, source: object, metadata: object) -> Callable[..., None]:
        return lambda *arguments: None

    def get_device_properties(self, device: object) -> dict[str, int]:
        return {"max_shared_mem": (227 if self.target.arch == 90 else 163) << 10}

    def load_binary(self, name: str, cubin: bytes, shared: int, device: object) -> tuple[Any, ...]:
        use = _dump(cubin)
        spilled = use["STACK"] + use["LOCAL"]
        self.loaded.append(Resources(name.lstrip("_"), use["REG"], spilled, shared))
        return None, None, use["REG"], 0, 1024


def _dump(cubin: bytes) -> dict[str, int]:
    """The resources of the machine code, from Triton's cuobjdump."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name: int(number) for name, number in re.findall(r"(\w+):(\d+)", text)}


def main() -> None:
    print(f"{'':28}{'':8}{'kernel':12}{'registers':>10}{'spilled':>10}{'shared':>10}")
    for architecture in ARCHITECTURES:
        for name, launch in cases(architecture).items():
            for kernel, *numbers in resources(launch, architecture):
                columns = "".join(f"{number:10}" for number in numbers)
                print(f"{name:28}sm_{architecture:<5}{kernel:12}{columns}")


if __name__ == "__main__":
    main()
