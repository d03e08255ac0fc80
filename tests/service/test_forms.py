"""Many photos in one upload: one request with one place, whose photos each have an end."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.fakes import Fake, faking, flat
from tests.uploads import uploading

MULTIPART = "multipart/form-data; boundary=x"


def form(*photos: int | bytes) -> bytes:
    """Of shades, or of what else is sent for a photo."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%d.png"\r\n\r\n%s\r\n'
    files = [flat(photo) if isinstance(photo, int) else photo for photo in photos]
    return b"".join(head % each for each in enumerate(files)) + b"--x--\r\n"


def under_way(fake: Fake) -> float:
    """Photos that wait, or that the engine holds."""
    return fake.count("alexnet_queue_photos") + sum(map(len, fake.engine.batches))


def found(files: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(file["status"], file["predictions"][0]["index"]) for file in files]


async def test_a_form_that_is_uploaded_while_its_version_is_exchanged_is_answered() -> None:
    async with faking(max_batch_size=1) as fake:
        before, repository = fake.pipeline, fake.service.repository
        async with uploading(fake.url, form(25, 75, 200), MULTIPART) as upload:
            await upload.send(stop=-20)
            await fake.until_in_flight(1)
            repository._marks = {}  # as if its file had changed
            await repository.load()
            (closing,) = repository._closing
            assert fake.pipeline is not before
            fake.engine.gate.clear()
            await upload.send(start=-20)
            assert await asyncio.to_thread(fake.engine.started.wait, 5)
            assert not closing.done()
            fake.engine.gate.set()
            assert found((await upload.reply()).json["files"]) == [(200, 1), (200, 3), (200, 8)]
        await asyncio.wait_for(closing, 5)


async def test_a_form_of_more_photos_than_there_are_places_takes_one_and_leaves_room() -> None:
    """Its photos are under way a few at a time."""
    async with (
        faking(max_batch_size=32, max_queue_size=16) as fake,
        uploading(fake.url, form(*[50] * 30), MULTIPART) as upload,
    ):
        fake.engine.gate.clear()
        await upload.send()
        assert await asyncio.to_thread(fake.engine.started.wait, 5)
        async with asyncio.timeout(5):
            while under_way(fake) != fake.service.share:
                await asyncio.sleep(0.005)
        assert fake.count("alexnet_requests_in_flight") == 1
        async with aiohttp.ClientSession(fake.url) as session:
            other = asyncio.create_task(session.post("/v1/classify", data=flat(225)))
            await fake.until_in_flight(2)
            fake.engine.gate.set()
            assert (await other).status == 200
        assert found((await upload.reply()).json["files"]) == [(200, 2)] * 30
        assert fake.count("alexnet_requests_total", outcome="overloaded") == 0


async def test_a_form_is_counted_as_one_request_and_each_of_its_photos_as_a_photo() -> None:
    bad = b"no photo"
    async with faking() as fake:
        for body, statuses in ((form(bad, 50, 75), [415, 200, 200]), (form(bad, bad), [415, 415])):
            async with uploading(fake.url, body, MULTIPART) as upload:
                await upload.send()
                files = (await upload.reply()).json["files"]
            assert [file["status"] for file in files] == statuses
        await fake.until_in_flight(0)
        requests = {
            outcome: fake.count("alexnet_requests_total", face="rest", outcome=outcome, version="1")
            for outcome in ("ok", "unsupported_format")
        }
        photos = {
            outcome: fake.count("alexnet_photos_total", outcome=outcome, version="1")
            for outcome in ("ok", "unsupported_format")
        }
        assert requests == {"ok": 1, "unsupported_format": 1}
        assert photos == {"ok": 2, "unsupported_format": 3}
        assert fake.count("alexnet_requests_total") == 2
        assert fake.count("nv_inference_request_success", model="tiny") == 1
        assert fake.count("nv_inference_request_failure", model="tiny", reason="OTHER") == 1
        assert fake.count("nv_inference_count", model="tiny") == 2


async def test_photos_that_wait_for_their_turn_have_the_forms_clock() -> None:
    """A photo whose turn comes after the form's deadline expires, and says so."""
    timeout = {"X_Request_Timeout_Ms": "400"}
    async with (
        faking(max_batch_size=1, max_queue_size=2) as fake,
        uploading(fake.url, form(50, 75, 100), MULTIPART, **timeout) as upload,
    ):
        fake.engine.gate.clear()
        await upload.send()
        files = (await upload.reply()).json["files"]
        fake.engine.gate.set()
        assert [file["status"] for file in files] == [504] * 3
        assert {file["error"]["code"] for file in files} == {"expired"}
        assert "before it was this photo's turn" in files[-1]["error"]["message"]
        assert "after 4" in files[0]["error"]["message"]  # hundred milliseconds and a few
        await fake.until_in_flight(0)
        assert fake.count("alexnet_photos_total", outcome="expired") == 3
        assert fake.count("alexnet_requests_total", outcome="expired") == 1


async def test_the_time_of_a_photo_is_that_of_its_form() -> None:
    async with (
        faking(max_batch_size=1, max_queue_size=2) as fake,
        uploading(fake.url, form(50, 75), MULTIPART) as upload,
    ):
        await upload.send(stop=-20)
        await fake.until_in_flight(1)
        await asyncio.sleep(0.05)  # a slow sender
        await upload.send(start=-20)
        times = [file["timing_ms"] for file in (await upload.reply()).json["files"]]
        assert all(each["upload"] >= 50 for each in times)
        assert all(each["total"] > each["upload"] + each["queue"] for each in times)


async def test_a_form_of_two_photos_finds_the_only_place_there_is() -> None:
    async with (
        faking(max_queue_size=1) as fake,
        uploading(fake.url, form(50, 75), MULTIPART) as upload,
    ):
        await upload.send()
        assert found((await upload.reply()).json["files"]) == [(200, 2), (200, 3)]


@pytest.mark.parametrize(
    ("query", "headers"),
    [("?nope=1", {}), ("?top_k=many", {}), ("?top_k=99", {}), ("", {"x-request-priority": "9"})],
)
@pytest.mark.parametrize("multipart", [False, True], ids=["raw", "form"])
async def test_a_wrong_option_is_counted(
    query: str, headers: dict[str, str], multipart: bool
) -> None:
    async with faking() as fake, aiohttp.ClientSession(fake.url) as session:
        body, kind = (form(50), MULTIPART) if multipart else (flat(50), "image/png")
        headers = {"content-type": kind, **headers}
        async with session.post(f"/v1/classify{query}", data=body, headers=headers) as response:
            assert response.status == 400
            assert (await response.json())["error"]["code"] == "invalid_argument"
        outcomes = fake.count("alexnet_requests_total", face="rest", outcome="invalid_argument")
        assert outcomes == 1
        assert fake.count("alexnet_photo_bytes") == 0
