"""What a running server says on its metrics port, while its engine and its callers are held."""

import asyncio
from typing import Any

import aiohttp
import grpc
import numpy as np
import pytest

from protos import oip_pb2, oip_pb2_grpc
from tests.fakes import SIDE, Fake, faking, flat
from tests.scrapes import samples, total
from tests.uploads import uploading

MULTIPART = "multipart/form-data; boundary=x"


async def scrape(fake: Fake) -> str:
    async with (
        aiohttp.ClientSession(fake.private_url) as session,
        session.get("/metrics") as response,
    ):
        assert response.status == 200
        return await response.text()


async def post(session: aiohttp.ClientSession, value: int) -> int:
    async with session.post("/v1/classify", data=flat(value)) as response:
        await response.read()
        return response.status


async def until_waiting(fake: Fake, photos: int) -> None:
    """For the engine."""
    async with asyncio.timeout(5):
        while fake.count("alexnet_queue_photos", stage="infer") != photos:
            await asyncio.sleep(0.005)


async def pending(fake: Fake) -> dict[str, float]:
    text, name = await scrape(fake), "nv_inference_pending_request_count"
    return {model: total(text, name, model=model) for model in ("tiny", "tiny_pixels")}


async def ask_with_pixels(fake: Fake) -> None:
    crops = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    tensor = oip_pb2.ModelInferRequest.InferInputTensor(
        name="pixels", datatype="UINT8", shape=crops.shape
    )
    request = oip_pb2.ModelInferRequest(
        model_name="tiny_pixels", inputs=[tensor], raw_input_contents=[crops.tobytes()]
    )
    async with grpc.aio.insecure_channel(fake.target) as channel:
        await oip_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)


async def test_pending_are_the_requests_that_wait_and_no_others() -> None:
    """Not the one that uploads, nor the one in the engine; a form of three photos is one."""
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n%s\r\n'
    form = part % flat(50) * 3 + b"--x--\r\n"
    async with faking(max_batch_size=1) as fake, aiohttp.ClientSession(fake.url) as session:
        assert await pending(fake) == {"tiny": 0, "tiny_pixels": 0}
        fake.engine.gate.clear()
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(post(session, 0))]
        assert await asyncio.to_thread(fake.engine.started.wait, 5)
        async with (
            uploading(fake.url, flat(0)) as slow,
            uploading(fake.url, form, MULTIPART) as upload,
        ):
            await slow.send(stop=10)
            await fake.until_in_flight(2)
            assert await pending(fake) == {"tiny": 0, "tiny_pixels": 0}
            await upload.send()
            await until_waiting(fake, 3)
            assert await pending(fake) == {"tiny": 1, "tiny_pixels": 0}
            tasks.append(asyncio.create_task(post(session, 25)))
            await until_waiting(fake, 4)
            tasks.append(asyncio.create_task(ask_with_pixels(fake)))
            await until_waiting(fake, 5)
            assert await pending(fake) == {"tiny": 2, "tiny_pixels": 1}
            assert fake.count("alexnet_requests_in_flight") == 5
            fake.engine.gate.set()
            await asyncio.gather(*tasks)
            await upload.reply()
            assert await pending(fake) == {"tiny": 0, "tiny_pixels": 0}


async def test_batches_are_counted_with_their_photos_and_the_engines_time() -> None:
    async with faking(max_batch_size=4) as fake, aiohttp.ClientSession(fake.url) as session:
        fake.engine.gate.clear()
        tasks = [asyncio.create_task(post(session, 0))]
        assert await asyncio.to_thread(fake.engine.started.wait, 5)
        tasks += [asyncio.create_task(post(session, 25)) for _ in range(6)]
        await until_waiting(fake, 6)
        await asyncio.sleep(0.1)  # in which the engine runs
        fake.engine.gate.set()
        assert await asyncio.gather(*tasks) == [200] * 7
        text = await scrape(fake)
    sizes = [len(batch) for batch in fake.engine.batches]
    assert sum(sizes) == 7
    assert max(sizes) == 4
    for size in set(sizes):
        rows = total(text, "alexnet_batch_photos_total", size=str(size), version="1")
        assert rows == size * sizes.count(size)
    assert total(text, "alexnet_batch_photos_total") == total(text, "alexnet_batch_size_sum") == 7
    assert total(text, "alexnet_batch_size_count") == len(sizes)
    assert total(text, "alexnet_photos_total", outcome="ok", version="1") == 7
    busy_s = total(text, "alexnet_engine_busy_seconds_total", version="1")
    infer_s = total(text, "alexnet_request_duration_seconds_sum", stage="infer")
    assert 0.1 <= busy_s <= infer_s, "each photo has the whole run of its batch"


async def test_what_is_in_flight_stands_beside_its_limit() -> None:
    async with faking(max_queue_size=3, max_photo_bytes=1 << 20) as fake:
        fake.engine.gate.clear()
        async with aiohttp.ClientSession(fake.url) as session:
            tasks = [asyncio.create_task(post(session, 0)) for _ in range(3)]
            await fake.until_in_flight(3)
            text = await scrape(fake)
            assert total(text, "alexnet_limit", limit="requests") == 3
            assert total(text, "alexnet_limit", limit="photo_bytes") == 1 << 20
            assert total(text, "alexnet_requests_in_flight") == 3
            assert 3 * len(flat(0)) <= total(text, "alexnet_photo_bytes") <= 1 << 20
            fake.engine.gate.set()
            await asyncio.gather(*tasks)


@pytest.mark.parametrize("timeout_s", [1.0, 5.0, 60.0])
async def test_the_last_bucket_is_beyond_the_longest_deadline(timeout_s: float) -> None:
    """A quantile near the deadline can be told from one beyond it."""
    async with faking(request_timeout_s=timeout_s) as fake:
        async with aiohttp.ClientSession(fake.url) as session:
            assert await post(session, 0) == 200
        bounds = [
            float(sample.labels["le"])
            for sample in samples(await scrape(fake))
            if sample.name == "alexnet_request_duration_seconds_bucket"
            and sample.labels["stage"] == "total"
        ]
    assert sorted(bounds)[-2] > timeout_s


async def test_a_photo_that_fails_is_counted_where_it_failed() -> None:
    async with faking() as fake, aiohttp.ClientSession(fake.url) as session:
        for data, status in ((b"no photo", 415), (b"", 400), (flat(50), 200)):
            async with session.post("/v1/classify", data=data) as response:
                assert response.status == status
        fake.engine.fail = True
        assert await post(session, 75) == 500
        text = await scrape(fake)
    photos = {
        sample.labels["outcome"]: sample.value
        for sample in samples(text)
        if sample.name == "alexnet_photos_total" and sample.value
    }
    assert photos == {"unsupported_format": 1, "invalid_image": 1, "ok": 1, "engine": 1}
    assert total(text, "alexnet_dropped_total") == 0
    assert total(text, "nv_inference_request_failure", model="tiny", reason="BACKEND") == 1
    assert total(text, "nv_inference_request_failure", model="tiny", reason="OTHER") == 2


async def test_the_machine_is_told_under_tritons_names(fake: Fake) -> None:
    text = await scrape(fake)
    assert 0 <= total(text, "nv_cpu_utilization") <= 1
    assert 0 < total(text, "nv_cpu_memory_used_bytes") < total(text, "nv_cpu_memory_total_bytes")
