"""A load of wrk (https://github.com/wg/wrk), a process of its own that uses little CPU time."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.peer import Peer

SCRIPT = Path(__file__).with_name("photos.lua")
TIMEOUT_S = 30


@dataclass(frozen=True)
class Answered:
    requests: int
    seconds: float
    refused: int
    """Answers with another status than 2xx or 3xx."""
    broken: int
    """Connections that failed, and answers that did not come in time."""
    p50_ms: float
    p99_ms: float

    @property
    def per_s(self) -> float:
        return (self.requests - self.refused) / self.seconds


def write_bodies(peer: Peer, photos: Sequence[bytes], folder: Path) -> Path:
    """What is posted to this peer, a file for each photo; the list of them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index}.body" for index in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        path.write_bytes(peer.body(photo))
    bodies = folder / "bodies.txt"
    bodies.write_text("".join(f"{path}\n" for path in paths))
    return bodies


def run_wrk(peer: Peer, port: int, bodies: Path, connections: int, seconds: int) -> Answered:
    headers = (("content-type", peer.content_type), *peer.headers)
    done = subprocess.run(
        ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s",
         "--timeout", f"{TIMEOUT_S}s", "--script", str(SCRIPT), f"http://127.0.0.1:{port}", "--",
         peer.path, str(bodies), *(word for header in headers for word in header)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return Answered(**json.loads(done.stdout.splitlines()[-1]))
