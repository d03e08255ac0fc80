"""Looks for inputs that a target cannot take, and makes them small."""

import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from tests.fuzz.mutations import mutated, parts
from tests.fuzz.targets import Target

MAX_CPU_S = 1.0
SHRINK_S = 20.0


@dataclass(frozen=True)
class Finding:
    target: str
    why: str
    data: bytes


def fault(target: Target, data: bytes, count_memory: bool = False) -> str:
    """What is wrong with how it takes these bytes; empty when all is right."""
    began = time.thread_time()
    if count_memory:
        tracemalloc.start()
    try:
        target.read(data)
    except target.errors as error:
        if "\n" in str(error):
            return f"{type(error).__name__} is no sentence"
    except Exception as error:
        return f"{type(error).__name__} is foreign"
    finally:
        took = time.thread_time() - began
        peak = tracemalloc.get_traced_memory()[1] if count_memory else 0
        if count_memory:
            tracemalloc.stop()
    if took > MAX_CPU_S and not count_memory:
        return "more than a second of a CPU"
    return "more memory than its account" if peak > target.memory_bytes else ""


def search(name: str, target: Target, random: Random) -> Iterator[Finding | None]:
    """For ever; None for an input that was taken well. One in 50 has its memory counted, which is
    slow; what once was taken well, or nearly, is changed further."""
    pool = list(target.seeds)
    for seed in pool:
        why = fault(target, seed)
        yield Finding(name, f"a seed: {why}", seed) if why else None
    while True:
        data = mutated(random.choice(pool), random)
        why = fault(target, data, count_memory=random.random() < 0.02)
        yield Finding(name, why, data) if why else None
        if random.random() < 0.01:
            pool[len(target.seeds) :] = [*pool[len(target.seeds) :], data][-100:]


def shrunk(target: Target, finding: Finding) -> Finding:
    """The same fault in fewer bytes: parts, halves, quarters ... are left out while it stays."""
    data, end = finding.data, time.monotonic() + SHRINK_S
    counting = "memory" in finding.why

    def still(smaller: bytes) -> bool:
        return fault(target, smaller, counting) == finding.why

    for i in reversed(range(len(parts(data)))):
        pieces = parts(data)
        smaller = b"".join(pieces[:i] + pieces[i + 1 :])
        if time.monotonic() < end and still(smaller):
            data = smaller
    step = len(data) // 2
    while step and time.monotonic() < end:
        at = 0
        while at < len(data) and time.monotonic() < end:
            smaller = data[:at] + data[at + step :]
            if still(smaller):
                data = smaller
            else:
                at += step
        step //= 2
    return Finding(finding.target, finding.why, data)
