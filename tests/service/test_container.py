"""The image of the Dockerfile: built, and run as process 1, without rights, on a read-only root."""

import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.images import image, run
from tests.photos import jpeg
from tests.processes import ServerProcess, free_port

# What a container engine does: namespaces of its own, the root read-only, the image's user.
START = """
set -e
mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"
mount -t proc proc "$0/proc"; mount --bind /dev "$0/dev"; mount -t tmpfs tmpfs "$0/tmp"
exec chroot --userspec=10001:10001 "$0" /usr/bin/env -i PATH=/venv/bin:/usr/bin:/bin \
    ALEXNET_HOST=127.0.0.1 ALEXNET_CACHE_DIR=/cache http_proxy=http://127.0.0.1:1 \
    /bin/sh -c 'cd /app && exec dumb-init --single-child -- alexnet-server "$@"' sh "$@"
"""

pytestmark = [pytest.mark.process, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with image(tmp_path_factory.mktemp("image")) as mounted:
        may = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False)
        if may.returncode != 0:
            pytest.skip("namespaces cannot be made here")
        yield mounted


def first(unshare: int) -> int:
    """Process 1 of the namespace, by its number out here, once the server is its child. A signal
    before that is lost: the kernel drops what a process 1 does not take yet, and dumb-init's child
    what comes between its fork and its exec."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for one in children(unshare):
            if name(one) == "dumb-init" and any(name(c) != "dumb-init" for c in children(one)):
                return one
    pytest.fail("the container did not start")


def children(process: int) -> list[int]:
    return [*map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]


def name(process: int) -> str:
    return Path(f"/proc/{process}/comm").read_text().strip()


@contextmanager
def container(root: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    flags = "--http-port", "0", "--grpc-port", "0", "--metrics-port", str(free_port())
    process = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", START, str(root),
         *flags],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    one = first(process.pid)
    try:
        yield process, one
    finally:
        # With another user it no longer ends with its parent; all that is in it ends with it.
        subprocess.run(["kill", "-KILL", str(one)], capture_output=True, check=False)
        process.kill()
        process.communicate(timeout=20)


def test_it_serves_and_is_healthy_and_ends_as_asked(root: Path) -> None:
    with container(root) as (process, one):
        assert process.stdout is not None
        banner = ""
        for line in process.stdout:
            banner += line
            if "curl" in line:
                break
        assert process.poll() is None, process.communicate()
        server = ServerProcess(process, banner)
        ask = urllib.request.Request(f"{server.http}/v1/classify", jpeg(), method="POST")
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(ask, timeout=20) as reply:
            assert reply.status == 200
        inside = ["nsenter", "-t", str(one), "-m", "-p", "chroot", "--userspec=10001:10001"]
        inside += [str(root), "/usr/bin/env", "PATH=/venv/bin:/usr/bin", "/bin/sh", "-c"]
        run(*inside, "cd /app && http_proxy=http://127.0.0.1:1 python3 -m server.healthcheck")
        written = subprocess.run([*inside, "touch /app/x"], capture_output=True, check=False)
        assert b"Read-only" in written.stderr
        one_started = time.monotonic()
        subprocess.run(["kill", "-TERM", str(one)], check=True)
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0, log
        assert "Traceback" not in log
        assert time.monotonic() - one_started < 30


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.03, 0.1, 0.3, 1.0])
def test_process_1_obeys_from_the_first_millisecond(root: Path, after_s: float) -> None:
    with container(root) as (process, one):
        time.sleep(after_s)
        subprocess.run(["kill", "-TERM", str(one)], check=True)
        process.communicate(timeout=10)
        assert process.returncode in {0, 128 + signal.SIGTERM}


def test_every_command_of_the_image_answers(root: Path) -> None:
    for name in ("alexnet-server", "alexnet-classify"):
        run("chroot", "--userspec=10001:10001", str(root), "/bin/sh", "-c",
            f"cd /app && PYTHONDONTWRITEBYTECODE=1 /venv/bin/{name} --help")  # fmt: skip
