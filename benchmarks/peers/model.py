"""The model that all servers are given, in fp32 and int8: ONNX for the peers, a bundle for ours."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from alexnet.bundle import Bundle, sha256
from gpu.typed import float_graph

PRECISIONS = ("fp32", "int8")


def write_models(bundle: Bundle, folder: Path) -> None:
    """`folder`/bundle for ours; `folder`/fp32 and `folder`/int8 with model.onnx and model.json.

    A bundle without fp32, as the starter, gets the int8 network's weights in fp32, without rounding
    between layers.
    """
    if not (found := folder / "of").exists() or found.read_text() != _identity(bundle):
        shutil.rmtree(folder, ignore_errors=True)
        whole = with_fp32(bundle)
        whole.write(folder / "bundle")
        for precision in PRECISIONS:
            _write_plain(whole, precision, folder / precision)
        found.write_text(_identity(bundle))


def with_fp32(bundle: Bundle) -> Bundle:
    by_precision = {a.precision: a for a in bundle.manifest.artifacts}
    if "fp32" in by_precision:
        return bundle
    int8 = by_precision["int8"]
    graph: bytes = float_graph(bundle.files[int8.file]).SerializeToString()
    fp32 = replace(int8, file="model.onnx", sha256=sha256(graph), precision="fp32", accuracy=None)
    manifest = replace(bundle.manifest, artifacts=(*bundle.manifest.artifacts, fp32))
    return Bundle(manifest, {**bundle.files, fp32.file: graph}, "peers")


def _write_plain(bundle: Bundle, precision: str, folder: Path) -> None:
    manifest, spec = bundle.manifest, bundle.manifest.preprocess
    folder.mkdir(parents=True)
    artifact = next(a for a in manifest.artifacts if a.precision == precision)
    (folder / "model.onnx").write_bytes(bundle.files[artifact.file])
    facts = {
        "input": manifest.input.name, "crop": spec.crop, "resize": spec.resize,
        "interpolation": spec.interpolation,
        "labels": [label.name for label in bundle.labels.rows],
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(facts))


def _identity(bundle: Bundle) -> str:
    return sha256(bundle.manifest.to_json().encode())
