"""The time and the error of a candidate at one batch size, and a training step."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.candidates import CANDIDATES, Prepare, Run, Unsupported, needs_gpu
from benchmarks.gpu.floor import layers_of
from benchmarks.gpu.machine import ceilings, describe_machine, time_runs
from benchmarks.gpu.workload import L2_BYTES, Settings, Workload, get_workload
from training.layers import CrossMapNorm
from training.network import AlexNet

Row = dict[str, Any]

_opened: tuple[str, Prepare | Exception] | None = None


def attempt(measure: Callable[..., Row], settings: Settings, *arguments: Any) -> Row:
    """The row of `measure`, or one whose `failed` has the reason; never raises.

    `broken`: this process cannot use the GPU any more.
    """
    try:
        work = get_workload(settings)
        with work.on_stream():
            return {"failed": "", **measure(work, *arguments)}
    except Exception as error:
        kind = "" if isinstance(error, Unsupported) else f"{type(error).__name__}: "
        row: Row = {"failed": " ".join(f"{kind}{error}".split())[:300]}
    try:
        if settings.device.startswith("cuda"):
            torch.cuda.synchronize()
    except Exception:
        row["broken"] = True
    return row


def describe(work: Workload) -> Row:
    """The machine, its peak rates, the network's layers. Raises ValueError without the two rates
    that all rows are compared with."""
    found = ceilings(work.device, work.settings.seconds / 4)
    for name in ("copy", "bf16"):
        if isinstance(found[name], str):
            raise ValueError(f"no ceiling ({name}): {found[name]}")
    return {
        "machine": describe_machine(work.device), "artifact": work.artifact.file, "ceilings": found,
        "side": work.side, "layers": layers_of(work.classes, work.side),
    }  # fmt: skip


@torch.no_grad()
def measure_candidate(work: Workload, name: str, size: int) -> Row:
    begun = perf_counter()
    prepare = _open(work, name)
    batches = work.batches(size)
    runs = [prepare(batch) for batch in batches]
    with torch.inference_mode():  # only here: torch.compile needs weights created outside of it
        row = compare(work, runs[0], batches[0])
        row["setup_s"] = perf_counter() - begun
        if work.cuda:
            sweep = torch.empty(2 * L2_BYTES, dtype=torch.uint8, device=work.device).zero_
            row["cold_us"] = time_runs(runs, work.device, work.settings.seconds / 4, sweep)["us"]
        return row | time_runs(runs, work.device, work.settings.seconds)


def compare(work: Workload, run: Run, batch: Tensor) -> Row:
    """Error and agreement of the run, on photos that are copied into `batch`. Logits are set to NaN
    before a run, to detect runs that do not write them. Raises ValueError for non-finite logits.
    """
    crops, pairs = torch.from_numpy(work.crops), []
    for start in range(0, len(crops), len(batch)):
        index = (start + torch.arange(len(batch))) % len(crops)
        batch.copy_(crops[index])
        run().fill_(torch.nan)
        pairs.append(torch.stack([run().double().cpu(), work.reference[index]]))
    got, expected = torch.cat(pairs, 1)
    if not got.isfinite().all():
        raise ValueError(f"{int((~got.isfinite()).sum())} of {got.numel()} logits are not finite")
    return {
        "error": ((got - expected).norm() / expected.norm()).item(),
        "top1": (got.argmax(1) == expected.argmax(1)).double().mean().item(),
    }


def _open(work: Workload, name: str) -> Prepare:
    """Opens a candidate once for all sizes, and frees the previous one."""
    global _opened
    if _opened is None or _opened[0] != name:
        _opened = None
        if work.cuda:
            torch.cuda.empty_cache()
        try:
            _opened = name, CANDIDATES[name].open(work)
        except Exception as error:
            _opened = name, error
    if isinstance(_opened[1], Exception):
        raise _opened[1]
    return _opened[1]


def measure_training_step(work: Workload, fused: bool) -> Row:
    """alexnet2012 with bf16 autocast, channels last, fused SGD, random data."""
    batch, px = (512, 224) if work.cuda else (2, 64)
    torch.manual_seed(0)
    network = AlexNet(1000, "alexnet2012").train()
    network.to(work.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for norm in network.modules() if fused else ():
        if isinstance(norm, CrossMapNorm):
            if not hasattr(norm, "fused"):
                raise Unsupported("CrossMapNorm has no fused form")
            norm.fused = True
    if fused:
        needs_gpu(work, "the fused norm")
    sgd = torch.optim.SGD(network.parameters(), 0.01, 0.9, weight_decay=5e-4, fused=True)
    x = torch.randn(batch, 3, px, px, device=work.device).to(memory_format=torch.channels_last)
    classes = torch.randint(1000, (batch,), device=work.device)

    def step() -> None:
        with torch.autocast(work.device.type, torch.bfloat16):
            outputs = network(x)
        sgd.zero_grad()
        F.cross_entropy(outputs.float(), classes).backward()
        sgd.step()

    times = time_runs([step], work.device, work.settings.seconds)
    return times | {"batch": batch, "per_s": 1e6 * batch / times["us"]}
