"""Counts of one model and version, with the meanings of Triton's statistics extension.

Requests, photos and runs of the engine are counted apart: a request may have many photos, a run may
carry many requests.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

STAGES = ("upload", "decode_queue", "decode", "batch_queue", "infer", "total")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that one photo spent in each stage, and the photos it shared the engine with."""

    upload: float
    decode_queue: float
    decode: float
    batch_queue: float
    infer: float
    total: float
    batch_size: int
    """0 where the answer was kept from another photo."""
    cached: bool = False

    @property
    def queue(self) -> float:
        """Waiting for a decoder, and then for the engine."""
        return self.decode_queue + self.batch_queue


@dataclass
class Duration:
    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.ns += round(seconds * 1e9)

    def __add__(self, other: Self) -> "Duration":
        return Duration(self.count + other.count, self.ns + other.ns)


@dataclass
class Counts:
    """Changed on the event loop only."""

    photos: int = 0
    """Answered by the engine: those from the cache are counted apart, as in Triton."""
    executions: int = 0
    """Runs of the engine that carried at least one photo of this model."""
    last_ms: int = 0
    """When the last request was answered, in milliseconds since 1970."""
    success: Duration = field(default_factory=Duration)
    """Of requests, like the next five."""
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    decode: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)
    cache_hit: Duration = field(default_factory=Duration)
    """Of photos, like the next."""
    cache_miss: Duration = field(default_factory=Duration)
    failures: dict[str, int] = field(default_factory=dict)
    """Triton's reason -> requests that failed for it."""
    batches: dict[int, Duration] = field(default_factory=dict)
    """Photos in a run of the engine -> such runs."""
    latencies: dict[int, int] = field(default_factory=dict)
    """n -> answered requests that took at most 2 ** (n / 4) ms, and more than those of n - 1."""

    def answered(self, timings: Sequence[Timing], total_s: float) -> None:
        """A request with these photos; its stages are those of the photo that took longest, of
        those that passed them."""
        self.last_ms = time.time_ns() // 1_000_000
        self.success.add(total_s)
        step = math.ceil(4 * math.log2(max(total_s * 1000, 2**-4)))
        self.latencies[step] = self.latencies.get(step, 0) + 1
        computed = [timing for timing in timings if not timing.cached]
        if not computed:
            return
        slowest = max(computed, key=_total)
        self.photos += len(computed)
        self.queue.add(slowest.queue)
        self.decode.add(slowest.decode)
        self.infer.add(slowest.infer)
        self.output.add(max(0.0, total_s - slowest.total))

    def failed(self, triton_reason: str, total_s: float) -> None:
        self.fail.add(total_s)
        self.failures[triton_reason] = self.failures.get(triton_reason, 0) + 1

    def executed(self, batch_size: int, infer_s: float) -> None:
        self.executions += 1
        self.batches.setdefault(batch_size, Duration()).add(infer_s)

    def __add__(self, other: Self) -> "Counts":
        """Of two processes, as those of one."""
        total = Counts(last_ms=max(self.last_ms, other.last_ms))
        for name in (f.name for f in fields(self) if f.name != "last_ms"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                both = {key: [d[key] for d in (mine, theirs) if key in d] for key in mine | theirs}
                setattr(total, name, {k: v[0] + v[1] if v[1:] else v[0] for k, v in both.items()})
            else:
                setattr(total, name, mine + theirs)
        return total

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Counts":
        """Of `to_json`, whose keys JSON has made text."""
        durations = {k: Duration(**v) for k, v in data.items() if isinstance(v, dict) and "ns" in v}
        batches = {int(size): Duration(**runs) for size, runs in data["batches"].items()}
        latencies = {int(step): requests for step, requests in data["latencies"].items()}
        return cls(**{**data, **durations, "batches": batches, "latencies": latencies})


def _total(timing: Timing) -> float:
    return timing.total
