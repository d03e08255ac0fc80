"""One request per second is admitted although the estimate refuses all."""

import asyncio
import time

import pytest

from server.errors import Expired, ServeError, WouldMiss
from server.scheduler import estimate
from server.scheduler.costs import CostModel
from server.scheduler.decoder import Decoder
from server.scheduler.estimate import PROBE_EVERY_S, PROBE_MEMORY_S, Probe
from tests.batching import AwaitedJob, FakeVersion, answered, batching, hold, job, request, submit
from tests.fakes import believe, faking, flat, flat_costs


def due(asked: Probe, now: float, timeout_s: float = 1.0) -> bool:
    return asked.due(timeout_s, now)


def test_one_a_second_from_the_first_refusal_on() -> None:
    probe = Probe()
    assert not due(probe, 100)
    assert not due(probe, 100 + PROBE_EVERY_S)
    assert due(probe, 100.01 + PROBE_EVERY_S)
    probe.admitted()
    assert not due(probe, 100.02 + PROBE_EVERY_S)
    assert due(probe, 100.04 + 2 * PROBE_EVERY_S)


def test_a_short_timeout_does_not_take_the_place_of_a_longer_one() -> None:
    probe = Probe()
    now, probes = 100.0, list[float]()
    for i in range(300):
        now += 0.01
        timeout_s = 0.9 if i % 30 == 0 else 0.001
        if probe.due(timeout_s, now):
            probes.append(timeout_s)
            probe.admitted()
            probe.due(0.9, now)  # others with time are refused meanwhile
    assert probes
    assert set(probes) == {0.9}


def test_a_long_timeout_is_forgotten_when_no_other_has_come() -> None:
    probe = Probe()
    assert not probe.due(5.0, 100)
    assert not probe.due(0.1, 102)
    assert probe.due(0.1, 100.01 + PROBE_MEMORY_S)


def test_one_upload_at_a_time_is_let_in_as_a_probe() -> None:
    probe = Probe()
    assert not probe.due_for_upload(1.0, 100)
    later = 100.01 + PROBE_EVERY_S
    assert [probe.due_for_upload(1.0, later) for _ in range(5)] == [
        True,
        False,
        False,
        False,
        False,
    ]
    assert probe.due(1.0, later), "the one that was let in"
    assert probe.due_for_upload(1.0, later + PROBE_EVERY_S), "the first may never have come"


async def test_a_calibration_of_a_busy_moment_is_unlearnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says 60 ms, and all deadlines here are 50 ms; in truth it takes next to nothing."""
    monkeypatch.setattr(estimate, "PROBE_EVERY_S", 0.02)
    async with faking() as fake:
        costs = CostModel({1: 60.0, 64: 60.0}, {"JPEG": (0.1, 0.0)})
        believe(fake.pipeline, costs)

        async def ask() -> bool:
            try:
                with fake.service.admit("test", 0.05) as asked:
                    return bool(await fake.service.classify(asked, flat(50)))
            except ServeError:
                return False

        assert not await ask()
        async with asyncio.timeout(10):
            while not all([await ask() for _ in range(5)]):
                await asyncio.sleep(0.005)
        assert costs.drift["infer"] < 50 / 60


@pytest.mark.parametrize(
    ("in_s", "probe", "error"), [(30, False, WouldMiss), (30, True, None), (-1, True, Expired)]
)
async def test_a_decoder_takes_a_probe_until_its_deadline_has_passed(
    in_s: float, probe: bool, error: type[ServeError] | None
) -> None:
    decoder = Decoder(1, 1_000_000, 1)
    asked = request(time.monotonic(), in_s)
    # The event loop's own timer must not be faster than the decoder.
    asking = AwaitedJob(asked, asked.deadline, 1, image=flat(50), decode_s=60.0, probe=probe)
    asking.deadline = asked.start + 3600
    await asyncio.sleep(0)
    asking.deadline = asked.deadline
    version = asked.version
    assert isinstance(version, FakeVersion)
    decoder.submit(asking)
    async with asyncio.timeout(5):
        while not (version.ready or version.outcomes):
            await asyncio.sleep(0.002)
    assert version.ready == ([] if error else [asking])
    assert (asking.photo is None) == (error is not None)
    if error:
        assert isinstance(version.outcomes[0], error)
        with pytest.raises(error):
            await asking.task
    else:
        asking.task.cancel()
    await asyncio.to_thread(decoder.close)


@pytest.mark.parametrize(
    ("in_s", "probe", "error"), [(30, False, WouldMiss), (30, True, None), (-1, True, Expired)]
)
async def test_the_engine_takes_a_probe_until_its_deadline_has_passed(
    in_s: float, probe: bool, error: type[ServeError] | None
) -> None:
    async with batching(costs=flat_costs(infer_ms=60_000)) as (batcher, engine):
        first = await hold(batcher, engine)
        asking = job(50, in_s)
        asking.probe = probe
        submit(batcher, [asking])
        engine.gate.set()
        _, result = await answered(first, asking)
        assert isinstance(result, error) if error else result.probabilities.argmax() == 2
        assert engine.batches == [[250]] + ([] if error else [[50]])


async def test_other_photos_do_not_cost_a_probe_its_run() -> None:
    async with batching(costs=flat_costs(infer_ms=60_000)) as (batcher, engine):
        first = await hold(batcher, engine)
        asking = job(50, 30)
        asking.probe = True
        others = submit(batcher, [asking, job(75), job(100)])
        engine.gate.set()
        _, result, *_ = await answered(first, *others)
        assert not isinstance(result, Exception), result
