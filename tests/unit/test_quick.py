"""The quick benchmark: a clear loss fails, the wandering of a machine does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import quick
from benchmarks.quick import losses

RECORDED = {"rest": [0.40, 0.50, 0.60], "grpc": [0.5, 0.5, 0.5]}


def test_a_clear_loss_is_named() -> None:
    (lost,) = losses({"rest": [0.40, 0.39, 0.41], "grpc": [0.5]}, RECORDED)
    assert lost == "rest: 0.40 of the engine alone (0.39 to 0.41), recorded 0.50: a clear loss"


@pytest.mark.parametrize("rest", [[0.45, 0.44, 0.46], [0.2, 0.3, 0.52], [0.9]])
def test_less_than_a_clear_loss_passes(rest: list[float]) -> None:
    assert not losses({"rest": rest, "grpc": [0.5]}, RECORDED)


def test_a_record_is_written_and_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Any] = {"rest": [0.5], "grpc": [0.5]}

    async def measured(*_: object) -> Any:
        return found

    monkeypatch.setattr(quick, "measure_ratios", measured)
    record = tmp_path / "quick.json"
    monkeypatch.setattr("sys.argv", ["quick", "none", "--record", str(record), "--write"])
    quick.main()
    assert json.loads(record.read_text())["rest"] == [0.5]
    monkeypatch.setattr("sys.argv", ["quick", "none", "--record", str(record)])
    quick.main()
    found["grpc"] = [0.3]
    with pytest.raises(SystemExit, match=r"grpc: 0\.30 of the engine alone"):
        quick.main()


def test_the_committed_record_has_both_protocols() -> None:
    record = json.loads(quick.RECORD.read_text())
    assert all(record[name] for name in ("rest", "grpc"))
