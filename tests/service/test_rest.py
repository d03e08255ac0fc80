"""The REST face of a real server process, asked by clients of other projects."""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.photos import jpeg, png
from tests.processes import ServerProcess

pytestmark = pytest.mark.process


@pytest.fixture
async def session(server: ServerProcess) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.http) as session:
        yield session


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_raw_body_answers_with_five_classes(
    session: aiohttp.ClientSession, method: str
) -> None:
    async with session.request(method, "/v1/classify", data=jpeg(320, 240)) as response:
        body = await response.json()
        assert response.status == 200
        predictions = body["predictions"]
        assert len(predictions) == 5
        assert set(predictions[0]) == {"index", "synset", "label", "probability"}
        probabilities = [p["probability"] for p in predictions]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 1.0001
        assert body["image"] == {
            "format": "JPEG", "width": 320, "height": 240, "mode": "RGB", "orientation": 1,
            "icc": "", "frames": 1, "warnings": [],
        }  # fmt: skip
        assert body["model"]["name"] == "alexnet"
        timing = body["timing_ms"]
        stages = ["upload", "decode_queue", "decode", "batch_queue", "infer", "total"]
        assert set(timing) == {*stages, "queue"}
        assert timing["queue"] == pytest.approx(
            timing["decode_queue"] + timing["batch_queue"], abs=0.002
        )
        assert timing["total"] >= sum(timing[stage] for stage in stages[:-1]) - 0.003
        assert response.headers["x-request-id"] == body["request_id"]
        told = response.headers["Server-Timing"].split(", ")
        assert [part.partition(";dur=")[0] for part in told] == stages
        assert response.headers["Server"] == "alexnet-server"


async def test_top_k_counts_the_classes(session: aiohttp.ClientSession) -> None:
    for k in (1, 17, 1000):
        async with session.post("/v1/classify", params={"top_k": k}, data=png()) as response:
            body = await response.json()
            assert len({p["index"] for p in body["predictions"]}) == k


async def test_a_form_with_one_file_answers_like_a_raw_body(session: aiohttp.ClientSession) -> None:
    form = aiohttp.FormData()
    form.add_field("file", jpeg(), filename="a.jpg", content_type="image/jpeg")
    async with session.post("/v1/classify", data=form) as response:
        body = await response.json()
    async with session.post("/v1/classify", data=jpeg()) as response:
        assert body["predictions"] == (await response.json())["predictions"]


async def test_a_form_with_several_files_has_a_status_for_each(
    session: aiohttp.ClientSession,
) -> None:
    form = aiohttp.FormData()
    for name, data in (("good.jpg", jpeg()), ("bad.jpg", b"text"), ("also.png", png())):
        form.add_field("file", data, filename=name)
    async with session.post("/v1/classify", data=form) as response:
        assert response.status == 200
        files = (await response.json())["files"]
    assert [(f["file"], f["status"]) for f in files] == [
        ("good.jpg", 200), ("bad.jpg", 415), ("also.png", 200),
    ]  # fmt: skip
    assert len(files[0]["predictions"]) == 5
    assert files[1]["error"]["code"] == "unsupported_format"


async def test_the_callers_request_id_comes_back(session: aiohttp.ClientSession) -> None:
    headers = {"x-request-id": "trace-42"}
    async with session.post("/v1/classify", data=jpeg(), headers=headers) as response:
        assert response.headers["x-request-id"] == "trace-42"
        assert (await response.json())["request_id"] == "trace-42"


async def test_the_model_says_what_it_is(session: aiohttp.ClientSession) -> None:
    async with session.get("/v1/models") as response:
        (model,) = (await response.json())["models"]
    assert model["classes"] == 1000
    assert model["precision"] == "int8"
    assert str(model["known_classes"]) in model["description"]
    async with session.get(f"/v1/models/{model['name']}") as response:
        assert await response.json() == {**model, "ready": True}
    async with session.get("/v1/models/resnet") as response:
        assert response.status == 404


async def test_probes_and_metrics(server: ServerProcess) -> None:
    async with aiohttp.ClientSession() as session:
        for base in (server.http, server.metrics):
            for probe in ("livez", "readyz"):
                async with session.get(f"{base}/{probe}") as response:
                    assert response.status == 200
        async with session.get(f"{server.metrics}/metrics") as response:
            text = await response.text()
        assert 'engine="onnxruntime-cpu",name="alexnet",precision="int8",version="1"} 1.0' in text
        async with session.get(f"{server.http}/metrics") as response:
            assert response.status == 404, "metrics are not for the public port"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_line_on_the_banner_works(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg(2000, 1500, quality=95))
    line = server.banner.strip().splitlines()[-1].split()
    assert line[0] == "curl"
    run = subprocess.run(
        [*line, "--silent", "--fail", "--max-time", "20"],
        cwd=tmp_path, capture_output=True, check=True,
    )  # fmt: skip
    assert len(json.loads(run.stdout)["predictions"]) == 5
