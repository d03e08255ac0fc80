"""KServe's own clients, of its first and second protocol, ask a real server process."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.environments import environment
from tests.photos import jpeg
from tests.processes import start_server, stop_server

pytestmark = pytest.mark.process

ASK = """
import asyncio, base64, json, sys
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

url, target, name, path = sys.argv[1:]
photo = open(path, "rb").read()

def tensor():
    made = InferInput("image", [1], "BYTES")
    made.set_data_from_numpy(np.array([photo], object))
    return InferRequest(name, [made])

async def main():
    first, second = (InferenceRESTClient(RESTConfig(protocol=p)) for p in ("v1", "v2"))
    over_grpc = InferenceGRPCClient(target)
    ready = [
        await first.is_model_ready(url, name), await second.is_model_ready(url, name),
        await second.is_server_ready(url), await second.is_server_live(url),
        await over_grpc.is_model_ready(name), await over_grpc.is_server_ready(),
    ]
    body = {"instances": [{"b64": base64.b64encode(photo).decode()}]}
    found = await first.infer(url, body, model_name=name)
    rows = [found["predictions"][0]]
    for answer in (
        await second.infer(url, tensor(), model_name=name), await over_grpc.infer(tensor()),
    ):
        rows.append(answer.outputs[0].as_numpy().ravel().tolist())
    await over_grpc.close()
    print(json.dumps([ready, rows]))

asyncio.run(main())
"""


def test_it_is_ready_and_classifies_under_the_name_of_the_service(
    starter: str, tmp_path: Path
) -> None:
    python = environment("kserve", Path(__file__).parent / "kserve" / "requirements.txt")
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    server = start_server("--model", starter, "--model-name", "photos")
    try:
        asked = subprocess.run(
            [python, "-c", ASK, server.http, server.grpc, "photos", "photo.jpg"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    finally:
        code, log = stop_server(server)
    assert asked.returncode == 0, asked.stderr
    ready, (first, *others) = json.loads(asked.stdout)
    assert ready == [True] * 6
    for row in others:
        assert row == pytest.approx(first, abs=1e-6)
    assert sum(first) == pytest.approx(1, abs=1e-4)
    assert code == 0
    assert "Traceback" not in log
