"""What is done with a body before anything in it is looked at: counted, bounded, inflated aside."""

import asyncio
import gc
import gzip
import io
import os
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import aiohttp
import numpy as np
import pytest

from server.api import bodies
from server.api.bodies import MAX_RATIO, SHORT_BYTES
from server.errors import BadRequest, Expired
from server.scheduler import cpus
from tests.fakes import Fake, faking, flat
from tests.photos import png

CLASSIFY, FORM = "/v1/classify", {"Content-Type": "multipart/form-data; boundary=x"}


async def post(
    fake: Fake, path: str, body: bytes, method: str = "POST", **headers: str
) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(fake.url, headers=named) as session,
        session.request(method, path, data=io.BytesIO(body)) as response,
    ):
        assert response.content_type == "application/json"
        return response.status, await response.json()


def raw_deflate(data: bytes) -> bytes:
    squeezed = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeezed.compress(data) + squeezed.flush()


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("X-GZIP", gzip.compress),
        ("gzip", lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:])),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
    ],
)
async def test_a_compressed_photo_is_inflated(encoding: str, compress: Any) -> None:
    async with faking() as fake:
        status, answer = await post(fake, CLASSIFY, compress(flat(75)), Content_Encoding=encoding)
        assert (status, answer["predictions"][0]["index"]) == (200, 3)
        await fake.until_in_flight(0)
        assert fake.count("alexnet_photo_bytes") == 0


@pytest.mark.parametrize("encoding", ["br", "zstd", "rot13", "gzip, br"])
@pytest.mark.parametrize("path", [CLASSIFY, "/v2/models/tiny/infer"])
async def test_an_encoding_that_is_not_known_is_refused_as_json(path: str, encoding: str) -> None:
    async with faking() as fake:
        status, answer = await post(fake, path, flat(0), Content_Encoding=encoding)
        assert status == 415
        assert "Content-Encoding must be gzip or deflate" in str(answer["error"])


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"no gzip", 400, "cannot be decompressed"),
        (b"", 400, "ends within its compressed data"),
        (gzip.compress(flat(0), mtime=0)[:-9], 400, "ends within its compressed data"),
        (gzip.compress(flat(0), mtime=0) + b"x", 400, "something follows the compressed data"),
        (gzip.compress(bytes(30 << 20)), 413, "the upload is too large; at most"),
        (gzip.compress(bytes(9 << 20)), 413, f"over {MAX_RATIO} times its size"),
        (gzip.compress(bytes(1 << 19)) * 9, 413, f"over {MAX_RATIO} times its size"),
        (gzip.compress(flat(0), mtime=0) * 2 + b"x", 400, "something follows the compressed data"),
        (gzip.compress(b"", mtime=0) * 101, 400, "over 100 members of gzip: compress it as one"),
    ],
)
async def test_compressed_data_is_whole_and_no_bomb(body: bytes, status: int, why: str) -> None:
    limit = 20 << 20 if len(body) < 10_000 else 1 << 20
    async with faking(max_request_bytes=limit) as fake:
        got, answer = await post(fake, CLASSIFY, body, Content_Encoding="gzip")
        assert (got, why in answer["error"]["message"]) == (status, True), answer
        await fake.until_in_flight(0)
        assert fake.count("alexnet_photo_bytes") == 0


async def test_a_million_members_of_gzip_are_not_inflated_one_by_one() -> None:
    body = gzip.compress(b"") * 1_000_000
    async with faking(max_request_bytes=len(body)) as fake:
        start = time.process_time()
        assert (await post(fake, CLASSIFY, body, Content_Encoding="gzip"))[0] == 400
        assert time.process_time() - start < 3  # each copies what follows it


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/livez"), ("GET", "/v1/models"), ("DELETE", CLASSIFY)]
)
async def test_where_no_body_is_wanted_none_is_inflated(method: str, path: str) -> None:
    """20 kB became 20 MB on the event loop, on every route."""
    bomb = gzip.compress(bytes(200 << 20))
    async with faking() as fake:
        start = time.process_time()
        await asyncio.gather(
            *(post(fake, path, bomb, method, Content_Encoding="gzip") for _ in range(8))
        )
        assert time.process_time() - start < 0.5


