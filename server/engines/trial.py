"""A graph is tried in a process of its own before it is opened beside versions that serve.

A file of a kilobyte may ask for any memory, and for hours of work, while its session is made or in
its first run, and no call ends that from outside. Here a process ends instead.

    python -m server.engines.trial: reads a line of JSON and the graph from its standard input
"""

import json
import resource
import signal
import subprocess
import sys

import numpy as np

from alexnet.manifest import BundleError, Manifest
from server.engines.ort import new_session, session_options

MAX_CPU_S, MAX_BYTES = 30, 3 << 30
_WALL_S = 120.0  # it has the lowest priority beside what is served
_REFUSED = 3


def try_graph(
    onnx: bytes, manifest: Manifest, batch: int, cpu_s: int = MAX_CPU_S, most_bytes: int = MAX_BYTES
) -> None:
    """Raises BundleError, also with what the runtime says of it."""
    side = manifest.preprocess.crop
    about = {
        "input": manifest.input.name, "shape": [batch, side, side, 3],
        "cpu_s": cpu_s, "bytes": most_bytes + 8 * len(onnx),
    }  # fmt: skip
    sent = json.dumps(about).encode() + b"\n" + onnx
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(
            command, input=sent, capture_output=True, timeout=_WALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise BundleError(f"its graph is not ready after {_WALL_S:.0f} s") from None
    if done.returncode == _REFUSED:
        raise BundleError(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    if done.returncode == -signal.SIGXCPU:
        raise BundleError(f"its graph takes more than {cpu_s} s of a CPU to be opened and run once")
    if done.returncode:
        raise BundleError(
            f"its graph ended the process that tried it ({done.returncode}); "
            f"it had {most_bytes >> 20} MB of memory"
        )


def main() -> int:
    about = json.loads(sys.stdin.buffer.readline())
    graph = sys.stdin.buffer.read()
    resource.setrlimit(resource.RLIMIT_CPU, (about["cpu_s"], about["cpu_s"] + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (about["bytes"], about["bytes"]))
    options = session_options(threads=1)
    options.log_severity_level = 4  # what it says is raised, too
    try:
        session = new_session(graph, options)
        session.run(None, {about["input"]: np.zeros(about["shape"], np.uint8)})
    except Exception as error:  # each of the runtime's has its own class
        said = " ".join(str(error).split())[:300] or type(error).__name__
        if isinstance(error, MemoryError) or "allocate" in said or "bad_alloc" in said:
            said = f"it takes more than {about['bytes'] >> 20:,} MB of memory"
        print(f"its graph cannot be run: {said}", file=sys.stderr)
        return _REFUSED
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
