"""What `alexnet-train` says, here in this process; tests/model/test_chain.py types it."""

from pathlib import Path
from typing import Any

import pytest

from training.__main__ import main


def said(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    """The exit code, or the last words."""
    monkeypatch.setattr("sys.argv", ["alexnet-train", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_the_commands_help_names_every_flag_and_recipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    for word in (
        "--train",
        "--val",
        "--output",
        "--epochs",
        "--batch",
        "--resume",
        "--init",
        "plain",
    ):
        assert word in text


def test_an_absent_folder_ends_the_command_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "absent"
    assert (
        said(monkeypatch, "--train", absent, "--val", absent)
        == f"alexnet-train: {absent} is neither a directory nor a zip file nor a tar shard"
    )


def test_ctrl_c_tells_how_to_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.__main__.train", interrupted)
    assert "--resume goes on" in str(said(monkeypatch, "--train", "a", "--val", "b"))
