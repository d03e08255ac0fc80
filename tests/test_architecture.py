"""The import law and the budgets, as executable facts.

Everything is read from the source with `ast`, so a violation inside a function counts too, and
nothing heavy is imported to find it.
"""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from operator import attrgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("alexnet", "gpu", "training", "export", "server", "alexnet_client")

# package -> which of our packages it may import besides itself
MAY_IMPORT: dict[str, set[str]] = {
    "alexnet": set(),
    "gpu": {"alexnet"},
    "training": {"alexnet", "gpu", "protos"},
    "export": {"alexnet", "gpu", "training"},
    "server": {"alexnet", "gpu", "protos"},
    "alexnet_client": set(),  # a distribution of its own
}

# third-party package -> the only modules that may import it: one door each
DOORS = {
    "numpy": {"alexnet", "gpu", "training", "export", "server"},
    "PIL": {
        "alexnet.colour",
        "alexnet.decoders",
        "alexnet.golden_photos",
        "alexnet.modes",
        "alexnet.occlusion",
        "alexnet.png",
        "alexnet.preprocess",
        "alexnet.resampling",
        "alexnet.samples",
        "alexnet.shown",
        "alexnet.webp",
    },
    "cykooz_resizer": {"alexnet.resampling"},
    "pi_heif": {"alexnet.decoders"},
    "torch": {
        "gpu.fused",
        "gpu.kernels",
        "gpu.network",
        "gpu.programs.torch_cuda",
        "training",
        "export",
    },
    "triton": {"gpu.kernels"},
    "cuda": {"gpu.cuda", "gpu.facts"},
    "pynvml": {"gpu.facts", "gpu.nvml"},
    "safetensors": {"training.checkpoint", "training.importers"},
    "tqdm": {"training", "export", "alexnet_client"},
    "webdataset": {"training.photos"},
    "matplotlib": {"training.plots", "alexnet_client.load.plot"},
    "onnx": {"export.graph", "gpu.fused", "gpu.network", "gpu.typed", "training.importers.bundle"},
    "pyarrow": {"alexnet_client.answers", "alexnet_client.sources"},
    "ray": {"alexnet_client.ray_data"},
    "onnxruntime": {"alexnet.onnx_runtime"},
    "openvino": {"server.engines.openvino"},
    "aiohttp": {"server.api", "server.workers", "alexnet_client.load.rest"},
    "orjson": {"server.api.oip.json"},
    "grpc": {"server.api", "alexnet_client"},
    "google": {
        "server.api",
        "alexnet_client.errors",
        "alexnet_client.fake",
        "training.importers.caffe",
    },
    "grpc_health": {"server.api"},
    "grpc_reflection": {"server.api"},
    "opentelemetry": {"server.telemetry.traces"},
    "prometheus_client": {"server.app", "server.api.probes", "server.telemetry", "server.workers"},
}

# Inside the server, top to bottom: a package or module imports only from the lines below its own.
SERVER_LAYERS = [
    {"__main__", "healthcheck", "worker"},
    {"running"},
    {"app"},
    {"workers"},
    {"banner", "options"},
    {"config"},
    {"api"},
    {"thorough"},
    {"service"},
    {"models"},
    {"scheduler"},
    {"telemetry"},
    {"engines"},
    {"door"},
    {"certificates", "keys"},
    {"watched", "allowance"},
    {"errors", "memory", "ports", "signals"},
]

MAX_LINES, MAX_TRACKED_BYTES = 300, 40 << 20


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        if not path.stem.endswith(("_pb2", "_pb2_grpc")):  # generated
            dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield dotted.removesuffix(".__init__"), path


