"""The speed of a training step, relative to the peak rate of the machine.

    python -m benchmarks.training --output docs/records/training_MACHINE_DATE

Measures the machine's matrix rate, the step of the same network with ever more optimisations (in
turns, so that a slowdown of the machine affects all of them), and the parts of the fastest step.
Writes OUTPUT.json and OUTPUT.md. The data are random.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from alexnet.labels import Labels
from training.augment import draw
from training.data import Dataset
from training.loader import Loader, Order
from training.network import AlexNet
from training.optim import optimizer
from training.recipe import RECIPES, Recipe
from training.report import describe_environment

T = TypeVar("T")

IMAGENET = 1_281_167  # photos of ILSVRC-2012's training set


@dataclass(frozen=True)
class Trick:
    """A way to run the step: each adds one optimisation to the one before."""

    name: str
    bf16: bool = False
    channels_last: bool = False
    fused: bool = False
    compiled: bool = False


TRICKS = (
    Trick("plain: fp32, eager, SGD in a loop"),
    Trick("+ one fused pass for SGD", fused=True),
    Trick("+ channels last", fused=True, channels_last=True),
    Trick("+ bf16 autocast", fused=True, channels_last=True, bf16=True),
)
COMPILED = Trick("+ torch.compile", fused=True, channels_last=True, bf16=True, compiled=True)


@dataclass(frozen=True)
class StepRate:
    name: str
    images_per_s: float
    gflops: float
    share: float
    """Of the matrix rate in its precision."""
    speedup: float
    """Relative to the plain loop of the same run."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.training", description=__doc__)
    parser.add_argument("--output", type=Path, help="writes OUTPUT.json and OUTPUT.md")
    parser.add_argument("--recipe", choices=RECIPES, default="plain")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5, help="steps of each, in turns")
    parser.add_argument("--matrix", type=int, default=4096, help="side of the matrices multiplied")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well (minutes)")
    options = parser.parse_args()
    report = measure(
        replace(RECIPES[options.recipe], batch=options.batch, sizes=((0, options.px),)),
        options.rounds, options.matrix, compiled=options.compile,
    )  # fmt: skip
    text = markdown(report)
    print(text)
    if options.output:
        options.output.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
        options.output.with_suffix(".md").write_text(text)


def measure(recipe: Recipe, rounds: int, matrix: int, *, compiled: bool = False) -> dict[str, Any]:
    """The whole report, for JSON."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    peaks = {name: matrix_rate(device, dtype, matrix) for name, dtype in
             (("fp32", torch.float32), ("bf16", torch.bfloat16))}  # fmt: skip
    tricks = (*TRICKS, COMPILED) if compiled else TRICKS
    steps = {trick.name: _step(trick, recipe, device) for trick in tricks}
    x, targets = _batch(recipe, device)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for warm in tqdm([False, *[True] * rounds], "rounds", leave=False):
        for name, step in steps.items():
            took = _time(lambda step=step: step(x, targets), device)  # type: ignore[misc]
            if warm:
                seconds[name].append(took)
    flop = train_flop(recipe)
    plain = median(seconds[tricks[0].name])
    rows = []
    for trick in tricks:
        took = median(seconds[trick.name])
        gflops = flop * recipe.batch / took / 1e9
        peak = peaks["bf16" if trick.bf16 else "fp32"]
        rows.append(StepRate(trick.name, recipe.batch / took, gflops, gflops / peak, plain / took))
    return {
        "command": "python -m benchmarks.training " + shlex.join(sys.argv[1:]),
        "environment": describe_environment(),
        "arch": recipe.arch,
        "batch": recipe.batch,
        "px": recipe.size_at(0),
        "rounds": rounds,
        "gflop_per_image": flop / 1e9,
        "matrix_gflops": peaks,
        "rates": [asdict(row) for row in rows],
        "parts": parts(recipe, device, rounds),
        "imagenet_90_epochs_hours": 90 * IMAGENET / rows[len(TRICKS) - 1].images_per_s / 3600,
    }


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int, tries: int = 5) -> float:
    """GFLOP/s of a large matrix product, best of `tries`: the peak rate of the machine."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = min(_time(lambda: a @ b, device) for _ in range(tries + 1))
    return 2 * side**3 / best / 1e9


def train_flop(recipe: Recipe) -> float:
    """Multiplications and additions for one image: forward, and twice as many backward, except that
    conv1 needs no gradient of its input."""
    network = AlexNet(1000, recipe.arch).eval()
    macs: list[int] = []

    def count(module: Any, _: Any, output: Tensor) -> None:
        macs.append(module.weight[0].numel() * output[0].numel())

    for layer in network.layers:
        layer.register_forward_hook(count)
    px = recipe.size_at(0)
    with torch.inference_mode():
        network(torch.zeros(1, 3, px, px))
    return 2.0 * (3 * sum(macs) - macs[0])


