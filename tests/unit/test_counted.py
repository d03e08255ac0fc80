"""What the benchmarks count, and what they leave out."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from alexnet_client.load.point import Load, summarise
from benchmarks import against, limit, serving
from benchmarks.server import Server

POINT = summarise(Load(), [], None, 0.0)  # type: ignore[arg-type] # no answer is read
LATE = "the generator itself was late"


class Metrics(Server):
    """Each metric is 10 more when it is read again."""

    told = 0.0

    async def metric(self, name: str) -> float:
        Metrics.told += 10
        return Metrics.told


SERVER = Metrics("", "", "")


def test_cpu_time_is_shared_by_the_photos_of_the_warm_up_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def measure(*_: object) -> Any:
        return replace(POINT, outcomes={"ok": 36})

    monkeypatch.setattr(limit, "measure", measure)
    _, cpu_s, _ = asyncio.run(limit.served(SERVER, [], "rest", 1.0, 0))
    assert cpu_s == 10 / (36 + 4 * 16)


def test_floods_that_the_generator_could_not_keep_up_with_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    floods = 0

    async def measure(server: Server, photos: object, load: Load, protocol: str) -> Any:
        nonlocal floods
        if load.rate is None:
            return replace(POINT, goodput_per_s=100.0)
        floods += 1
        return replace(POINT, goodput_per_s=90.0, problem="" if floods > 2 else LATE)

    monkeypatch.setattr(serving, "measure", measure)
    monkeypatch.setattr(serving, "MAX_STEAL", 1.1)
    found = asyncio.run(serving._alternate(SERVER, [], 1.0, "rest"))
    assert found["counted"] == {"stay": serving.ROUNDS - 1, "a third leaves": serving.ROUNDS - 1}
    assert found["goodput_of_peak"] == {"stay": 0.9, "a third leaves": 0.9}


def test_turns_with_a_problem_give_no_ratio() -> None:
    async def ask(_: Server, turn: int) -> dict[str, Any]:
        return {"per_s": 1.0, "problem": LATE if turn == 1 else ""}

    found = asyncio.run(against.in_turns({"before": SERVER, "after": SERVER}, 3, ask))
    assert found["counted"] == len(found["after_by_before"]["per_s"]["all"]) == 2
    assert found["turns"][1]["problem"] == f"{LATE}; {LATE}"
    assert found["turns"][0]["before"] == {"per_s": 1.0}
