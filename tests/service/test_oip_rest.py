"""The REST face of the Open Inference Protocol on a real server process, asked by curl."""

import base64
import gzip
import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.photos import jpeg
from tests.processes import ServerProcess

pytestmark = pytest.mark.process


def curl(server: ServerProcess, path: str, *options: str, data: bytes | None = None) -> Any:
    """Status and the JSON of the answer."""
    post = ("--data-binary", "@-") if data is not None else ()
    finished = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *post, *options, server.http + path],
        input=data, capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    text, _, status = finished.stdout.rpartition(b"\n")
    return int(status), json.loads(text)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("health/live", {"live": True}),
        ("health/ready", {"ready": True}),
        ("models/alexnet/ready", {"name": "alexnet", "ready": True}),
        ("models/alexnet_pixels/versions/1/ready", {"name": "alexnet_pixels", "ready": True}),
    ],
)
def test_health(server: ServerProcess, path: str, expected: dict[str, Any]) -> None:
    assert curl(server, f"/v2/{path}") == (200, expected)


def test_the_server_and_its_models_describe_themselves(server: ServerProcess) -> None:
    assert curl(server, "/v2")[1]["name"] == "alexnet-server"
    _, model = curl(server, "/v2/models/alexnet/versions/1")
    assert model["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}]
    _, config = curl(server, "/v2/models/alexnet_pixels/config")
    assert config["input"][0]["format"] == "FORMAT_NHWC"


def test_statistics_are_numbers(server: ServerProcess) -> None:
    _, everything = curl(server, "/v2/models/stats")
    assert [m["name"] for m in everything["model_stats"]] == ["alexnet", "alexnet_pixels"]
    _, one = curl(server, "/v2/models/alexnet/versions/1/stats")
    assert isinstance(one["model_stats"][0]["inference_stats"]["queue"]["ns"], int)


def test_a_photo_in_base64_is_answered_as_over_the_servers_own_protocol(
    server: ServerProcess,
) -> None:
    photo = jpeg(320, 240)
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(photo).decode()],
    }
    asked = {
        "id": "7",
        "inputs": [tensor],
        "outputs": [{"name": "probabilities", "parameters": {"classification": 5}}],
    }
    status, answer = curl(server, "/v2/models/alexnet/infer", data=json.dumps(asked).encode())
    assert (status, answer["id"], answer["model_version"]) == (200, "7", "1")
    _, own = curl(server, "/v1/classify", data=photo)
    found = [text.split(":", 2) for text in answer["outputs"][0]["data"]]
    expected = own["predictions"]
    assert [(int(i), label) for _, i, label in found] == [
        (p["index"], p["label"]) for p in expected
    ]
    assert [float(score) for score, _, _ in found] == pytest.approx(
        [p["probability"] for p in expected], abs=2e-6
    )


def test_a_photo_may_follow_the_json(server: ServerProcess, tmp_path: Path) -> None:
    photo = jpeg(320, 240)
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1, 1],
        "parameters": {"binary_data_size": 4 + len(photo)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    data = head + len(photo).to_bytes(4, "little") + photo
    length = f"Inference-Header-Content-Length: {len(head)}"
    status, answer = curl(server, "/v2/models/alexnet/infer", "-H", length, data=data)
    assert (status, answer["outputs"][0]["shape"]) == (200, [1, 1000])
    assert sum(answer["outputs"][0]["data"]) == pytest.approx(1)


@pytest.mark.parametrize(("photos", "compressed"), [(8, True), (1, False)])
def test_long_answers_are_compressed_where_that_is_accepted(
    server: ServerProcess, photos: int, compressed: bool
) -> None:
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [photos],
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(jpeg(64, 64, seed=i)).decode() for i in range(photos)],
    }
    asked = json.dumps({"inputs": [tensor]}).encode()
    url, opener = f"{server.http}/v2/models/alexnet/infer", urllib.request.build_opener()
    with opener.open(urllib.request.Request(url, asked)) as reply:
        plain = reply.read()
        assert reply.headers["Content-Encoding"] is None
    with opener.open(urllib.request.Request(url, asked, {"Accept-Encoding": "gzip"})) as reply:
        sent = reply.read()
        assert reply.headers["Content-Encoding"] == ("gzip" if compressed else None)
    assert (gzip.decompress(sent) if compressed else sent) == plain
    assert (len(sent) < len(plain) / 1.5) is compressed


def test_a_photo_may_be_all_of_the_body(server: ServerProcess, tmp_path: Path) -> None:
    """Triton's raw binary request."""
    (tmp_path / "photo.jpg").write_bytes(jpeg(320, 240))
    (tmp_path / "head").touch()
    finished = subprocess.run(
        ["curl", "-sS", "--fail", "-D", str(tmp_path / "head"),
         "--data-binary", f"@{tmp_path / 'photo.jpg'}",
         "-H", "Content-Type: application/octet-stream",
         "-H", "Inference-Header-Content-Length: 0", f"{server.http}/v2/models/alexnet/infer"],
        capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    headers = dict(
        line.lower().split(": ", 1)
        for line in (tmp_path / "head").read_text().splitlines()
        if ": " in line
    )
    head = int(headers["inference-header-content-length"])
    (output,) = json.loads(finished.stdout[:head])["outputs"]
    assert (output["shape"], output["datatype"]) == ([1, 1000], "FP32")
    probabilities = np.frombuffer(finished.stdout[head:], "<f4")
    _, own = curl(server, "/v1/classify", data=jpeg(320, 240))
    assert probabilities.argmax() == own["predictions"][0]["index"]
    assert probabilities.max() == pytest.approx(own["predictions"][0]["probability"], abs=2e-6)


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v2/classify", 404, "there is nothing at /v2/classify"),
        ("/v2/models/alexnet/infer", 405, "takes POST, not GET"),
        ("/v2/models/resnet", 404, "Request for unknown model: 'resnet' is not found"),
        ("/v2/models/resnet/ready", 404, "Request for unknown model"),
        ("/v2/models/resnet/config", 404, "Request for unknown model"),
        ("/v2/models/resnet/stats", 404, "Request for unknown model"),
        ("/v2/models/alexnet/versions/9", 404, "version '9' of alexnet is not served"),
    ],
)
def test_what_is_not_there_is_not_found(
    server: ServerProcess, path: str, status: int, message: str
) -> None:
    found, answer = curl(server, path)
    assert found == status
    assert message in answer["error"]
