"""What to type next can be typed as it is printed."""

import shlex
from pathlib import Path

import pytest

from training.next_steps import next_steps
from training.sources import Sources


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("training.next_steps.shutil.which", lambda name: f"/bin/{name}")


def commands(run: str, sources: Sources) -> list[list[str]]:
    return [shlex.split(line) for line in next_steps(Path(run), sources).splitlines()[1:]]


def test_the_photos_that_were_held_out_score_the_bundle() -> None:
    photos = [Path("my photos")]
    assert commands("runs/pets", Sources(photos, photos, 0.2)) == [
        ["alexnet-export", "runs/pets/model.safetensors", "--photos", "my photos",
         "--val-fraction", "0.2", "--output", "models/pets"],
        ["alexnet-server", "--model", "models/pets"],
    ]  # fmt: skip


def test_photos_to_score_are_named() -> None:
    export, _ = commands("runs/pets", Sources([Path("a"), Path("b")], [Path("c")]))
    assert export[2:] == ["--photos", "a", "b", "--val", "c", "--output", "models/pets"]


def test_a_bundle_that_is_there_is_not_named_again(tmp_path: Path) -> None:
    for name in ("pets", "pets-2"):
        (tmp_path / "models" / name).mkdir(parents=True)
    _, serve = commands("runs/pets", Sources([Path("a")], [Path("c")]))
    assert serve[-1] == "models/pets-3"


def test_the_commands_of_an_environment_have_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.next_steps.shutil.which", lambda name: None)
    monkeypatch.setattr("sys.argv", [".venv/bin/alexnet-train"])
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "alexnet-export").touch()
    export, serve = commands("runs/pets", Sources([Path("a")], [Path("c")]))
    assert export[0] == ".venv/bin/alexnet-export"
    assert serve[1:3] == ["-m", "server"]
