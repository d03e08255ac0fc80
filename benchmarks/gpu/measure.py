"""A candidate at one batch size, timed and compared; a step of training. In one process."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.candidates import CANDIDATES, Prepare, Run, Unfit, needs_gpu
from benchmarks.gpu.floor import layers_of
from benchmarks.gpu.machine import ceilings, facts, timed
from benchmarks.gpu.subject import L2_BYTES, Settings, Subject, subject
from training.layers import CrossMapNorm
from training.network import AlexNet

Row = dict[str, Any]

_opened: tuple[str, Prepare | Exception] | None = None


def attempted(measure: Callable[..., Row], settings: Settings, *arguments: Any) -> Row:
    """What `measure` gives, or a row whose `failed` says why not; never raises.

    `broken`: the GPU does nothing any more for this process.
    """
    try:
        it = subject(settings)
        with it.on_stream():
            return {"failed": "", **measure(it, *arguments)}
    except Exception as error:
        kind = "" if isinstance(error, Unfit) else f"{type(error).__name__}: "
        row: Row = {"failed": " ".join(f"{kind}{error}".split())[:300]}
    try:
        if settings.device.startswith("cuda"):
            torch.cuda.synchronize()
    except Exception:
        row["broken"] = True
    return row


def describe(it: Subject) -> Row:
    """The machine, its ceilings, the network's layers. Raises ValueError without the two ceilings
    that everything is compared with."""
    found = ceilings(it.device, it.settings.seconds / 4)
    for name in ("copy", "bf16"):
        if isinstance(found[name], str):
            raise ValueError(f"no ceiling ({name}): {found[name]}")
    return {
        "machine": facts(it.device), "artifact": it.artifact.file, "ceilings": found,
        "layers": layers_of(it.classes, it.side),
    }  # fmt: skip


@torch.no_grad()
def candidate(it: Subject, name: str, size: int) -> Row:
    begun = perf_counter()
    prepare = _open(it, name)
    batches = it.batches(size)
    runs = [prepare(batch) for batch in batches]
    with torch.inference_mode():  # only now: torch.compile dislikes weights that were made in it
        row = compared(it, runs[0], batches[0])
        row["setup_s"] = perf_counter() - begun
        if it.cuda:
            sweep = torch.empty(2 * L2_BYTES, dtype=torch.uint8, device=it.device).zero_
            row["cold_us"] = timed(runs, it.device, it.settings.seconds / 4, sweep)["us"]
        return row | timed(runs, it.device, it.settings.seconds)


def compared(it: Subject, run: Run, batch: Tensor) -> Row:
    """The photos go to where the run reads. Logits that stay where they were are wiped first: what
    a run does not write is seen. Raises ValueError for logits that are not finite.
    """
    crops, pairs = torch.from_numpy(it.crops), []
    for start in range(0, len(crops), len(batch)):
        index = (start + torch.arange(len(batch))) % len(crops)
        batch.copy_(crops[index])
        run().fill_(torch.nan)
        pairs.append(torch.stack([run().double().cpu(), it.reference[index]]))
    got, expected = torch.cat(pairs, 1)
    if not got.isfinite().all():
        raise ValueError(f"{int((~got.isfinite()).sum())} of {got.numel()} logits are not finite")
    return {
        "error": ((got - expected).norm() / expected.norm()).item(),
        "top1": (got.argmax(1) == expected.argmax(1)).double().mean().item(),
    }


def _open(it: Subject, name: str) -> Prepare:
    """Once for all sizes; the candidate before is let go."""
    global _opened
    if _opened is None or _opened[0] != name:
        _opened = None
        if it.cuda:
            torch.cuda.empty_cache()
        try:
            _opened = name, CANDIDATES[name].open(it)
        except Exception as error:
            _opened = name, error
    if isinstance(_opened[1], Exception):
        raise _opened[1]
    return _opened[1]


def training_step(it: Subject, fused: bool) -> Row:
    """alexnet2012: bf16 autocast, channels last, SGD in one pass, random data."""
    batch, px = (512, 224) if it.cuda else (2, 64)
    torch.manual_seed(0)
    network = AlexNet(1000, "alexnet2012").train()
    network.to(it.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for norm in network.modules() if fused else ():
        if isinstance(norm, CrossMapNorm):
            if not hasattr(norm, "fused"):
                raise Unfit("CrossMapNorm has no fused form")
            norm.fused = True
    if fused:
        needs_gpu(it, "the fused norm")
    sgd = torch.optim.SGD(network.parameters(), 0.01, 0.9, weight_decay=5e-4, fused=True)
    x = torch.randn(batch, 3, px, px, device=it.device).to(memory_format=torch.channels_last)
    classes = torch.randint(1000, (batch,), device=it.device)

    def step() -> None:
        with torch.autocast(it.device.type, torch.bfloat16):
            outputs = network(x)
        sgd.zero_grad()
        F.cross_entropy(outputs.float(), classes).backward()
        sgd.step()

    times = timed([step], it.device, it.settings.seconds)
    return times | {"batch": batch, "per_s": 1e6 * batch / times["us"]}
