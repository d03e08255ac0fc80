"""Hugging Face's own client, in an environment of its own, asks a real server process."""

import json
import os
import subprocess
from pathlib import Path

import aiohttp
import pytest

from tests.environments import environment
from tests.fakes import faking, flat
from tests.photos import jpeg
from tests.processes import ServerProcess

pytestmark = pytest.mark.process

PATH = "/v1/image-classification"
ASK = """
import json, sys
from huggingface_hub import InferenceClient
url, photo = sys.argv[1:]
data = open(photo, "rb").read()
by_url, by_model = InferenceClient(base_url=url), InferenceClient()
answers = [
    by_url.image_classification(data),
    by_url.image_classification(data, top_k=3, function_to_apply="softmax"),
    by_model.image_classification(photo, model=url, top_k=1),
]
print(json.dumps([[[row.label, row.score] for row in rows] for rows in answers]))
"""


async def test_the_client_of_hugging_face_is_answered(
    server: ServerProcess, tmp_path: Path
) -> None:
    requirements = Path(__file__).parent / "huggingface" / "requirements.txt"
    python = environment("huggingface", requirements)
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg())
    asked = subprocess.run(
        [python, "-c", ASK, f"{server.http}{PATH}", photo],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "none"},
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    five, three, one = json.loads(asked.stdout)
    assert (len(five), five[:3], five[:1]) == (5, three, one)
    async with (
        aiohttp.ClientSession(server.http) as session,
        session.post("/v1/classify", data=jpeg()) as response,
    ):
        best = (await response.json())["predictions"][0]
    assert five[0] == [best["label"], pytest.approx(best["probability"], abs=1e-6)]


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ({}, "inputs must be a photo in base64"),
        ({"inputs": "?"}, "inputs is no base64"),
        ({"inputs": "", "parameters": {"top_k": "5"}}, "top_k must be a whole number"),
        ({"inputs": "", "parameters": {"top_k": 0}}, "top_k must lie between 1 and 10"),
        ({"inputs": "", "parameters": {"function_to_apply": "none"}}, "must be softmax"),
        ({"inputs": "", "parameters": None}, "the image is empty"),
    ],
)
async def test_what_is_asked_wrongly_is_told(sent: object, why: str) -> None:
    async with faking() as fake, aiohttp.ClientSession(fake.url) as session:
        async with session.post(PATH, json=sent) as response:
            assert response.status == 400
            assert why in (await response.json())["error"]["message"]
        async with session.post(PATH, data=flat(75)) as response:
            assert (await response.json())[0]["label"] == "class 3"
