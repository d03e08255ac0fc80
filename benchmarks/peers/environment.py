"""An environment of its own for each peer, made when it is first wanted, with the versions that
its requirements.txt states."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from benchmarks.peers.peer import Peer


class CannotRun(Exception):
    """Why a peer is not measured; the message is for the record."""


def environment(peer: Peer, folder: Path, python: str) -> Path:
    """The `bin` of its environment; raises CannotRun.

    `python` is the system's by default: PyTriton loads libpython, which many builds lack.
    """
    for command in peer.needs:
        if shutil.which(command) is None:
            raise CannotRun(f"{command} is not installed")
    requirements = peer.folder / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + python.encode()).hexdigest()
    place, stamp = folder / peer.name, folder / peer.name / "stamp"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"{peer.title}: installing into {place}", flush=True)
        _run(python, "-m", "venv", "--clear", str(place))
        pip = str(place / "bin" / "pip"), "--quiet", "--disable-pip-version-check"
        _run(*pip, "install", "--no-cache-dir", "--requirement", str(requirements))
        stamp.write_text(wanted)
    return place / "bin"


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotRun(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise CannotRun(f"{' '.join(command[1:4])} failed: {' '.join(last)}")