async def test_bodies_are_inflated_and_parsed_by_one_thread_which_yields() -> None:
    """Four at once kept honest photos waiting for 300 ms, and JSON for 700 ms."""
    tensor = b'{"inputs":[' + b"0," * 100_000 + b"0]}"
    before = {*threading.enumerate()}
    async with faking() as fake:
        for path in ("/v2/models/tiny/infer", "/v1/image-classification"):
            body = gzip.compress(tensor) if "tiny" in path else tensor
            given = {"Content_Encoding": "gzip" if body != tensor else "identity"}
            given["Content_Type"] = "application/json"
            asked = (post(fake, path, body, **given) for _ in range(4))
            assert {status for status, _ in await asyncio.gather(*asked)} == {400}
        threads = [each for each in {*threading.enumerate()} - before if "body" in each.name]
        assert len(threads) == 1
        assert threads[0].native_id is not None
        assert os.getpriority(os.PRIO_PROCESS, threads[0].native_id) == cpus.DECODER


@pytest.fixture
def busy() -> Iterator[threading.Event]:
    """Set, it lets the thread for bodies go on."""
    go_on = threading.Event()
    yield go_on
    go_on.set()


PARSED = {
    "/v2/models/tiny/infer": b'{"inputs":[' + b" " * SHORT_BYTES + b"]}",
    "/v1/models/tiny:predict": b'{"instances":[]}',
    "/v1/image-classification": b'{"inputs":""}',
}


@pytest.mark.parametrize("path", PARSED)
async def test_a_body_that_waits_to_be_parsed_at_its_deadline_never_is(
    path: str, busy: threading.Event
) -> None:
    """The last of many had its 504 after all of them were parsed, and kept its place till then."""
    async with faking() as fake, asyncio.timeout(10):
        gate, given = fake.service.gate, {"Content_Type": "application/json"}
        before = gate.aside.submit(busy.wait, 10)
        start = time.monotonic()
        status, answer = await post(fake, path, PARSED[path], x_request_timeout_ms="200", **given)
        assert time.monotonic() - start >= 0.2
        assert (status, "the deadline passed after" in str(answer["error"])) == (504, True)
        assert not before.done()
        await fake.until_in_flight(0)
        assert gate.held == 0
        busy.set()
        assert (await post(fake, path, PARSED[path], **given))[0] == 400


async def test_a_deadline_that_the_event_loop_has_not_noticed_yet_is_noticed_in_turn() -> None:
    parsed: list[bytes] = []
    async with faking() as fake:
        gate = fake.service.gate
        with fake.service.admit("rest", 0.05) as admitted:
            gate.aside.submit(time.sleep, 0.1)
            waits = asyncio.create_task(bodies.aside(admitted, parsed.append, b""))
            await asyncio.sleep(0)
            gate.aside.submit(int).result(10)  # the event loop is busy until its turn is over
            with pytest.raises(Expired):
                await waits
    assert parsed == []


async def test_a_body_whose_deadline_passes_while_it_is_parsed_leaves_no_error_behind(
    busy: threading.Event,
) -> None:
    left: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: left.append(context))

    def unreadable() -> None:
        busy.wait(10)
        raise BadRequest("no")

    async with faking() as fake:
        with fake.service.admit("rest", 0.05) as admitted, pytest.raises(Expired):
            await bodies.aside(admitted, unreadable)
        busy.set()
        await asyncio.wrap_future(fake.service.gate.aside.submit(int))
        gc.collect()
        await asyncio.sleep(0)
    assert left == []


async def test_a_form_is_sent_as_it_is() -> None:
    async with faking() as fake:
        newlines = gzip.compress(b"\n" * (1 << 20))
        status, answer = await post(fake, CLASSIFY, newlines, Content_Encoding="gzip", **FORM)
        assert status == 415
        assert "a form takes no Content-Encoding" in answer["error"]["message"]
        status, answer = await post(fake, CLASSIFY, b"\n" * (1 << 20), **FORM)
        assert status == 400
        assert "the boundary that its Content-Type names is nowhere" in answer["error"]["message"]


async def test_what_a_control_takes_is_sent_as_it_is() -> None:
    async with faking(repository_control="local") as fake:
        body = gzip.compress(b" " * (30 << 20))
        status, answer = await post(fake, "/v2/repository/index", body, Content_Encoding="gzip")
        assert status == 415
        assert "takes no Content-Encoding" in answer["error"]


async def test_a_body_that_is_being_inflated_is_counted_with_what_it_may_become() -> None:
    noise = np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes()
    async with faking(max_photo_bytes=1_500_000) as fake:
        answers = await asyncio.gather(
            *(post(fake, CLASSIFY, gzip.compress(noise), Content_Encoding="gzip") for _ in "ab")
        )
        assert sorted(status for status, _ in answers) == [415, 429]
        assert (await post(fake, CLASSIFY, png(64, 64)))[0] == 200
