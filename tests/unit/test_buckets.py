"""Staging, padding, ordering and reuse of buffers, on a device that runs late and out of order."""

from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.buckets import CLASSES, SIDE, crops, engine_of


def classes(logits: NDArray[np.float32]) -> list[int]:
    return [int(i) for i in logits.argmax(1)]


def test_the_name_says_runtime_precision_and_device() -> None:
    assert engine_of()[0].name == "fake-fp16:0"


def test_every_size_is_captured_once_for_each_buffer_the_largest_first() -> None:
    _, device, program = engine_of()
    assert program.prepared == [8, 4, 2, 1] * 2
    assert device.captured == 8


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8)])
def test_a_batch_is_padded_to_the_next_size_and_only_its_own_rows_are_copied(
    count: int, size: int
) -> None:
    engine, device, program = engine_of()
    values = [25 * (i + 1) for i in range(count)]
    logits = engine.run(crops(*values))
    assert program.launched == [size]
    assert device.copied_in == [count * SIDE * SIDE * 3]
    assert logits.shape == (count, CLASSES)
    assert classes(logits) == [i + 1 for i in range(count)]


def test_old_rows_behind_a_small_batch_are_in_no_answer() -> None:
    engine, _, _ = engine_of()
    engine.run(crops(*[225] * 8))
    engine.run(crops(*[225] * 8))  # both buffers are full of this value now
    assert classes(engine.run(crops(25, 50, 75))) == [1, 2, 3]


@pytest.mark.parametrize("count", [0, 9])
def test_a_batch_that_no_size_fits_is_refused(count: int) -> None:
    engine, _, _ = engine_of()
    with pytest.raises(ValueError, match=rf"a batch of {count}; this engine takes 1 to 8"):
        engine.begin([crops(0)[0]] * count)


def test_two_batches_under_way_do_not_change_each_other() -> None:
    for seed in range(50):
        engine, _, _ = engine_of(seed)
        first = engine.begin(list(crops(25, 50, 75)))
        second = engine.begin(list(crops(100, 125)))
        assert classes(first()) == [1, 2, 3]
        third = engine.begin(list(crops(150)))
        assert classes(second()) == [4, 5]
        assert classes(third()) == [6]


def test_answers_stay_as_they_are_when_later_batches_use_the_buffers() -> None:
    engine, _, _ = engine_of()
    kept = [engine.run(crops(25 * (i % 9))) for i in range(20)]
    assert [classes(logits) for logits in kept] == [[i % 9] for i in range(20)]


def test_any_interleaving_pairs_every_answer_with_its_crop() -> None:
    for seed in range(20):
        dice = Random(seed)
        engine, _, _ = engine_of(seed)
        under_way: list[tuple[list[int], Callable[[], NDArray[np.float32]]]] = []
        for _ in range(60):
            if under_way and (len(under_way) == engine.depth or dice.random() < 0.5):
                expected, pending = under_way.pop(0)
                assert classes(pending()) == expected
            else:
                expected = [dice.randrange(CLASSES) for _ in range(dice.randint(1, 8))]
                values = [25 * value for value in expected]
                under_way.append((expected, engine.begin(list(crops(*values)))))


def test_a_launch_that_fails_gives_its_buffer_back() -> None:
    engine, _, program = engine_of()
    program.fail = True
    for _ in range(5):
        with pytest.raises(RuntimeError, match="launch failed"):
            engine.begin(list(crops(225)))
    program.fail = False
    assert classes(engine.run(crops(25))) == [1]


def test_a_run_that_fails_gives_its_buffer_back(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, device, _ = engine_of()

    def fail(event: int) -> None:
        raise RuntimeError("an illegal address")

    with monkeypatch.context() as patch:
        patch.setattr(device, "synchronize", fail)
        for _ in range(5):
            with pytest.raises(RuntimeError, match="illegal"):
                engine.run(crops(225))
    assert classes(engine.run(crops(25))) == [1]


def test_the_gpus_time_is_counted() -> None:
    engine, _, _ = engine_of()
    for _ in range(3):
        engine.run(crops(25))
    assert engine.runs == 3
    assert engine.copy_s == pytest.approx(0.003)
    assert engine.compute_s == pytest.approx(0.003)


def test_closing_frees_program_and_device() -> None:
    engine, device, program = engine_of()
    before = device.used
    engine.close()
    assert device.used == before + 1, "another thread may close it than ran it"
    assert program.closed
    assert device.closed


def test_what_a_program_cannot_close_keeps_no_device_open(caplog: pytest.LogCaptureFixture) -> None:
    engine, device, program = engine_of()
    program.sticks = True
    engine.close()
    assert device.closed
    assert "fake-fp16:0 could not be closed" in caplog.text
