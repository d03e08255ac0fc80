"""TensorFlow Serving's `:predict`, as its callers and those of KServe's first protocol write it."""

import base64
import json
import subprocess
from typing import Any

import aiohttp
import pytest

from tests.fakes import Fake, flat
from tests.photos import jpeg
from tests.processes import ServerProcess

PATH = "/v1/models/tiny:predict"


def b64(photo: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(photo).decode()}


async def test_photos_become_rows_of_probabilities(
    fake: Fake, session: aiohttp.ClientSession
) -> None:
    photos = [{"image": b64(flat(75))}, {"image_bytes": b64(flat(200))}, b64(flat(75))]
    for path in (PATH, "/v1/models/tiny/versions/1:predict"):
        async with session.post(path, json={"instances": photos}) as response:
            assert response.status == 200, await response.text()
            rows = (await response.json())["predictions"]
        assert [row.index(max(row)) for row in rows] == [3, 8, 3]
        assert rows[0] == rows[2]
        assert sum(rows[0]) == pytest.approx(1, abs=1e-5)
    assert fake.count("alexnet_requests_total", outcome="ok") == 2


@pytest.mark.parametrize(
    ("path", "sent", "status", "why"),
    [
        (PATH, {}, 400, "instances must be a list"),
        (PATH, {"instances": b64(b"")}, 400, "instances must be a list"),
        (PATH, {"instances": []}, 400, "batch-size must be >= 1"),
        (PATH, {"instances": ["photo"]}, 400, r"instances[0] must be {"),
        (PATH, {"instances": [b64(flat(1)), {"image": 7}]}, 400, "instances[1].image must be"),
        (PATH, {"instances": [{"b64": "?"}]}, 400, "instances[0].b64 is no base64"),
        (PATH, {"instances": [b64(b"photo")]}, 415, "image"),
        ("/v1/models/other:predict", {"instances": [b64(flat(1))]}, 404, "other"),
        ("/v1/models/tiny:classify", {}, 404, "nothing at /v1/models/tiny:classify; see /docs"),
        ("/v1/models/tiny/versions/7:predict", {"instances": [b64(flat(1))]}, 404, "version"),
    ],
)
async def test_what_is_asked_wrongly_is_told(
    session: aiohttp.ClientSession, path: str, sent: Any, status: int, why: str
) -> None:
    async with session.post(path, json=sent) as response:
        assert response.status == status
        assert why in (await response.json())["error"]["message"]


@pytest.mark.process
def test_curl_has_a_real_servers_probabilities(server: ServerProcess) -> None:
    body = json.dumps({"instances": [b64(jpeg())]})
    asked = ["curl", "--silent", "--show-error", "--data-binary", "@-"]
    replies = [
        subprocess.run([*asked, server.http + path], input=sent, capture_output=True, check=True)
        for path, sent in (
            ("/v1/models/alexnet:predict", body.encode()),
            ("/v1/classify?top_k=1", jpeg()),
        )
    ]
    rows, best = (json.loads(reply.stdout) for reply in replies)
    (row,) = rows["predictions"]
    assert max(row) == pytest.approx(best["predictions"][0]["probability"], abs=1e-5)
    assert row.index(max(row)) == best["predictions"][0]["index"]
