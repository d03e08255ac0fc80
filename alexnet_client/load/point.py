"""One point of the curve: a load and the measured response of the server."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import harmonic_mean
from typing import TypeAlias

from alexnet_client.load.sender import LATE, NOT_SENT, OK, REFUSED, Sender

Percentiles: TypeAlias = dict[str, float]
"""In milliseconds, by nearest rank; empty when there is nothing to rank."""

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
MAX_LAG_MS, MAX_LAG_SHARE = 10.0, 0.1  # at p99; the share is of the latency


@dataclass(frozen=True)
class Load:
    """Open loop: requests arrive at `rate` (1/s), whether or not any are answered. Closed loop:
    `concurrency` clients, each of which waits for its answer before its next request."""

    rate: float | None = None
    concurrency: int | None = None
    seconds: float = 10.0
    timeout_s: float = 0.5
    """From the moment a request is due."""
    cancel: float = 0.0
    """Share of the requests that the client cancels after a random part of the timeout."""
    seed: int = 0
    max_in_flight: int = 10_000

    def __str__(self) -> str:
        return f"{self.rate:g}/s" if self.rate is not None else f"{self.concurrency} at once"


@dataclass(frozen=True, slots=True)
class Request:
    """The course of one request, in seconds from the start of the run."""

    due: float
    sent: float
    done: float
    outcome: str
    body: bytes


@dataclass(frozen=True)
class Point:
    load: Load
    requests: int
    offered_per_s: float
    """Requests that fell due; random, so it differs from the rate."""
    goodput_per_s: float
    """Answers before their deadline and before the end of the run."""
    outcomes: dict[str, int]
    """`ok`, `late`, `cancelled` and `not_sent` by the client, or the server's reason."""
    latency_ms: Percentiles
    """Of all answers, from the moment the request was due."""
    refusal_ms: Percentiles
    """Latency of the refusals."""
    server_ms: dict[str, Percentiles]
    """decode, queue, infer, total, as reported in the answers."""
    overhead_ms: Percentiles
    """Latency minus decode and infer."""
    batch_size: float | None
    """Mean photos per run of the engine."""
    versions: dict[str, int]
    """Answers by version of the model."""
    lag_ms: Percentiles
    """Delay between the moment a request was due and its sending."""
    generator_cpu_ms: float
    """Per request."""
    problem: str
    """Why this does not measure the server; empty if it does."""

    def share(self, *outcomes: str) -> float:
        return sum(self.outcomes.get(name, 0) for name in outcomes) / max(self.requests, 1)


def summarise(load: Load, sent: Sequence[Request], sender: Sender, cpu_s: float) -> Point:
    """`cpu_s` is the CPU time that the generator used during the run."""
    answered = [s for s in sent if s.outcome == OK]
    answers = [sender.read(s.body) for s in answered]
    timings = [answer.timing for answer in answers]
    in_time = [s for s in answered if s.done - s.due <= load.timeout_s]
    outcomes = Counter(s.outcome for s in sent)
    outcomes[LATE] += len(answered) - len(in_time)
    outcomes[OK] = len(in_time)
    latency = percentiles(s.done - s.due for s in answered)
    lag = percentiles(s.sent - s.due for s in sent if s.outcome != NOT_SENT)
    return Point(
        load=load,
        requests=len(sent),
        offered_per_s=len(sent) / load.seconds,
        goodput_per_s=sum(s.done <= load.seconds for s in in_time) / load.seconds,
        outcomes=dict(sorted((+outcomes).items())),
        latency_ms=latency,
        refusal_ms=percentiles(s.done - s.due for s in sent if s.outcome in REFUSED),
        server_ms={
            stage: percentiles(getattr(timing, f"{stage}_ms") / 1000 for timing in timings)
            for stage in ("decode", "queue", "infer", "total")
        },
        overhead_ms=percentiles(
            s.done - s.due - (timing.decode_ms + timing.infer_ms) / 1000
            for s, timing in zip(answered, timings, strict=True)
        ),
        # n answers report a batch of n photos: the harmonic mean counts it once.
        batch_size=round(harmonic_mean([t.batch_size for t in timings]), 2) if timings else None,
        versions=dict(sorted(Counter(answer.model.version for answer in answers).items())),
        lag_ms=lag,
        generator_cpu_ms=round(1000 * cpu_s / max(len(sent), 1), 3),
        problem=_problem(outcomes[NOT_SENT], lag, latency),
    )


def percentiles(seconds: Iterable[float]) -> Percentiles:
    ranked = sorted(seconds)
    ranks = {name: math.ceil(q * len(ranked)) - 1 for name, q in QUANTILES.items()}
    return {name: round(1000 * ranked[i], 3) for name, i in ranks.items()} if ranked else {}


def _problem(not_sent: int, lag: Percentiles, latency: Percentiles) -> str:
    if not_sent:
        return f"{not_sent:,} requests were not sent: too many were in flight, or it was too late"
    if lag.get("p99", 0) > max(MAX_LAG_MS, MAX_LAG_SHARE * latency.get("p99", 0)):
        return f"the generator itself was late, {lag['p99']:.0f} ms at p99: give it a core"
    return ""
