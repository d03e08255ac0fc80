"""The throughput of 1, 2 and 4 workers, in turns.

    python -m benchmarks.workers photo.jpg tile.jpg --output docs/records/workers_MACHINE_DATE

Needs wrk (https://github.com/wg/wrk), which itself uses little CPU time. Measures a model of almost
no cost, which leaves the cost of the server, and the starter. Writes OUTPUT.json photo by photo.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from alexnet.bundle import Bundle, sha256
from alexnet.golden import Golden
from alexnet.manifest import File
from alexnet.spec import Preprocess
from benchmarks.server import STARTER, Server, describe_run, run_server

WORKERS = (1, 2, 4)
SIDE = 8
CONNECTIONS = 32
POST = 'wrk.method = "POST"; wrk.body = io.open(os.getenv("PHOTO"), "rb"):read("*all")'


def instant_bundle() -> Bundle:
    """A bundle with the starter's classes that takes microseconds: it uses channel means only."""
    starter = Bundle.open(STARTER)
    manifest = starter.manifest
    classes = manifest.model.classes
    shape = ["batch", SIDE, SIDE, 3]
    weights = np.random.default_rng(0).normal(size=(3, classes)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", [manifest.input.name], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], [manifest.output.name]),
    ]
    graph = helper.make_graph(
        nodes, "instant",
        [helper.make_tensor_value_info(manifest.input.name, TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(manifest.output.name, TensorProto.FLOAT, [None, classes])],
        [numpy_helper.from_array(weights, "weights")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    artifact = manifest.artifacts[0]
    crops = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    golden = Golden(crops, np.zeros((1, classes), np.float32)).to_bytes()
    files = {
        **starter.files, artifact.file: onnx.ModelProto.SerializeToString(model),
        manifest.golden.file: golden,
    }  # fmt: skip
    artifact = replace(artifact, sha256=sha256(files[artifact.file]))
    return Bundle(
        replace(
            manifest,
            artifacts=(artifact,),
            preprocess=Preprocess(SIDE, SIDE),
            input=replace(manifest.input, shape=("batch", SIDE, SIDE, 3)),
            golden=File(manifest.golden.file, sha256(golden)),
        ),
        files,
        "instant",
    )


async def run_wrk(server: Server, photo: Path, seconds: float) -> dict[str, float]:
    """The throughput by wrk, and the CPU time per request of the server and of wrk."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(POST)
        script.flush()
        cpu_s = await server.metric("process_cpu_seconds_total")
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = await asyncio.create_subprocess_exec(
            "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "-s", script.name,
            f"{server.http}/v1/classify", stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PHOTO": str(photo)},
        )  # fmt: skip
        text = (await process.communicate())[0].decode()
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
    wrk_s = now.ru_utime + now.ru_stime - own.ru_utime - own.ru_stime
    requests = int(re.findall(r"(\d+) requests in", text)[0])
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"some requests were not answered:\n{text}")
    return {
        "per_s": round(requests / seconds, 1),
        "server_cpu_ms": round(
            1000 * (await server.metric("process_cpu_seconds_total") - cpu_s) / requests, 3
        ),
        "wrk_cpu_ms": round(1000 * wrk_s / requests, 3),
    }


async def compare(model: Path, photo: Path, seconds: float, rounds: int) -> dict[str, Any]:
    rows: dict[int, list[dict[str, float]]] = {workers: [] for workers in WORKERS}
    for _ in range(rounds):
        for workers in WORKERS:
            async with run_server("--model", str(model), "--workers", str(workers)) as server:
                await run_wrk(server, photo, 1)
                rows[workers].append(await run_wrk(server, photo, seconds))
            print(f"  {workers} workers: {rows[workers][-1]}", flush=True)
    one = median(row["per_s"] for row in rows[1])
    ratios = {n: round(median(row["per_s"] for row in rows[n]) / one, 2) for n in WORKERS}
    return {"by_one_worker": ratios, "runs": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path, nargs="+", help="each is measured separately")
    parser.add_argument("--output", type=Path, required=True, help="without a suffix")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed")
    photos, seconds, rounds = options.photos, options.seconds, options.rounds
    names = " ".join(photo.name for photo in photos)
    found = describe_run(
        f"python -m benchmarks.workers {names} --seconds {seconds:g} --rounds {rounds}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, bundle in (("instant", instant_bundle()), ("starter", Bundle.open(STARTER))):
            bundle.write(Path(folder) / name)
            for photo in photos:
                print(f"{name}, {photo.name}", flush=True)
                runs = asyncio.run(compare(Path(folder) / name, photo, seconds, rounds))
                found[f"{name}, {photo.name}"] = {"bytes": photo.stat().st_size, **runs}
                options.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
