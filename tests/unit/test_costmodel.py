"""The cost model on made-up machines with a clock that the test sets: no test waits."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet import samples
from alexnet.header import Header, read_header
from alexnet.spec import batch_sizes
from server.scheduler import costs as costmodel
from server.scheduler.costs import CostModel

CROPS = np.zeros((3, 2, 2, 3), np.uint8)
JPEG, PNG = Header("JPEG", 1000, 1000), Header("PNG", 1000, 1000)


@pytest.fixture(autouse=True)
def _photos_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costmodel, "photo", _photo)


_photo = cache(samples.photo)


class Machine:
    """Its clock moves only while it works; `slow` makes all work slower."""

    def __init__(
        self,
        infer_s: Callable[[int], float] = lambda n: 0.001 + 0.002 * n,
        decode_s: Callable[[Header], float] = lambda h: 0.001,
    ):
        self.time, self.slow = 1000.0, 1.0
        self.batches: list[int] = []
        self.photos: list[Header] = []
        self._infer_s, self._decode_s = infer_s, decode_s

    def clock(self) -> float:
        return self.time

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(crops))
        self.time += self.slow * self._infer_s(len(crops))
        return np.zeros((len(crops), 10), np.float32)

    def decode(self, data: bytes) -> None:
        header = read_header(data)
        assert header
        self.photos.append(header)
        self.time += self.slow * self._decode_s(header)

    def measure(self, max_batch_size: int = 32, budget_s: float = 5.0) -> CostModel:
        return CostModel.measure(self.run, CROPS, max_batch_size, self.decode, budget_s, self.clock)


def megapixels(header: Header) -> float:
    return header.width * header.height / 1e6


def made(clock: Callable[[], float] = lambda: 0.0) -> CostModel:
    decode_ms = {"JPEG": (1.0, 2.0), "PNG": (1.0, 30.0)}
    return CostModel({1: 3.0, 2: 4.0, 4: 6.0, 6: 9.0}, decode_ms, clock)


@pytest.mark.parametrize("largest", [1, 2, 3, 32, 33])
def test_powers_of_two_and_the_largest_batch_are_measured(largest: int) -> None:
    machine = Machine()
    costs = machine.measure(largest)
    expected = {1: [1], 2: [1, 2], 3: [1, 2, 3], 32: [1, 2, 4, 8, 16, 32]}
    expected[33] = [1, 2, 4, 8, 16, 32, 33]
    assert sorted(set(machine.batches)) == expected[largest] == batch_sizes(largest)
    assert costs.max_batch_size == largest


def test_the_costs_of_a_machine_are_found_exactly() -> None:
    each = {
        "JPEG": 2.0,
        "progressive JPEG": 7.0,
        "PNG": 25.0,
        "WEBP": 17.0,
        "GIF": 10.0,
        "BMP": 0,
        "TIFF": 3.0,
        "AVIF": 30.0,
    }
    machine = Machine(
        infer_s=lambda n: 0.001 + 0.002 * n,
        decode_s=lambda h: (0.5 + each[h.kind] * megapixels(h)) / 1000,
    )
    costs = machine.measure(48)
    for n in range(1, 49):
        assert costs.infer_s(n) == pytest.approx(0.001 + 0.002 * n, rel=1e-3)
    for header in (JPEG, PNG, Header("JPEG", 9000, 5000, True), Header("BMP", 10, 10)):
        expected = (0.5 + each[header.kind] * megapixels(header)) / 1000
        assert costs.decode_s(header) == pytest.approx(expected, rel=3e-3)
    assert costs.decode_s(None) == costs.decode_s(Header("JPEG", 500, 375))
    assert costs.drift == {"infer": 1, "decode": 1}


def test_the_best_of_several_runs_counts() -> None:
    disturbed = iter(
        [4.0] * 4 + [1.0, 1.0, 9.0, 9.0] + [2.0] * 4 + [3.0, 3.0, 1.0, 1.0] + [5.0] * 4
    )
    costs = Machine(infer_s=lambda n: 0.002 * n * next(disturbed)).measure(8)
    assert [costs.infer_s(n) for n in (1, 2, 4, 8)] == pytest.approx([0.002, 0.004, 0.008, 0.016])


@pytest.mark.parametrize(
    ("times", "line"),
    [
        ([0.004, 0.002, 0.001], "flat"),  # a slope below zero
        ([0.0001, 0.001, 0.006], "through the origin"),  # a base below zero
        ([0.004], "through the origin"),
    ],
)
def test_neither_the_base_nor_the_slope_of_a_photo_is_negative(times: Any, line: str) -> None:
    base, slope = costmodel._line((0.2, 1.0, 4.0)[: len(times)], times)
    assert (base > 0 and slope == 0) if line == "flat" else (base == 0 and slope > 0)


def test_a_larger_batch_is_never_cheaper() -> None:
    costs = CostModel({1: 5.0, 2: 4.0, 4: 9.0, 8: 8.0}, {"JPEG": (1.0, 1.0)})
    seconds = [costs.infer_s(n) for n in range(30)]
    assert seconds == sorted(seconds)
    assert seconds[0] == 0
    assert costs.infer_s(3) == pytest.approx(0.007)
    assert costs.infer_s(80) == pytest.approx(10 * costs.infer_s(8))


@pytest.mark.parametrize("each_s", [0.1, 1.0, 10.0, 1000.0])
def test_measuring_a_slow_engine_exceeds_the_budget_by_one_run_at_most(each_s: float) -> None:
    machine = Machine(infer_s=lambda n: each_s * n)
    costs = machine.measure(64)
    assert machine.time - 1000 <= max(5, each_s + 1)
    assert machine.batches
    for n in (1, 7, 64):  # sizes that were not run cost in proportion to the largest that was
        assert costs.infer_s(n) == pytest.approx(each_s * n, rel=1e-6)


@pytest.mark.parametrize("each_s", [0.3, 3.0, 300.0])
def test_slow_decoders_leave_half_of_the_budget_to_the_engine(each_s: float) -> None:
    machine = Machine(decode_s=lambda h: each_s * megapixels(h))
    costs = machine.measure(4)
    first = each_s * megapixels(machine.photos[0])
    assert machine.time - 1000 <= 2.5 + first + 0.1
    assert machine.photos[0].kind == "JPEG"
    assert costs.decode_s(JPEG) == pytest.approx(each_s, rel=0.01)
    assert costs.decode_s(PNG) > 0
    if each_s == 300:
        assert len(machine.photos) == 1
        assert costs.decode_s(PNG) == pytest.approx(15 * costs.decode_s(JPEG), rel=0.01)


def test_a_change_of_speed_is_learnt_and_shown_as_drift() -> None:
    costs = made()
    for slow in (3.0, 1.0, 0.5, 8.0):
        for _ in range(60):
            costs.ran(4, slow * 0.006)
            costs.decoded(JPEG, 2 * slow * 0.003)
        assert costs.infer_s(6) == pytest.approx(slow * 0.009, rel=0.02)
        assert costs.decode_s(JPEG) == pytest.approx(2 * slow * 0.003, rel=0.02)
        assert costs.drift == pytest.approx({"infer": slow, "decode": 2 * slow}, rel=0.02)
    assert costs.decode_s(PNG) == 0.031  # each kind of photo has its own


def test_one_outlier_does_no_harm() -> None:
    costs = made()
    before = costs.infer_s(4), costs.decode_s(JPEG)
    costs.ran(4, 3600.0)
    costs.decoded(JPEG, 3600.0)
    assert costs.infer_s(4) <= 1.11 * before[0]
    assert costs.decode_s(JPEG) <= 1.11 * before[1]
    costs.ran(4, 0.0)
    assert costs.infer_s(4) >= before[0]


def test_a_slow_period_is_forgotten_when_nothing_runs() -> None:
    """Otherwise a server that refuses all requests for being slow would never find out that it is
    fast again."""
    machine = Machine()
    costs = made(machine.clock)
    for _ in range(100):
        costs.ran(1, 0.030)
    assert costs.drift["infer"] == pytest.approx(10, rel=0.01)
    machine.time += costmodel.HALF_LIFE_S
    assert costs.drift["infer"] == pytest.approx(5.5, rel=0.01)
    machine.time += 3600
    assert costs.infer_s(1) == pytest.approx(0.003)


def test_a_format_that_was_not_measured_counts_as_some_jpegs() -> None:
    costs = made()
    assert costs.decode_s(JPEG) == 0.003
    assert costs.decode_s(Header("GIF", 1000, 1000)) == pytest.approx(0.011)
    assert costs.decode_s(Header("JPEG", 1000, 1000, progressive=True)) == pytest.approx(0.009)
    costs.decoded(Header("GIF", 1000, 1000), 0.006)
    assert costs.decode_s(Header("GIF", 1000, 1000)) < 0.011
    assert costs.decode_s(JPEG) == 0.003
    assert costs.decode_s(PNG) == 0.031
    costs.decoded(None, 1.0)
    assert costs.decode_s(PNG) == 0.031


def test_the_largest_batch_that_fits_is_the_one_found_by_trying_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        most = int(rng.integers(1, 70))
        sizes = batch_sizes(most)
        costs = CostModel(
            dict(zip(sizes, (1 + 5 * rng.random(len(sizes))).round(1).tolist(), strict=True)),
            {"JPEG": (1, 1)},
            clock=lambda: 0.0,
        )
        for _ in range(int(rng.integers(9))):
            costs.ran(int(rng.integers(1, most + 1)), float(rng.random()) / 50)
        for _ in range(10):
            n = int(rng.integers(0, most + 1))
            exactly = costs.infer_s(int(rng.integers(0, most + 1)))
            for seconds in (float(rng.random()) / 50, exactly, -1.0, 0.0, 9.0):
                fits = [k for k in range(1, n + 1) if costs.infer_s(k) <= seconds]
                assert costs.largest(n, seconds) == max(fits, default=0)
        assert costs.largest(most + 5, 9.0) == most


def test_the_efficient_size_is_the_smallest_that_wastes_little() -> None:
    assert CostModel({1: 10.0, 2: 11.0, 4: 16.0, 8: 28.0}, {"JPEG": (1, 1)}).efficient_size == 6
    assert CostModel({1: 10.0, 2: 11.0, 4: 16.0, 8: 31.0}, {"JPEG": (1, 1)}).efficient_size == 4
    assert CostModel({1: 1.0, 64: 64.0}, {"JPEG": (1, 1)}).efficient_size == 1
    assert CostModel({1: 1.0, 2: 1.0}, {"JPEG": (1, 1)}).efficient_size == 2


def test_json_restores_the_calibration_but_not_what_was_learnt_since() -> None:
    costs = Machine().measure()
    fresh = costs.to_json()
    for _ in range(100):
        costs.ran(4, 2 * costs.infer_s(4))
    text = costs.to_json()
    assert json.loads(text)["now"]["infer"] > 5
    assert CostModel.from_json(text).to_json() == CostModel.from_json(fresh).to_json() == fresh
    assert json.loads(made().to_json()) == {
        "format": 1,
        "infer_ms": {"1": 3.0, "2": 4.0, "4": 6.0, "6": 9.0},
        "decode_ms": {
            "JPEG": {"base": 1.0, "per_megapixel": 2.0},
            "PNG": {"base": 1.0, "per_megapixel": 30.0},
        },
        "now": {"infer": 1.0, "decode": {"JPEG": 1.0, "PNG": 1.0}},
    }


LINE = {"base": 1.0, "per_megapixel": 2.0}
DAMAGE: dict[str, list[Any]] = {
    "format": [2, "1", None],
    "extra": [1],
    "infer_ms": [
        *({}, [], 1, {"1": "2"}, {"1": 0}, {"1": -1.0}, {"2": 1.0}, {"x": 1}, {"1": None}),
        *({"1": True}, {"1": 1e99}, {"1": 10**99}, {"1": float("nan")}),
        *({"1": 1.0, "99999999": 2.0}, {"1": 1.0, "4": 3.0, "2": 2.0}),
    ],
    "decode_ms": [
        *({}, [], {"PNG": LINE}, {"JPEG": LINE, "XCF": LINE}, {"JPEG": 1}, {"JPEG": {"base": 1}}),
        *({"JPEG": LINE | {"more": 1}}, {"JPEG": LINE | {"base": -1}}),
        {"JPEG": LINE | {"base": float("inf")}},
    ],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in DAMAGE.items() for value in values]
)
def test_a_damaged_cost_model_is_refused(key: str, value: Any) -> None:
    sound = json.loads(made().to_json())
    assert CostModel.from_json(json.dumps(sound)).max_batch_size == 6
    with pytest.raises(ValueError, match="not a cost model"):
        CostModel.from_json(json.dumps(sound | {key: value}))


@pytest.mark.parametrize("key", ["format", "infer_ms", "decode_ms", "now"])
def test_a_cost_model_with_a_part_missing_is_refused(key: str) -> None:
    data = json.loads(made().to_json())
    del data[key]
    with pytest.raises(ValueError, match="not a cost model"):
        CostModel.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", '"x"', "[" * 100_000, "\0"])
def test_text_that_is_no_cost_model_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cost model"):
        CostModel.from_json(text)
