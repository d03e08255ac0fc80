"""The subject of the benchmark: the bundle's network, photos, and its logits in float64."""

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from alexnet.bundle import Bundle
from gpu.typed import float_graph
from training.fold import fold
from training.network import AlexNet, Deployable

L2_BYTES = 64 << 20  # an upper limit: an H200 has 60 MB
CHUNK = 32


class Settings(NamedTuple):
    """The settings for the measuring process."""

    bundle: Path
    device: str
    sizes: tuple[int, ...]
    seconds: float
    photos: int
    """Number of photos on which logits are compared."""


class _Cast(nn.Module):
    """Converts normalised pixels, which are a channels-last view of float32."""

    def __init__(self, dtype: torch.dtype, form: torch.memory_format):
        super().__init__()
        self.dtype, self.form = dtype, form

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype).contiguous(memory_format=self.form)


class Workload:
    """One bundle on one device."""

    def __init__(self, settings: Settings):
        self.settings, self.device = settings, torch.device(settings.device)
        self.cuda = self.device.type == "cuda"
        # torch's default stream cannot be captured.
        self.stream = torch.cuda.Stream(self.device) if self.cuda else None
        torch.backends.cudnn.benchmark = self.cuda
        self.bundle = Bundle.open(settings.bundle)
        artifacts = {a.precision: a for a in self.bundle.manifest.artifacts}
        # Engines in int8 and fp8 need the scales, which only an int8 artifact has.
        self.artifact = artifacts.get("int8") or artifacts["fp32"]
        self.onnx = self.bundle.files[self.artifact.file]
        self.crops = make_photos(self.bundle.golden.crops, settings.photos)
        self.side, self.classes = self.crops.shape[1], self.bundle.manifest.model.classes

    def on_stream(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self.stream) if self.stream else nullcontext()

    def eager(self, dtype: torch.dtype, *, channels_last: bool = False) -> Deployable:
        """In plain torch, as usually written; raises ValueError for other than one tower."""
        graph = float_graph(self.onnx).graph
        constants = {c.name: numpy_helper.to_array(c).copy() for c in graph.initializer}
        mean, std, weights = np.zeros(3), np.ones(3), []
        for node in graph.node:
            values: list[Any] = [constants[name] for name in node.input if name in constants]
            match node.op_type:
                case "Conv" | "Gemm":
                    weights.append([torch.from_numpy(value) for value in values])
                case "Sub":
                    mean = mean + values[0]
                case "Div" | "Mul" if values:
                    std = std * values[0] if node.op_type == "Div" else std / values[0]
        network = fold(AlexNet(self.classes, dropout=0).eval(), self.side)
        shapes = [[m.weight.shape, m.weight.shape[:1]] for m in network.layers]
        if [[value.shape for value in pair] for pair in weights] != shapes:
            raise ValueError("the benchmark supports only the one-tower network (`alexnet`)")
        for layer, (weight, bias) in zip(network.layers, weights, strict=True):
            layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        form = torch.channels_last if channels_last else torch.contiguous_format
        network = network.to(dtype=dtype, memory_format=form)  # type: ignore[call-overload]
        whole = nn.Sequential(_Cast(dtype, form), network)
        return Deployable(whole, tuple(mean.tolist()), tuple(std.tolist())).to(self.device)

    @cached_property
    def reference(self) -> Tensor:
        """(photos, classes) on the CPU, in float64 except for the normalisation."""
        network, chunks = self.eager(torch.float64), torch.from_numpy(self.crops).split(CHUNK)
        with torch.no_grad():
            return torch.cat([network(chunk.to(self.device)).double().cpu() for chunk in chunks])

    def batches(self, size: int) -> list[Tensor]:
        """Enough batches on the device that none is still cached when it is used again."""
        count = min(max(2 * L2_BYTES // (size * self.side**2 * 3), 2), 8)
        drawn = np.random.default_rng(size).integers(0, len(self.crops), (count, size))
        return [torch.from_numpy(self.crops[index]).to(self.device) for index in drawn]


def make_photos(crops: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """(count, side, side, 3): the crops, then mixtures: shifted, mirrored, with noise."""
    rng, photos = np.random.default_rng(0), list(crops[:count])
    while len(photos) < count:
        a, b = (crops[i] for i in rng.integers(0, len(crops), 2))
        share, light, mirror = rng.uniform(0, 0.4), rng.uniform(0.7, 1.3), rng.choice([-1, 1])
        mixed = (1 - share) * np.roll(a, rng.integers(-32, 33, 2), (0, 1)) + share * b[:, ::-1]
        noisy = light * mixed + rng.normal(0, 8, a.shape)
        photos.append(noisy.clip(0, 255).astype(np.uint8)[:, ::mirror])
    return np.stack(photos)


@lru_cache(maxsize=1)
def get_workload(settings: Settings) -> Workload:
    """Cached, so that each process reads the bundle once."""
    return Workload(settings)
