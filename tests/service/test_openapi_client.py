"""Other projects' generators make clients of our document, which classify a photo and several."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.environments import environment
from tests.paths import ROOT
from tests.photos import jpeg
from tests.processes import ServerProcess

pytestmark = pytest.mark.process
DOCUMENT = ROOT / "server" / "api" / "web" / "openapi.json"
PYTHON_CLIENT = """
import io, json, sys
from made import Client
from made.api.v1 import post_v1_classify
from made.api.v2 import get_v2_models_model
from made.models import PostV1ClassifyFilesBody
from made.types import File

url, photo = sys.argv[1:]
client = Client(base_url=url, httpx_args={"trust_env": False})
def file():
    return File(payload=io.BytesIO(open(photo, "rb").read()), file_name="photo.jpg")
one = post_v1_classify.sync(client=client, body=file(), top_k=3)
two = post_v1_classify.sync(client=client, body=PostV1ClassifyFilesBody(file=[file(), file()]))
model = get_v2_models_model.sync(model="alexnet", client=client)
print(json.dumps([one.to_dict(), two.to_dict(), model.to_dict()]))
"""
GENERATOR = """
import json, sys
from made import ApiClient, Configuration, V1Api

url, photo = sys.argv[1:]
data = open(photo, "rb").read()
with ApiClient(Configuration(host=url)) as client:
    api = V1Api(client)
    one = api.put_v1_classify(data, top_k=3, _content_type="image/jpeg")
    two = api.post_v1_classify([("1.jpg", data), ("2.jpg", data)], top_k=3)
    model = api.get_v1_models_name("alexnet")
print(json.dumps([one.to_dict(), two.to_dict(), model.to_dict()]))
"""
REQUIREMENTS = Path(__file__).parent / "openapi_client" / "requirements.txt"


def test_the_client_of_openapi_python_client_classifies(
    server: ServerProcess, tmp_path: Path
) -> None:
    python = environment("openapi-client", REQUIREMENTS)
    generated = subprocess.run(
        [python.parent / "openapi-python-client", "generate", "--path", DOCUMENT,
         "--meta", "none", "--output-path", tmp_path / "made"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert generated.returncode == 0, generated.stdout
    assert "Unable to" not in generated.stdout + generated.stderr
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    asked = subprocess.run(
        [python, "-c", PYTHON_CLIENT, server.http, "photo.jpg"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    one, two, model = json.loads(asked.stdout)
    assert len(one["predictions"]) == 3
    assert [file["predictions"][0] for file in two["files"]] == [one["predictions"][0]] * 2
    assert model["name"] == "alexnet"


@pytest.mark.skipif(shutil.which("java") is None, reason="openapi-generator is a Java program")
def test_the_client_of_openapi_generator_classifies(server: ServerProcess, tmp_path: Path) -> None:
    """It knows one kind of body for an operation: PUT takes a photo, and POST a form of several."""
    python = environment("openapi-client", REQUIREMENTS)
    generated = subprocess.run(
        [python.parent / "openapi-generator-cli", "generate", "-g", "python", "-i", DOCUMENT,
         "--package-name", "made", "-o", tmp_path / "client"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert generated.returncode == 0, generated.stdout + generated.stderr
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    asked = subprocess.run(
        [python, "-c", GENERATOR, server.http, "photo.jpg"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "client")},
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    one, two, model = json.loads(asked.stdout)
    assert len(one["predictions"]) == 3
    assert [file["predictions"] for file in two["files"]] == [one["predictions"]] * 2
    assert model["name"] == "alexnet"
