"""A model under the name that an operator gives it: KServe calls it as its service is called."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.photos import jpeg
from tests.processes import ServerProcess, start_server, stop_server

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server(grey: str) -> Iterator[ServerProcess]:
    running = start_server("--model", grey, "--model-name", "photos")
    yield running
    code, log = stop_server(running)
    assert code == 0, log
    assert "Traceback" not in log


def curl(server: ServerProcess, path: str, *flags: str) -> str:
    command = ["curl", "--silent", "--show-error", "--fail", *flags, server.http + path]
    done = subprocess.run(command, input=jpeg(), capture_output=True, check=True)
    return done.stdout.decode()


def test_every_face_has_it(server: ServerProcess) -> None:
    assert "photos" in server.banner
    body = "--data-binary", "@-"
    assert json.loads(curl(server, "/v1/classify", *body))["model"]["name"] == "photos"
    raw = *body, "-H", "Inference-Header-Content-Length: 0"
    curl(server, "/v2/models/photos/infer", *raw, "--output", "/dev/null")
    assert json.loads(curl(server, "/v2/models/photos_pixels"))["name"] == "photos_pixels"
    (model,) = json.loads(curl(server, "/v1/models"))["models"]
    assert model["name"] == "photos"
    with urllib.request.urlopen(server.metrics + "/metrics") as response:
        assert 'nv_inference_count{model="photos",version="1"} 2' in response.read().decode()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(server.http + "/v2/models/alexnet")
