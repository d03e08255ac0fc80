"""Counts of one model, with the meanings of Triton's statistics extension.

Requests and runs of the engine are counted apart: a request may have many photos, a run may carry
many requests.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Timing:
    """Seconds that one photo spent in each stage, and the photos it shared the engine with."""

    decode: float
    queue: float
    infer: float
    total: float
    batch_size: int


@dataclass
class Duration:
    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.ns += round(seconds * 1e9)


@dataclass
class Statistics:
    """`executed` may be called from the engine's thread, the others from the loop only."""

    photos: int = 0
    """Answered."""
    executions: int = 0
    """Runs of the engine that carried at least one photo of this model."""
    pending: int = 0
    """Requests under way."""
    last_ms: int = 0
    """When the last request was answered, in milliseconds since 1970."""
    success: Duration = field(default_factory=Duration)
    """Of requests, like the next five."""
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    decode: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)
    reasons: dict[str, int] = field(default_factory=dict)
    """Why requests failed -> how many; the reasons of server/errors.py."""
    batches: dict[int, Duration] = field(default_factory=dict)
    """Photos in a run of the engine -> such runs."""

    def answered(self, timings: Sequence[Timing], total_s: float) -> None:
        """A request with these photos; its stages are those of the photo that took longest."""
        slowest = max(timings, key=lambda timing: timing.total)
        self.photos += len(timings)
        self.last_ms = time.time_ns() // 1_000_000
        self.success.add(total_s)
        self.queue.add(slowest.queue)
        self.decode.add(slowest.decode)
        self.infer.add(slowest.infer)
        self.output.add(max(0.0, total_s - slowest.total))

    def failed(self, total_s: float, reason: str) -> None:
        self.fail.add(total_s)
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def executed(self, batch_size: int, infer_s: float) -> None:
        self.executions += 1
        self.batches.setdefault(batch_size, Duration()).add(infer_s)
