"""Ours beside other servers: what is asked of a peer, what it costs, and why one is left out."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alexnet.bundle import Bundle
from benchmarks.peers import __main__ as command
from benchmarks.peers import turns
from benchmarks.peers.environment import CannotRun, environment
from benchmarks.peers.model import write_models
from benchmarks.peers.peer import OURS, PEERS, Peer
from benchmarks.peers.running import Running, running
from benchmarks.peers.turns import Bench, Server, compare, ratios_of, serving
from benchmarks.server import STARTER
from server.engines.ort import OrtEngine
from tests.paths import ROOT

PHOTOS = [b"one", b"two", b"three"]
SERVER = """
import http.server, json, os, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status = int(os.environ.get("STATUS", 200))
        label = body.decode() if os.environ.get("RIGHT", "1") == "1" else "wrong"
        answer = json.dumps([{"label": label}]).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_): pass
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(PHOTOS, tmp_path, sys.executable, rounds=1, seconds=1)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peer:
    """It says of a photo its bytes, in an environment that is there already."""
    (tmp_path / "server.py").write_text(SERVER)
    monkeypatch.setattr(turns, "environment", lambda *_: Path(sys.executable).parent)
    start = f"exec {sys.executable} {tmp_path / 'server.py'}"
    monkeypatch.setattr(Peer, "folder", tmp_path)
    return Peer("fake", "Fake", start, "echoes", "/classify")


@pytest.mark.process
def test_a_server_is_left_with_all_that_it_started(fake: Peer, bench: Bench) -> None:
    """Also with a daemon in a session of its own."""
    with serving(fake, "int8", bench) as server:
        assert server.ask(b"a photo") == "a photo"
        assert len(server.running.processes()) == 2
        assert server.running.memory_mb() > 5
        assert server.running.cpu_s() > 0
        with server.running.paused():
            end = time.monotonic() + 5  # a signal to stop takes effect a moment later
            while not {state(pid) for pid in server.running.processes()} <= {"T"}:
                assert time.monotonic() < end
        assert "T" not in {state(pid) for pid in server.running.processes()}
    assert not server.running.processes()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


