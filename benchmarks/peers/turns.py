"""Ours and a peer in turns: the figures of every turn, and the ratios within each."""

import http.client
import os
import random
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

from benchmarks.peers.environment import CannotRun, environment
from benchmarks.peers.peer import OURS, Peer
from benchmarks.peers.running import Running, running
from benchmarks.peers.wrk import TIMEOUT_S, run_wrk, write_bodies
from benchmarks.steal import Steal

WARM_UP_S = 2
LEAST_AGREEMENT = 0.95
"""Share of photos of which the best class must be ours: other decoders may round otherwise."""
UNANSWERED = (
    OSError, http.client.HTTPException, ValueError, LookupError, TypeError, struct.error
)  # fmt: skip
"""By `ask`: no connection, no 200, or an answer in which the best class does not stand."""
RATIOS = ("per_s", "p50_ms", "p99_ms", "cpu_ms", "memory_mb")

Row = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """What is the same for all peers."""

    photos: Sequence[bytes]
    work: Path
    """For environments, models, logs."""
    python: str
    """What a peer's environment is made with."""
    rounds: int
    seconds: int
    """Of a load; wrk counts whole ones."""

    @property
    def models(self) -> Path:
        return self.work / "models"


@dataclass(frozen=True)
class Server:
    """One that runs, and the requests that are sent to it."""

    peer: Peer
    running: Running
    bodies: Path

    def ask(self, photo: bytes) -> str:
        """The best class; raises CannotRun, and SystemExit of ours."""
        try:
            return ask(self.peer, self.running.port, photo)
        except UNANSWERED as error:
            self._fail(f"a photo is not answered: {error}")

    def measure(self, connections: int, seconds: int) -> Row:
        """Raises CannotRun, and SystemExit of ours."""
        cpu_s = self.running.cpu_s()
        try:
            load = run_wrk(self.peer, self.running.port, self.bodies, connections, seconds)
        except subprocess.CalledProcessError as error:
            said = (error.stdout + error.stderr).strip()
            self._fail(f"wrk failed at {connections} connections: {said[-200:]}")
        cpu_s = self.running.cpu_s() - cpu_s
        if load.refused or load.broken or not load.requests:
            self._fail(
                f"of {load.requests} requests {load.refused} were refused and {load.broken} "
                f"broken at {connections} connections"
            )
        return {
            "per_s": round(load.per_s, 2), "p50_ms": load.p50_ms, "p99_ms": load.p99_ms,
            "cpu_ms": round(1000 * cpu_s / load.requests, 2),
            "memory_mb": round(self.running.memory_mb(), 1),
        }  # fmt: skip

    def _fail(self, problem: str) -> NoReturn:
        if self.peer is OURS:
            raise SystemExit(f"our own server cannot be measured: {problem}")
        raise CannotRun(problem)


def ask(peer: Peer, port: int, photo: bytes) -> str:
    """The best class; raises one of UNANSWERED."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        headers = {"content-type": peer.content_type, **dict(peer.headers)}
        connection.request("POST", peer.path, peer.body(photo), headers)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise ValueError(f"it answers {response.status}: {body[:200].decode(errors='replace')}")
        return peer.first(body)
    finally:
        connection.close()


@contextmanager
def serving(peer: Peer, precision: str, bench: Bench) -> Iterator[Server]:
    """Raises CannotRun."""
    name = f"{peer.name}-{precision}"
    variables = {
        "MODEL": str(bench.models / precision), "BUNDLE": str(bench.models / "bundle"),
        "PRECISION": precision, "CORES": str(len(os.sched_getaffinity(0))),
        "WORK": str(bench.work / name),
        # Those of them that report their use to their authors do not: it needs a network.
        "DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    if peer is OURS:
        folder = Path.cwd()
    else:
        bin_folder = environment(peer, bench.work, bench.python)
        folder = peer.folder
        variables |= {
            "PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(peer.folder.parent),
            "VIRTUAL_ENV": str(bin_folder.parent),
        }  # fmt: skip
    bodies = write_bodies(peer, bench.photos, bench.work / name / "bodies")
    said = ""

    def ready(port: int) -> bool:
        nonlocal said
        try:
            return bool(ask(peer, port, bench.photos[0]))
        except UNANSWERED as error:
            said = str(error)
            return False

    log = bench.work / f"{name}.log"
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running(peer.start, folder, variables, log, ready))
        except CannotRun as error:
            if peer is OURS:
                raise SystemExit(f"our own server does not run: {error}") from None
            raise CannotRun(f"{error}{said and f' ({said})'}") from None
        yield Server(peer, server, bodies)


def compare(peer: Peer, precision: str, connections: Sequence[int], bench: Bench) -> Row:
    """Of each number of connections the turns and their ratios, ours by the peer's.

    Ours runs twice where the peer has fp32: with fp32 too, and as it starts by default. Raises
    CannotRun.
    """
    with ExitStack() as stack:
        servers = {
            "peer": stack.enter_context(serving(peer, precision, bench)),
            "ours": stack.enter_context(serving(OURS, precision, bench)),
        }
        if precision == "fp32":
            servers["ours int8"] = stack.enter_context(serving(OURS, "int8", bench))
        agreement = agree(servers["peer"].ask, servers["ours"].ask, bench.photos)
        if agreement < LEAST_AGREEMENT:
            raise CannotRun(f"its best class is ours for only {agreement:.0%} of the photos")
        for server in servers.values():
            server.measure(max(connections), WARM_UP_S)
        found = {str(n): in_turns(servers, n, bench) for n in connections}
        return {"same_best_class": round(agreement, 4), "connections": found}


def agree(
    one: Callable[[bytes], str], other: Callable[[bytes], str], photos: Sequence[bytes]
) -> float:
    """The share of the photos of which both name the same class."""
    return sum(one(photo) == other(photo) for photo in photos) / len(photos)


def in_turns(servers: Mapping[str, Server], connections: int, bench: Bench) -> Row:
    turns: list[Row] = []
    for number in range(bench.rounds):
        row: Row = {}
        with Steal() as steal:
            for name in random.Random(number).sample(sorted(servers), len(servers)):
                with ExitStack() as others:
                    for other in servers.keys() - {name}:
                        if servers[other].peer.pausable:
                            others.enter_context(servers[other].running.paused())
                    row[name] = servers[name].measure(connections, bench.seconds)
        turns.append({**row, "stolen": round(steal.share, 4)})
        rates = ", ".join(f"{name} {row[name]['per_s']:.0f}" for name in servers)
        print(f"  {connections} connections: {rates} photos/s", flush=True)
    ratios = {name: ratios_of(turns, name) for name in servers if name != "peer"}
    return {"by_peer": ratios, "turns": turns}


def ratios_of(turns: Sequence[Row], ours: str) -> Row:
    """The median over the turns of ours by the peer's, the least and the most."""
    found: Row = {}
    for figure in RATIOS:
        ratios = [turn[ours][figure] / turn["peer"][figure] for turn in turns]
        found[figure] = [round(f(ratios), 3) for f in (median, min, max)]
    return found
