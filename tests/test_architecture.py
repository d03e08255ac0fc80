"""The import law and the budgets, as executable facts.

Everything is read from the source with `ast`, so a violation inside a function counts too, and
nothing heavy is imported to find it.
"""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("alexnet", "gpu", "training", "export", "server", "clients")

# package -> which of our packages it may import besides itself
MAY_IMPORT: dict[str, set[str]] = {
    "alexnet": set(),
    "gpu": {"alexnet"},
    "training": {"alexnet", "gpu", "protos"},
    "export": {"alexnet", "gpu", "training"},
    "server": {"alexnet", "gpu", "protos"},
    "clients": {"protos"},
}

# third-party package -> the only modules that may import it: one door each
DOORS = {
    "numpy": {"alexnet", "gpu", "training", "export", "server"},
    "PIL": {"alexnet.preprocess", "alexnet.samples"},
    "torch": {
        "gpu.fused",
        "gpu.kernels",
        "gpu.network",
        "server.engines.torch_cuda",
        "training",
        "export",
    },
    "triton": {"gpu.kernels"},
    "cuda": {"gpu.cuda", "gpu.facts"},
    "pynvml": {"gpu.facts", "server.gpus"},
    "safetensors": {"training.checkpoint", "training.importers"},
    "tqdm": {"training", "export", "clients"},
    "webdataset": {"training.photos"},
    "matplotlib": {"training.plots", "clients.load.plot"},
    "onnx": {"export.graph", "gpu.fused", "gpu.network", "gpu.typed"},
    "onnxruntime": {"export.parity", "server.engines.ort", "server.engines.ort_cuda"},
    "aiohttp": {"server.faces", "clients.load.rest"},
    "multidict": {"server.faces"},
    "grpc": {"server.faces", "clients"},
    "google": {"server.faces", "clients.errors", "clients.fake", "training.importers.caffe"},
    "grpc_health": {"server.faces", "clients"},
    "grpc_reflection": {"server.faces"},
    "prometheus_client": {
        "server.app",
        "server.faces.http",
        "server.faces.ops",
        "server.faces.overview",
        "server.gpus",
        "server.metrics",
        "server.totals",
    },
}

# Inside the server, top to bottom: a module imports only from the lines below it.
SERVER_LAYERS = [
    {"server.worker"},
    {"server.__main__"},
    {"server.app", "server.supervisor"},
    {"server.faces.overview"},
    {"server.banner", "server.opener", "server.faces.http", "server.faces.rpc"},
    {"server.gpus"},
    {"server.faces.rest", "server.faces.classifier", "server.faces.ops", "server.faces.docs"},
    {"server.faces.oip_rest", "server.faces.oip_rpc"},
    {"server.faces.oip_control", "server.faces.oip_json"},
    {"server.faces.workers"},
    {"server.faces.oip_metadata"},
    {"server.faces.oip_model"},
    {"server.faces.oip"},
    {"server.faces.streaming"},
    {"server.faces.replies", "server.faces.request_id", "server.faces.status"},
    {"server.faces.body", "server.faces.form", "server.faces.handlers", "server.faces.headers"},
    {"server.faces.listener"},
    {"server.faces"},
    {"server.plane"},
    {"server.admission"},
    {"server.repository"},
    {"server.served"},
    {"server.forecast"},
    {"server.batcher", "server.decode"},
    {"server.lane", "server.queue"},
    {"server.job", "server.margin", "server.trial"},
    {"server.calibration"},
    {"server.model"},
    {"server.engines.choice"},
    {"server.engines.on_gpu", "server.engines.ort"},
    {"server.engines.ort_cuda", "server.engines.torch_cuda", "server.engines.trt"},
    {"server.engines.buckets"},
    {"server.engines.base"},
    {"server.engines"},
    {"server.metrics"},
    {"server.statistics", "server.config", "server.costmodel"},
    {"server.cpus", "server.errors", "server.logs", "server.occupancy", "server.ports"},
    {"server.signals", "server.totals"},
    {"server.policy", "server.runtimes"},
]

MAX_LINES, MAX_TOTAL, MAX_TRACKED_BYTES = 300, 16_100, 40 << 20


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / package).rglob("*.py")):
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


def test_the_servers_imports_point_downwards() -> None:
    rank = {module: i for i, layer in enumerate(SERVER_LAYERS) for module in layer}
    for module, path in modules("server"):
        if module == "server":
            continue
        assert module in rank, f"{module} has no place in SERVER_LAYERS"
        for name in set(imports(path, module)) & rank.keys() - {module}:
            if module.startswith(f"{name}."):
                continue
            assert rank[name] > rank[module], f"{module} imports upwards or sideways: {name}"


def test_package_names_resolve_to_this_repository() -> None:
    for package in (*PACKAGES, "protos"):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        assert Path(spec.origin).is_relative_to(ROOT), f"{package} is shadowed by {spec.origin}"


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
    assert sum(lines.values()) <= MAX_TOTAL


def test_the_repository_stays_small() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in tracked.stdout.split("\0") if name]
    assert sum(f.stat().st_size for f in files if f.is_file()) <= MAX_TRACKED_BYTES
