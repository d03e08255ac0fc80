"""`alexnet-load` from the command line, and its JSON document."""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest

from alexnet_client.load import command as load
from alexnet_client.load.point import Point
from tests.paths import ROOT
from tests.photos import jpeg
from tests.processes import ServerProcess
from tests.service.classifier_fake import on_terminal, run
from tests.service.load_fake import serving

LOAD = "alexnet_client.load.command"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "secret-folder"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.jpg").write_bytes(jpeg(seed=i))
    return folder


@pytest.mark.process
async def test_the_command_measures_saves_draws_and_compares(tmp_path: Path, photos: Path) -> None:
    output, plot = tmp_path / "now.json", tmp_path / "now.png"
    brief = ("--rates", "20,40", "--seconds", "0.5", "--cancel", "0.1", "--timeout-ms", "900")
    async with serving() as server:
        ask = (LOAD, photos, "--server", server.address)
        done = await asyncio.to_thread(run, *ask, *brief, "--output", output, "--plot", plot)
        then = await asyncio.to_thread(
            run, *ask, *brief, "--compare", output, "--tolerance", "10", "--output", output
        )
        other = await asyncio.to_thread(
            run, *ask, "--concurrency", "2", "--seconds", "0.2", "--compare", output
        )
    lines = done.stdout.splitlines()
    # On a busy machine the generator may lag: such rows are marked, with a note.
    rows, notes = lines[3:5], [line for line in lines[5:-1] if line.startswith("!")]
    title, empty, header, version = *lines[:3], lines[-1]
    assert len(notes) == sum(row.endswith(" !") for row in rows)
    assert title == "open loop, grpc, timeout 900 ms, 0.5 s each, photos: 3"
    assert (empty, version) == ("", "answered by version 7")
    assert [len(line.removesuffix(" !")) for line in rows] == [len(header)] * 2
    assert plot.read_bytes().startswith(b"\x89PNG")
    changed = r" +goodput [+-]\d+\.\d% +p50 [+-]\d+\.\d% +p99 [+-]"
    for rate, row in zip(("20/s", "40/s"), rows, strict=True):
        # Points at which the generator lagged are not compared.
        assert bool(re.search(rate + changed, then.stdout)) == (not row.endswith(" !"))
    assert "different setting: seconds was 0.5, is 0.2" in other.stdout
    assert "no point in common" in other.stdout
    assert (other.stdout.split()[0], other.returncode) == ("closed", 1)
    saved = output.read_text()
    assert "secret" not in saved
    assert "127.0.0.1" not in saved
    document = json.loads(saved)
    assert document.keys() == {
        "format", "command", "date", "versions", "generator", "settings", "points"
    }  # fmt: skip
    assert document["command"].startswith("alexnet-load --protocol grpc --rates 20.0,40.0")
    assert [point["level"] for point in document["points"]] == ["20/s", "40/s"]
    assert document["points"][0].keys() == {"level", *Point.__annotations__}


@pytest.mark.process
def test_without_a_server_there_is_one_sentence(photos: Path) -> None:
    for protocol in ("grpc", "rest"):
        done = run(LOAD, photos, "--server", "127.0.0.1:1", "--protocol", protocol)
        assert done.returncode == 1
        assert done.stderr == (
            f"alexnet-load: no photo was classified over {protocol} at 127.0.0.1:1: unavailable. "
            "`make serve` starts a server, --server names another\n"
        )


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rates", "10,fast"], "'fast' is no number from 0.1 to 100000"),
        (["--concurrency", "0"], "'0' is no whole number from 1 to 1000"),
        (["--concurrency", "1", "--rates", "1"], "not allowed with"),
        (["--cancel", "2"], "'2' is no number from 0 to 1"),
        (["--plot", "curve.txt"], "'curve.txt' is no .svg or .png or .pdf file"),
        (["--output", "nowhere/now.json"], "in a folder that exists"),
        (["--compare", "nowhere.json"], "nowhere.json"),
        (["nothing-here"], "nothing-here does not exist"),
    ],
)
def test_wrong_usage_is_reported_before_the_measurement(
    photos: Path, arguments: list[str], complaint: str
) -> None:
    done = run(LOAD, photos, *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr


@pytest.mark.parametrize(
    ("package", "door", "arguments"),
    [
        ("aiohttp", "alexnet_client.load.rest", ["--protocol", "rest"]),
        ("matplotlib", "alexnet_client.load.plot", ["--plot", "x.svg"]),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_has_it(
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: str,
    door: str,
    arguments: list[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, door, raising=False)
    monkeypatch.setattr("sys.argv", ["alexnet-load", str(photos), *arguments])
    with pytest.raises(SystemExit) as exit_:
        load.run()
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    asked = (
        f"{package} is not installed: pip install {package} (the extra `load` of alexnet-client)"
    )
    assert asked in message


@pytest.mark.process
async def test_a_terminal_shows_a_progress_bar(photos: Path) -> None:
    async with serving() as server:
        seen = await asyncio.to_thread(
            on_terminal, LOAD, photos, "--server", server.address, "--rates", "30", "--seconds", "1"
        )
    assert "30/s |" in seen
    assert "of 1 s" in seen


@pytest.mark.process
@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_the_starter_is_measured(server: ServerProcess, photos: Path, protocol: str) -> None:
    address = server.grpc if protocol == "grpc" else server.http.removeprefix("http://")
    done = run(
        LOAD, photos, photos / "0.jpg", "--server", address, "--protocol", protocol,
        "--rates", "20", "--seconds", "1", "--timeout-ms", "5000",
    )  # fmt: skip
    assert done.stderr == ""
    assert "photos: 4" in done.stdout
    _, _, _, row, *_, version = done.stdout.splitlines()
    cells = row.split()
    assert float(cells[1]) > 0, "goodput"
    assert float(cells[10]) > 0, "decode"
    assert float(cells[11]) > 0, "infer"
    assert re.fullmatch(r"answered by version \S+", version)


@pytest.mark.process
async def test_the_documents_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall("```python\n(.*?)```", (ROOT / "docs/load.md").read_text(), re.DOTALL)
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg())
    async with serving() as server:
        code = code.replace("127.0.0.1:8001", server.address).replace("photo.jpg", str(photo))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", code, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
    assert process.returncode == 0
    assert re.fullmatch(rb"\d+\.\d in time per second, p99 \d+\.\d ms\n", output)