@needs_wrk
@pytest.mark.process
def test_ours_and_a_peer_are_measured_in_turns(
    fake: Peer, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = replace(fake, name="ours")
    monkeypatch.setattr(turns, "OURS", ours)
    monkeypatch.setattr(turns, "WARM_UP_S", 1)
    found = compare(fake, "int8", [3], bench)
    assert found["same_best_class"] == 1
    (row,) = found["connections"]["3"]["turns"]
    assert all(row[name]["per_s"] > 10 for name in ("ours", "peer"))
    median, least, most = found["connections"]["3"]["by_peer"]["ours"]["per_s"]
    assert least <= median <= most


@pytest.mark.process
def test_a_peer_whose_answers_differ_is_not_measured(
    fake: Peer, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = replace(fake, start=f"RIGHT=0 {fake.start}")
    monkeypatch.setattr(turns, "OURS", ours)
    with pytest.raises(CannotRun, match="its best class is ours for only 0% of the photos"):
        compare(fake, "int8", [1], bench)


@needs_wrk
@pytest.mark.process
def test_an_error_page_is_not_measured(fake: Peer, bench: Bench, tmp_path: Path) -> None:
    with (
        running(
            f"STATUS=503 {fake.start}", tmp_path, {}, tmp_path / "log", lambda port: is_open(port)
        ) as broken,
        serving(fake, "int8", bench) as well,
    ):
        with pytest.raises(CannotRun, match="were refused and 0 broken at 2 connections"):
            Server(fake, broken, well.bodies).measure(2, 1)
        with pytest.raises(CannotRun, match="a photo is not answered: it answers 503"):
            Server(fake, broken, well.bodies).ask(b"a photo")


def test_what_fails_is_told_of_the_server_that_failed(
    fake: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_wrk(*_: object) -> None:
        raise subprocess.CalledProcessError(1, "wrk", "", "unable to connect")

    monkeypatch.setattr(turns, "run_wrk", no_wrk)
    gone = Running(1, "nothing has this mark")
    with pytest.raises(CannotRun, match="wrk failed at 2 connections: unable to connect"):
        Server(fake, gone, tmp_path).measure(2, 1)
    with pytest.raises(CannotRun, match=r"a photo is not answered: .*refused"):
        Server(fake, gone, tmp_path).ask(b"a photo")
    monkeypatch.setattr(turns, "OURS", fake)
    with pytest.raises(SystemExit, match="our own server cannot be measured: wrk failed"):
        Server(fake, gone, tmp_path).measure(2, 1)


def is_open(port: int) -> bool:
    try:
        return turns.ask(Peer("any", "any", "", "", "/"), port, b"") is not None
    except ValueError:
        return True
    except OSError:
        return False


@pytest.mark.process
def test_a_peer_that_does_not_start_says_why(fake: Peer, bench: Bench) -> None:
    broken = replace(
        fake, start="echo nonsense; echo 'ModuleNotFoundError: no such peer' >&2; exit 3"
    )
    with (
        pytest.raises(CannotRun, match="ended at its start: ModuleNotFoundError: no such peer"),
        serving(broken, "int8", bench),
    ):
        pass


def test_an_environment_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    java = replace(PEERS[0], needs=("no-such-command",))
    with pytest.raises(CannotRun, match="no-such-command is not installed"):
        environment(java, tmp_path, sys.executable)
    with pytest.raises(CannotRun, match="no-such-python: No such file"):
        environment(PEERS[0], tmp_path, "no-such-python")


@pytest.mark.parametrize("peer", PEERS, ids=[peer.name for peer in PEERS])
def test_every_peer_has_a_server_file_and_versions(peer: Peer) -> None:
    assert any(peer.folder.glob("*.py"))
    lines = (peer.folder / "requirements.txt").read_text().splitlines()
    pinned = [line.split("==")[0] for line in lines if not line.startswith("#")]
    assert all("==" in line for line in lines if not line.startswith("#"))
    assert {"onnxruntime", "pillow"} <= set(pinned)
    ours = (ROOT / "constraints.txt").read_text().splitlines()
    (runtime,) = (line for line in ours if line.startswith("onnxruntime=="))
    assert runtime in lines, "the page names one version for all"


ANSWERS = {
    "bentoml": b'[[{"label": "cat"}]]',
    "triton": b'{"outputs":[{"name":"label"}]}' + b"\x03\0\0\0cat\x03\0\0\0dog",
    "mlserver": b'{"outputs": [{"data": ["[{\\"label\\": \\"cat\\"}]"]}]}',
    "ours": b'{"predictions": [{"label": "cat"}]}',
}


@pytest.mark.parametrize("peer", [*PEERS, OURS], ids=[peer.name for peer in [*PEERS, OURS]])
def test_the_best_class_is_read_from_each_answer(peer: Peer) -> None:
    assert peer.first(ANSWERS.get(peer.name, b'[{"label": "cat"}, {"label": "dog"}]')) == "cat"


def test_every_body_holds_the_photo() -> None:
    for peer in PEERS:
        body = peer.body(b"\xff\xd8 a photo")
        assert b"\xff\xd8 a photo" in body or b"/9ggYSBwaG90bw==" in body, peer.name


def test_ratios_are_within_a_turn() -> None:
    """The machine gets ten times as fast: the ratio stays."""
    slow = dict.fromkeys(turns.RATIOS, 1.0)
    rows = [
        {"peer": slow, "ours": dict.fromkeys(turns.RATIOS, 2.0)},
        {"peer": dict.fromkeys(turns.RATIOS, 10.0), "ours": dict.fromkeys(turns.RATIOS, 20.0)},
    ]
    assert ratios_of(rows, "ours")["per_s"] == [2, 2, 2]


def test_a_run_goes_on_after_a_peer_that_fails_and_keeps_what_it_does_not_ask_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = dict.fromkeys(turns.RATIOS, 2.0)
    turn = {"peer": figures, "ours": figures, "ours int8": figures, "stolen": 0.0}

    def compared(peer: Peer, precision: str, connections: list[int], bench: Bench) -> Any:
        if peer.name == "mosec":
            raise CannotRun("it ended at its start: out of luck")
        ours = ("ours", "ours int8") if precision == "fp32" else ("ours",)
        ratios = {name: ratios_of([turn], name) for name in ours}
        found = {str(n): {"by_peer": ratios, "turns": [turn]} for n in connections}
        return {"same_best_class": 1.0, "connections": found}

    monkeypatch.setattr(command, "compare", compared)
    monkeypatch.setattr(command, "write_models", lambda *_: None)
    monkeypatch.setattr(command.shutil, "which", lambda _: "wrk")
    record = tmp_path / "record"
    for connections in ("1", "16"):
        arguments = ["b", "none", "--output", str(record), "--connections", connections]
        monkeypatch.setattr("sys.argv", arguments)
        command.main()
    found = json.loads((tmp_path / "record.json").read_text())
    assert found["peers"]["mosec"]["int8"]["not_measured"].endswith("out of luck")
    assert list(found["peers"]["ray"]["fp32"]["connections"]) == ["1", "16"]
    page = (tmp_path / "record.md").read_text()
    assert "| Ray Serve | 16 | 1 | 2 and 2 | **1.00 (1.00 to 1.00)** |" in page
    assert "int8: not measured, it ended at its start: out of luck" in page
    assert (tmp_path / "record.png").stat().st_size > 10_000


def test_a_peer_that_fails_loses_its_old_figures_and_another_commit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([{"same_best_class": 1.0, "connections": {"1": {}}}])

    def compared(*_: object) -> Any:
        if found := next(answers, None):
            return found
        raise CannotRun("no luck")

    monkeypatch.setattr(command, "compare", compared)
    for name in ("write_models", "write_page"):
        monkeypatch.setattr(command, name, lambda *_: None)
    monkeypatch.setattr(command.shutil, "which", lambda _: "wrk")
    record = tmp_path / "record.json"
    arguments = ["b", "none", "--output", str(tmp_path / "record"), "--precision", "fp32"]
    for more in ([], ["--rounds", "2"]):
        monkeypatch.setattr("sys.argv", [*arguments, *more, "--only", "ray"])
        command.main()
    found = json.loads(record.read_text())
    assert found["peers"]["ray"]["fp32"] == {"not_measured": "no luck", "connections": {}}
    assert found["command"].count("--only ray") == 2
    record.write_text(json.dumps(found | {"commit": "another"}))
    with pytest.raises(SystemExit, match="whose commit is another and not"):
        command.main()


def test_peers_are_given_the_starter_in_fp32_and_int8_once(tmp_path: Path) -> None:
    starter, models = Bundle.open(STARTER), tmp_path / "models"
    write_models(starter, models)
    facts = json.loads((models / "fp32" / "model.json").read_text())
    assert len(facts["labels"]) == starter.manifest.model.classes
    assert facts["crop"] == starter.manifest.preprocess.crop
    onnx, golden = models / "fp32" / "model.onnx", starter.golden
    logits = OrtEngine(onnx.read_bytes(), starter.manifest, 1).run(golden.crops)
    assert (logits.argmax(1) == golden.logits.argmax(1)).mean() > 0.9
    onnx.unlink()
    write_models(starter, models)
    assert not onnx.exists()
