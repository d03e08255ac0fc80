"""The image, built for real without Docker: buildah, on a base that debootstrap makes of Debian."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.paths import ROOT

MIRROR = "http://deb.debian.org/debian"
# What pip needs to reach its index from here; a build elsewhere has no such files.
SEEN_BY_PIP = "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf"
# What the storage without overlays takes at its fullest: each layer is a whole copy.
ROOM = 4 << 30


def run(*command: str, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-3000:]}{done.stdout[-2000:]}"
    return str(done.stdout).strip()


@contextmanager
def image(folder: Path) -> Iterator[Path]:
    """Its root, mounted; skips with a reason where it cannot be built."""
    missing = [tool for tool in ("buildah", "debootstrap", "unshare") if not shutil.which(tool)]
    if missing or os.getuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing) or 'nothing else'}")
    base = folder / "base"
    made = subprocess.run(
        # In a mount namespace of its own: an interrupted debootstrap leaves its /proc mounted.
        ["unshare", "--mount", "debootstrap", "--variant=minbase",
         "--include=python3,python3-venv,ca-certificates", "bookworm", str(base), MIRROR],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        pytest.skip(f"no Debian to build on: {made.stderr.strip()[-200:]}")
    if shutil.disk_usage(folder).free < ROOM:
        pytest.skip(f"needs {ROOM >> 30} GiB of disk under {folder}")
    buildah = ["buildah", "--storage-driver", "vfs"]
    buildah += ["--root", str(folder / "store"), "--runroot", str(folder / "run")]
    container = run(*buildah, "from", "scratch")
    try:
        run(*buildah, "add", "-q", container, str(base), "/")
        shutil.rmtree(base)
        run(*buildah, "commit", "-q", container, "base")
        volumes = [f"--volume={name}:{name}:ro" for name in SEEN_BY_PIP if Path(name).exists()]
        run(
            *buildah, "bud", "--isolation", "chroot", "--format", "docker", "--pull-never",
            "--build-arg", "BASE=localhost/base", *volumes, "-t", "alexnet", str(ROOT),
        )  # fmt: skip
        built = run(*buildah, "from", "--pull-never", "localhost/alexnet")
        yield Path(run(*buildah, "mount", built))
    finally:
        run(*buildah, "rm", "--all")
        run(*buildah, "rmi", "--all", "--force")