def imports(path: Path, module: str) -> Iterator[str]:
    """Absolute dotted names imported anywhere in the file."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


ALL = [(module, path) for package in PACKAGES for module, path in modules(package)]


@pytest.mark.parametrize(("module", "path"), ALL, ids=[module for module, _ in ALL])
def test_imports_obey_the_law(module: str, path: Path) -> None:
    package = module.split(".")[0]
    ours = MAY_IMPORT[package] | {package}
    for name in sorted({name.split(".")[0] for name in imports(path, module)}):
        if name in sys.stdlib_module_names or name in ours:
            continue
        doors = DOORS.get(name, set())
        assert any(f"{module}.".startswith(f"{door}.") for door in doors), (
            f"{module} may not import {name}"
        )


def test_every_door_is_used() -> None:
    used = {name.split(".")[0] for module, path in ALL for name in imports(path, module)}
    assert not DOORS.keys() - used


def room(module: str) -> str:
    """`server.api.oip.http` -> `api`"""
    return module.split(".")[1] if "." in module else ""


def test_the_servers_imports_point_downwards() -> None:
    rank = {name: i for i, layer in enumerate(SERVER_LAYERS) for name in layer}
    for module, path in modules("server"):
        here = room(module)
        if not here:
            continue
        assert here in rank, f"{module} has no place in SERVER_LAYERS"
        for name in imports(path, module):
            there = room(name) if name.startswith("server.") else ""
            if there and there != here:
                assert rank[there] > rank[here], f"{module} imports upwards or sideways: {name}"


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    known = {module for module, _ in ALL}
    below = {
        module: {
            name
            for name in imports(path, module)
            if name in known and not f"{module}.".startswith(f"{name}.")
        }
        for module, path in ALL
    }
    order = TopologicalSorter(below)
    order.prepare()  # raises CycleError, which names the circle


def test_no_test_module_is_a_library_for_another() -> None:
    """What several tests need is in a module named for it, as tests/photos.py; fixtures come by
    their names."""
    for module, path in modules("tests"):
        for name in imports(path, module):
            last = name.rpartition(".")[2]
            shared = not (last.startswith("test_") or last == "conftest")
            assert shared or not name.startswith("tests."), f"{module} imports {name}"


def test_the_page_draws_the_layers_and_names_what_exists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawing = re.findall(r"^([a-z_][a-z_/ ]+?) {3,}\S", page.split("```")[3], re.MULTILINE)
    assert [set(row.replace("/", "").split()) for row in drawing] == SERVER_LAYERS
    for file, name in re.findall(r"\| `([\w/]+\.py): ([\w.]+)` \|", page):
        module = importlib.import_module(f"server.{file[:-3].replace('/', '.')}")
        assert attrgetter(name)(module), f"{file} has no {name}"
    for path in re.findall(r"`((?:server|alexnet|gpu|training|protos)/[\w/]+\.\w+)`", page):
        assert (ROOT / path).exists(), path


def test_what_starts_processes_is_marked() -> None:
    """So that a quick run can do without: `make test ARGS='-m "not process"'`."""
    signs = ("sys.executable", "start_server(", "server: ServerProcess", "Apart()", "on_terminal(")
    for module, path in modules("tests"):
        if ".test_" in module and not module.startswith(("tests.gpu.", "tests.gpu_build.")):
            text = path.read_text()
            found = [sign for sign in signs if sign in text]
            assert not found or "pytest.mark.process" in text, f"{module} has {found[0]}"


def test_package_names_resolve_to_this_repository() -> None:
    for package in (*PACKAGES, "protos"):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        assert Path(spec.origin).is_relative_to(ROOT), f"{package} is shadowed by {spec.origin}"


@pytest.mark.process
def test_the_server_starts_without_torch() -> None:
    code = "import sys, server.app, server.engines.ort; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_server_knows_no_model_constant() -> None:
    """Geometry and normalisation come from the bundle (docs/adr/0004-pixels-in-logits-out.md)."""
    for module, path in modules("server"):
        for literal in ("224", "227", "0.485", "0.229", "1000-class"):
            assert literal not in path.read_text(), f"{module} contains {literal}"


def test_size_budgets() -> None:
    lines = {module: len(path.read_text().splitlines()) for module, path in ALL}
    assert not {module: n for module, n in lines.items() if n > MAX_LINES}


def test_the_repository_stays_small() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in tracked.stdout.split("\0") if name]
    assert sum(f.stat().st_size for f in files if f.is_file()) <= MAX_TRACKED_BYTES
