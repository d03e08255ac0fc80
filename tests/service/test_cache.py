"""The response cache: a photo that comes again costs no decode, over every protocol."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from protos import oip_pb2 as oip
from protos import oip_pb2_grpc as oip_grpc
from tests.access_lines import access_lines
from tests.fakes import SIDE, Fake, faking, flat

PHOTO, OTHER = flat(75), flat(200)


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    async with faking(cache_bytes=1_000_000) as fake:
        yield fake


async def classify(fake: Fake, photo: bytes = PHOTO, query: str = "") -> tuple[Any, Any]:
    async with (
        aiohttp.ClientSession(fake.url) as session,
        session.post(f"/v1/classify{query}", data=photo) as response,
    ):
        assert response.status == 200, await response.text()
        return await response.json(), response.headers


async def form(fake: Fake, *photos: bytes) -> list[dict[str, Any]]:
    sent = aiohttp.FormData()
    for i, photo in enumerate(photos):
        sent.add_field("file", photo, filename=f"{i}.png")
    async with (
        aiohttp.ClientSession(fake.url) as session,
        session.post("/v1/classify", data=sent) as response,
    ):
        return (await response.json())["files"]  # type: ignore[no-any-return]


async def infer(fake: Fake, photo: bytes = PHOTO) -> Any:
    tensor = {
        "name": "image", "datatype": "BYTES", "shape": [1],
        "parameters": {"content_type": "base64"}, "data": [base64.b64encode(photo).decode()],
    }  # fmt: skip
    async with (
        aiohttp.ClientSession(fake.url) as session,
        session.post("/v2/models/tiny/infer", json={"inputs": [tensor]}) as response,
    ):
        return await response.json()


async def test_a_photo_that_comes_again_has_the_same_answer_without_the_engine(fake: Fake) -> None:
    first, headers = await classify(fake)
    assert ("cached" in first, "cache" in headers["Server-Timing"]) == (False, False)
    fake.engine.fail = True  # it would be noticed
    for query in ("", "?top_k=5"):
        again, headers = await classify(fake, query=query)
        assert again["cached"] is True
        assert headers["Server-Timing"].endswith("cache;desc=hit")
        for name in ("predictions", "model", "image"):
            assert again[name] == first[name]
        assert (again["batch_size"], again["timing_ms"]["decode"]) == (0, 0)
    assert len((await classify(fake, query="?top_k=1"))[0]["predictions"]) == 1
    assert len(fake.engine.batches) == 1


async def test_the_log_says_which_answers_were_kept() -> None:
    async with faking(cache_bytes=1_000_000, access_log="all") as fake:
        with access_lines() as log:
            for _ in range(2):
                await classify(fake)
    assert log.of("cached") == [(None,), (True,)]


async def test_a_kept_answer_is_the_same_bit_for_bit(fake: Fake) -> None:
    length = len(PHOTO).to_bytes(4, "little")
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
    asked = oip.ModelInferRequest(
        model_name="tiny", inputs=[tensor], raw_input_contents=[length + PHOTO]
    )
    async with grpc.aio.insecure_channel(fake.target) as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        computed, kept = [await stub.ModelInfer(asked) for _ in range(2)]
    assert ("cached" in computed.parameters, "cached" in kept.parameters) == (False, True)
    assert computed.raw_output_contents[0] == kept.raw_output_contents[0] != b""


async def test_every_protocol_says_so_and_shares_it(fake: Fake) -> None:
    answers = [(await classify(fake))[0]["predictions"]]
    fake.engine.fail = True
    async with grpc.aio.insecure_channel(fake.target) as channel:
        stub, triton = pb_grpc.ClassifierStub(channel), oip_grpc.GRPCInferenceServiceStub(channel)
        one = await stub.Classify(pb.ClassifyRequest(image=PHOTO))
        stream = stub.ClassifyStream(iter([pb.ClassifyRequest(image=PHOTO)]))
        streamed = [row.response async for row in stream]
        assert [row.cached for row in (one, *streamed)] == [True, True]
        length = len(PHOTO).to_bytes(4, "little")
        tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
        asked = oip.ModelInferRequest(
            model_name="tiny", inputs=[tensor], raw_input_contents=[length + PHOTO]
        )
        inferred = [await triton.ModelInfer(asked)]
        inferred += [row.infer_response async for row in triton.ModelStreamInfer(iter([asked]))]
        assert [row.parameters["cached"].bool_param for row in inferred] == [True, True]
        assert inferred[0].raw_output_contents == inferred[1].raw_output_contents
    assert (await infer(fake))["parameters"] == {"cached": True}
    for row in await form(fake, PHOTO, PHOTO):
        assert row["cached"] is True
        answers.append(row["predictions"])
    assert answers[0] == answers[1] == answers[2]
    assert len(fake.engine.batches) == 1


async def test_crops_are_kept_too_and_a_wanted_crop_is_made(fake: Fake) -> None:
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, SIDE, SIDE, 3]}
    asked = {"inputs": [{**tensor, "data": [75] * SIDE * SIDE * 3}]}
    async with aiohttp.ClientSession(fake.url) as session:
        rows = []
        for _ in range(2):
            async with session.post("/v2/models/tiny_pixels/infer", json=asked) as response:
                rows.append(await response.json())
        assert [row.pop("parameters", None) for row in rows] == [None, {"cached": True}]
        assert rows[0] == rows[1]
        await classify(fake)
        async with session.post("/v1/classify?return=crop", data=PHOTO) as response:
            assert response.content_type == "image/png"
            assert len(await response.read()) > 50
    assert len(fake.engine.batches) == 3


async def test_equal_photos_under_way_share_one_computation(fake: Fake) -> None:
    fake.engine.gate.clear()
    waiting = [asyncio.create_task(classify(fake)) for _ in range(8)]
    await fake.until_in_flight(8)
    waiting.append(asyncio.create_task(classify(fake, OTHER)))
    await fake.until_in_flight(9)
    waiting[0].cancel()  # maybe the one that the others wait for
    fake.engine.gate.set()
    answers = await asyncio.gather(*waiting[1:])
    assert [row["predictions"][0]["index"] for row, _ in answers] == [3] * 7 + [8]
    assert sum(len(batch) for batch in fake.engine.batches) <= 3


async def test_one_that_waits_for_an_equal_photo_keeps_its_own_deadline(fake: Fake) -> None:
    fake.engine.gate.clear()
    patient = asyncio.create_task(classify(fake))
    await fake.until_in_flight(1)
    headers = {"x-request-timeout-ms": "50"}
    async with (
        aiohttp.ClientSession(fake.url, headers=headers) as session,
        session.post("/v1/classify", data=PHOTO) as response,
    ):
        assert response.status == 504
    fake.engine.gate.set()
    await patient


async def test_what_cannot_be_answered_is_not_kept(fake: Fake) -> None:
    bad = PHOTO[:40]
    for _ in range(2):
        (_, row) = await form(fake, PHOTO, bad)
        assert (row["status"], row["error"]["code"]) == (400, "invalid_image")
    fake.engine.fail = True
    (_, row) = await form(fake, PHOTO, OTHER)
    assert row["status"] == 500
    fake.engine.fail = False
    assert "cached" not in (await classify(fake, OTHER))[0]


async def test_other_weights_answer_for_themselves(fake: Fake) -> None:
    await classify(fake)
    fake.service.repository._marks = {}  # as if its file had changed
    await fake.service.repository.load()
    assert "cached" not in (await classify(fake))[0]
    assert len(fake.engine.batches) == 2


async def test_hits_and_misses_are_counted_as_in_triton(fake: Fake) -> None:
    for photo in (PHOTO, PHOTO, PHOTO, OTHER):
        await classify(fake, photo)
    labels = {"model": "tiny", "version": "1"}
    assert fake.count("nv_cache_num_hits_per_model", **labels) == 2
    assert fake.count("nv_cache_num_misses_per_model", **labels) == 2
    assert fake.count("nv_cache_miss_duration_per_model", **labels) > 0
    assert fake.count("alexnet_cache_photos_total", outcome="hit", **labels) == 2
    assert fake.count("alexnet_cache_entries") == 2
    assert fake.count("alexnet_cache_bytes") > 2000
    assert fake.count("nv_inference_count", **labels) == 2
    assert fake.count("nv_inference_request_success", **labels) == 4
    assert fake.count("alexnet_requests_total", outcome="ok") == 4
    async with (
        aiohttp.ClientSession(fake.url) as session,
        session.get("/v2/models/tiny/stats") as response,
    ):
        (stats,) = (await response.json())["model_stats"]
    counted = stats["inference_stats"]
    assert [counted[name]["count"] for name in ("cache_hit", "cache_miss")] == [2, 2]
    assert [counted[name]["count"] for name in ("success", "compute_infer")] == [4, 2]
    assert counted["cache_hit"]["ns"] > 0


async def test_without_the_option_nothing_is_kept() -> None:
    async with faking() as fake:
        for _ in range(2):
            assert "cached" not in (await classify(fake))[0]
        assert len(fake.engine.batches) == 2
        assert fake.count("nv_cache_num_misses_per_model") == 0


async def test_what_needs_more_than_the_kept_answer_is_computed(fake: Fake) -> None:
    first, _ = await classify(fake)
    for query in ("?explain=occlusion", "?views=10"):
        again, _ = await classify(fake, query=query)
        assert "cached" not in again
        assert again["predictions"][0]["index"] == first["predictions"][0]["index"]
    assert (await classify(fake, query="?labels=s1,s3"))[0]["cached"] is True
