"""What a page in a browser on this machine can have of the server: nothing, unless it is ours."""

import asyncio
import gzip

import aiohttp
import pytest

from server.api import access
from server.errors import Disabled
from tests.fakes import Fake, faking, flat

CLASSIFY = "/v1/classify"


async def post(fake: Fake, path: str = CLASSIFY, **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(fake.url, headers=named) as session,
        session.post(path, data=flat(100)) as response,
    ):
        return response.status, await response.text()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Origin": "http://localhost:1"},
    ],
)
async def test_a_page_of_another_site_can_send_no_photo(headers: dict[str, str]) -> None:
    async with faking() as fake:
        for path in (CLASSIFY, "/v2/models/tiny/infer", "/v2/repository/index"):
            status, text = await post(fake, path, **headers)
            assert status == 403
            assert "not open to pages of other sites" in text
        assert fake.count("alexnet_requests_total") == 3  # refused, and counted as such
        assert not fake.engine.batches
        assert not fake.engine.batches


async def test_our_own_page_and_programs_can() -> None:
    async with faking() as fake:
        port = fake.server.http.port
        for headers in (
            {},
            {"Origin": fake.url, "Sec_Fetch_Site": "same-origin"},
            {"Origin": fake.url},
            {"Origin": f"http://localhost:{port}", "Host": f"localhost:{port}"},
            # Behind a proxy that is known by another name: no page can write this header.
            {"Origin": "https://photos.example", "Sec_Fetch_Site": "same-origin"},
        ):
            assert (await post(fake, **headers))[0] == 200, headers


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "a:b:c", "[::1"])
async def test_a_foreign_name_of_the_loopback_is_refused(host: str) -> None:
    """DNS rebinding: the browser takes the foreign page for one of this server's."""
    async with faking() as fake:
        status, text = await post(fake, Host=host, Sec_Fetch_Site="same-origin")
        assert status == 403
        assert "on the loopback this server is localhost" in text
        async with (
            aiohttp.ClientSession(fake.url, headers={"Host": "evil.example"}) as session,
            session.get("/v1/models") as response,
        ):
            assert response.status == 403


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "a.localhost", "127.0.0.1:80", "[::1]:80", ""]
)
def test_the_loopbacks_own_names_pass(host: str) -> None:
    access.check_host(host, "127.0.0.1")
    access.check_host(host, "::1")


def test_names_of_a_proxy_on_this_machine_pass_where_they_are_allowed() -> None:
    for names in ({"photos.example", "photos"}, {"*"}):
        access.check_host("Photos.example:8000", "127.0.0.1", names)
    for host in ("evil.example", "a.photos.example", "photos.example.evil"):
        with pytest.raises(Disabled, match=f"--allowed-hosts {host}"):
            access.check_host(host, "127.0.0.1", {"photos.example"})


def test_a_server_that_is_open_to_the_network_has_the_name_that_it_is_given() -> None:
    for listening in ("10.1.2.3", "fe80::1%eth0", ""):
        access.check_host("photos.example", listening)
    with pytest.raises(Disabled, match="not 'photos'"):
        access.check_host("photos:80", "127.0.0.1")
    with pytest.raises(Disabled, match="not 'photos'"):
        access.check_host("photos", "::ffff:127.0.0.1")  # of a socket for both families


@pytest.mark.parametrize(
    "sent",
    [
        b"no HTTP at all\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: a\r\nexpect: nonsense\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /docs HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"PUT /livez HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: evil.example\r\n\r\n",
    ],
)
async def test_no_answer_is_guessed_to_be_something_else(sent: bytes) -> None:
    async with faking() as fake, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", fake.server.http.port)
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert head.lower().count(b"x-content-type-options: nosniff\r\n") == 1


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"), ("br, GZIP;q=0.5", "gzip"), ("gzip;q=0.001", "gzip"),
        ("identity", None), ("gzip;q=0", None), ("br, gzip ; q=0.000 , deflate", None),
    ],
)  # fmt: skip
async def test_a_page_is_compressed_for_those_that_take_it(
    accepted: str, encoding: str | None
) -> None:
    async with (
        faking() as fake,
        aiohttp.ClientSession(fake.url, auto_decompress=False) as session,
        session.get("/", headers={"Accept-Encoding": accepted}) as reply,
    ):
        body = await reply.read()
        assert reply.headers.get("Content-Encoding") == encoding
    assert b"<title>" in (gzip.decompress(body) if encoding else body)


async def test_requests_that_come_while_no_answer_is_read_are_not_read_either() -> None:
    """Each was kept, and each of their answers."""
    request = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
    async with faking() as fake, asyncio.timeout(30):
        _, writer = await asyncio.open_connection("127.0.0.1", fake.server.http.port)
        sent = 0
        try:
            async with asyncio.timeout(1):
                while sent < 100 << 20:
                    writer.write(request * 1000)
                    sent += 1000 * len(request)
                    await writer.drain()
        except TimeoutError:
            pass
        writer.transport.abort()
        await asyncio.sleep(0)  # for the transport to be closed
    assert sent < 20 << 20
