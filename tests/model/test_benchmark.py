"""The training benchmark runs from end to end at a tiny size; its figures are not checked."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.training import TRICKS, main, train_flop
from training.recipe import PLAIN


@pytest.mark.parametrize(("arch", "gflop"), [("alexnet", 4.145), ("alexnet2012", 4.136)])
def test_the_flop_of_an_image(arch: str, gflop: float) -> None:
    """docs: 3 times the forward pass, without conv1's gradient of the photo."""
    assert train_flop(replace(PLAIN, arch=arch)) / 1e9 == pytest.approx(gflop, abs=5e-4)


def test_the_benchmark_writes_a_record_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.network.HIDDEN", 64)
    flags = ["--batch", "4", "--px", "64", "--rounds", "1", "--matrix", "64"]
    monkeypatch.setattr("sys.argv", ["b", *flags, "--output", str(tmp_path / "record")])
    main()
    report = json.loads((tmp_path / "record.json").read_text())
    assert [row["name"] for row in report["rates"]] == [trick.name for trick in TRICKS]
    assert all(row["images_per_s"] > 0 for row in report["rates"])
    assert report["rates"][0]["speedup"] == 1
    assert 0 < report["parts"]["loading, share"] < 1
    page = (tmp_path / "record.md").read_text()
    assert page == capsys.readouterr().out.rstrip("\n") + "\n"
    for row in report["rates"]:
        assert f"| {row['name']} | {row['images_per_s']:,.0f} |" in page