def parts(recipe: Recipe, device: torch.device, rounds: int) -> dict[str, float]:
    """Median milliseconds of each part of our step, and the share of the loader."""
    rng = np.random.default_rng(0)
    count, side = 4 * recipe.batch, recipe.store
    images = rng.integers(0, 256, (count, side, side, 3), np.uint8)
    data = Dataset(images, rng.integers(0, 1000, count), Labels.imagenet())
    loader = Loader(data, device)
    trick = TRICKS[-1]
    network, sgd = _network(trick, recipe, device)
    taken: dict[str, list[float]] = {}

    def part(name: str, work: Callable[..., T], *arguments: Any) -> T:
        result: list[T] = []
        took = _time(lambda: result.append(work(*arguments)), device)
        taken.setdefault(name, []).append(1000 * took)
        return result[0]

    px = recipe.size_at(0)
    generator = torch.Generator().manual_seed(0)

    def order() -> Order:
        index = torch.randint(count, (recipe.batch,), generator=generator)
        return Order(index, draw(recipe, recipe.batch, side, px, recipe.colour_noise, generator))

    def forward(x: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            outputs = network(x)
        return F.cross_entropy(outputs.float(), targets)

    for _ in range(rounds + 1):
        cut, targets, views = part("cut", next, loader.batches(iter([part("draw", order)])))
        x = part("augment", views, cut, recipe)
        loss = part("forward", forward, x, targets)
        sgd.zero_grad()
        part("backward", loss.backward)
        part("SGD", sgd.step)
    result = {name: median(values[1:]) for name, values in taken.items()}
    result["loading, share"] = (result["draw"] + result["cut"]) / sum(result.values())
    return result


def _network(trick: Trick, recipe: Recipe, device: torch.device) -> tuple[AlexNet, torch.optim.SGD]:
    torch.manual_seed(0)
    network = AlexNet(1000, recipe.arch, dropout=recipe.dropout).to(device).train()
    if trick.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sgd = optimizer(network, recipe)
    if not trick.fused:
        sgd = torch.optim.SGD(
            network.parameters(), recipe.peak_lr, recipe.momentum, weight_decay=5e-4, foreach=False
        )
    return network, sgd


def _step(trick: Trick, recipe: Recipe, device: torch.device) -> Callable[[Tensor, Tensor], None]:
    network, sgd = _network(trick, recipe, device)
    forward = torch.compile(network) if trick.compiled else network

    def step(x: Tensor, targets: Tensor) -> None:
        if trick.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16) if trick.bf16 else nullcontext():
            outputs = forward(x)
        loss = F.cross_entropy(outputs.float(), targets)
        sgd.zero_grad()
        loss.backward()
        sgd.step()

    return step


def _batch(recipe: Recipe, device: torch.device) -> tuple[Tensor, Tensor]:
    px = recipe.size_at(0)
    x = torch.randn(recipe.batch, 3, px, px, device=device)
    return x, torch.randint(1000, (recipe.batch,), device=device)


def _time(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def markdown(report: dict[str, Any]) -> str:
    env = report["environment"]
    peaks = ", ".join(f"{k} {v:,.0f} GFLOP/s" for k, v in report["matrix_gflops"].items())
    lines = [
        f"# A training step of {report['arch']}: batch {report['batch']}, {report['px']} px",
        "",
        f"Command: `{report['command']}`",
        "",
        f"{env['gpu'] or str(env['cpus']) + ' CPU cores'}, {env['platform']}, "
        f"torch {env['packages']['torch']}. Median of {report['rounds']} steps of each, in turns.",
        f"Largest matrix rate seen: {peaks}. One image costs {report['gflop_per_image']:.2f} "
        "GFLOP, forward and backward.",
        "",
        "| step | images/s | GFLOP/s | of the matrix rate | against plain |",
        "|---|---|---|---|---|",
        *(
            f"| {r['name']} | {r['images_per_s']:,.0f} | {r['gflops']:,.0f} | {r['share']:.0%} | "
            f"{r['speedup']:.2f} x |"
            for r in report["rates"]
        ),
        "",
        f"90 epochs of ImageNet at the rate of {TRICKS[-1].name!r}: "
        f"{report['imagenet_90_epochs_hours']:,.1f} hours (projected; 2012: 5 to 6 days on two "
        "GTX 580).",
        "",
        "| part of a step | ms |",
        "|---|---|",
        *(f"| {k} | {v:.1f} |" for k, v in report["parts"].items() if k != "loading, share"),
        "",
        f"Loading (draw and cut, photos resident): {report['parts']['loading, share']:.1%} of the "
        "step.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
