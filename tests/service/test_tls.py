"""TLS on every port: third-party clients come in, what has no certificate does not, and an exchange
of certificates loses no request."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server.api import listener
from tests.certificates import NEEDS_OPENSSL, Authority
from tests.fakes import Fake, faking, flat

pytestmark = NEEDS_OPENSSL
CLASSIFY = "/v1/classify"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def served(authority: Authority) -> dict[str, Any]:
    certificate, key = authority.sign("server")
    return {"tls_certificate": certificate, "tls_key": key}


def trusting(authority: Authority, pair: tuple[str, str] | None = None) -> ssl.SSLContext:
    result = ssl.create_default_context(cafile=authority.certificate)
    if pair:
        result.load_cert_chain(*pair)
    return result


def channel(
    fake: Fake, authority: Authority, pair: tuple[str, str] | None = None
) -> grpc.aio.Channel:
    certificate, key = map(Path, pair) if pair else (None, None)
    credentials = grpc.ssl_channel_credentials(
        authority.certificate.read_bytes(),
        key.read_bytes() if key else None,
        certificate.read_bytes() if certificate else None,
    )
    # A channel would share the connection of another that is made alike.
    return grpc.aio.secure_channel(
        fake.target, credentials, options=[("grpc.use_local_subchannel_pool", 1)]
    )


async def code(call: Any) -> grpc.StatusCode:
    found: grpc.StatusCode = await call.code()
    return found


async def status(fake: Fake, context: ssl.SSLContext, path: str = CLASSIFY) -> int:
    """Over a connection of its own."""
    async with (
        aiohttp.ClientSession(fake.url) as session,
        session.request(
            "POST" if path == CLASSIFY else "GET", path, data=flat(50), ssl=context
        ) as response,
    ):
        return response.status


async def test_curl_and_grpc_trust_the_authority_on_every_port(
    served: dict[str, Any], authority: Authority
) -> None:
    async with faking(**served) as fake:
        for url in (f"{fake.url}/v2/models/tiny", f"{fake.private_url}/metrics"):
            ran = await asyncio.to_thread(
                subprocess.run,
                ["curl", "-sS", "--fail", "--cacert", str(authority.certificate), url],
                capture_output=True, timeout=20,
            )  # fmt: skip
            assert ran.returncode == 0, ran.stderr
        assert 19 < fake.count("alexnet_certificate_days_left") <= 20
        async with channel(fake, authority) as secure:
            stub: Any = pb_grpc.ClassifierStub(secure)
            assert (await stub.Classify(pb.ClassifyRequest(image=flat(50)))).predictions
        strange = ssl.create_default_context()
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await status(fake, strange)
        assert fake.server.door.certificates
        oldest = fake.server.door.certificates.shown.context.minimum_version
        assert oldest >= ssl.TLSVersion.TLSv1_2


async def test_what_speaks_no_tls_is_let_go_and_others_are_served(
    served: dict[str, Any], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with faking(**served) as fake, asyncio.timeout(20):
        for port in (fake.server.http.port, fake.server.grpc.port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b"200 OK" not in await reader.read()
            writer.close()
        assert await status(fake, trusting(authority)) == 200
    assert "Traceback" not in caplog.text


async def test_callers_show_a_certificate_where_it_is_asked_for(
    served: dict[str, Any], authority: Authority, tmp_path: Path
) -> None:
    mine, others = authority.sign("client"), Authority(tmp_path).sign("client")
    async with faking(**served, tls_client_ca=str(authority.certificate)) as fake:
        assert await status(fake, trusting(authority, mine)) == 200
        assert await status(fake, trusting(authority)) == 401
        assert await status(fake, trusting(authority), "/readyz") == 200
        assert await status(fake, trusting(authority), "/v1/models") == 401
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await status(fake, trusting(authority, others))
        for pair, wanted in (
            (mine, grpc.StatusCode.OK),
            (None, grpc.StatusCode.UNAVAILABLE),
            (others, grpc.StatusCode.UNAVAILABLE),
        ):
            async with channel(fake, authority, pair) as secure:
                stub: Any = pb_grpc.ClassifierStub(secure)
                call = stub.Classify(pb.ClassifyRequest(image=flat(50)), timeout=5)
                assert await code(call) is wanted
        async with (
            aiohttp.ClientSession(fake.private_url) as session,
            session.get("/metrics", ssl=trusting(authority)) as response,
        ):
            assert response.status == 401


async def shown(port: int, authority: Authority, protocol: str) -> str:
    """The name in the certificate that a new connection gets."""
    context = trusting(authority)
    context.set_alpn_protocols([protocol])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    names: Any = writer.get_extra_info("peercert")["subject"]
    writer.close()
    return str(dict(pair for row in names for pair in row)["commonName"])


async def test_an_exchange_of_certificates_loses_no_request(
    authority: Authority, tmp_path: Path
) -> None:
    paths = tmp_path / "served.pem", tmp_path / "served.key"

    def put(name: str) -> None:
        for source, path in zip(authority.sign(name), paths, strict=True):
            shutil.copyfile(source, path)

    put("first")
    files: dict[str, Any] = {"tls_certificate": str(paths[0]), "tls_key": str(paths[1])}
    async with faking(**files) as fake, asyncio.timeout(30):
        stop, answered = asyncio.Event(), [0, 0, 0]

        async def ask(number: int, once: Callable[[], Awaitable[None]]) -> None:
            while not stop.is_set():
                await once()
                answered[number] += 1

        async def anew() -> None:
            assert await status(fake, trusting(authority)) == 200

        async with channel(fake, authority) as secure, aiohttp.ClientSession(fake.url) as session:
            stub: Any = pb_grpc.ClassifierStub(secure)

            async def called() -> None:
                assert (await stub.Classify(pb.ClassifyRequest(image=flat(50)))).predictions

            async def kept() -> None:
                context = trusting(authority)
                async with session.post(CLASSIFY, data=flat(50), ssl=context) as response:
                    assert response.status == 200

            traffic = [
                asyncio.create_task(ask(i, once)) for i, once in enumerate((anew, called, kept))
            ]
            ports = (fake.server.http.port, "http/1.1"), (fake.server.grpc.port, "h2")
            for name in ("first", "second", "third"):
                if name != "first":
                    await asyncio.to_thread(put, name)
                for port, protocol in ports:
                    while await shown(port, authority, protocol) != name:
                        await asyncio.sleep(0.02)
                before = list(answered)
                while not all(a > b for a, b in zip(answered, before, strict=True)):
                    await asyncio.sleep(0.01)
                    assert not any(task.done() for task in traffic)
            stop.set()
            await asyncio.gather(*traffic)


async def test_what_says_nothing_does_not_hold_up_the_end(
    authority: Authority, served: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had a minute for its handshake, and so had the next one."""
    monkeypatch.setattr(listener, "HANDSHAKE_S", 0.5)
    connected = threading.Event()

    def honest(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 5) as plain:
            connected.set()
            with trusting(authority).wrap_socket(plain, server_hostname="localhost") as caller:
                caller.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
                return caller.recv(1000)

    async with faking(**served) as fake:
        port = fake.server.http.port
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        asked = asyncio.create_task(asyncio.to_thread(honest, port))
        await asyncio.sleep(0)
        assert connected.wait(5)  # and the event loop has accepted none of them
        began = time.monotonic()
        await fake.server.http.stop()
        assert time.monotonic() - began < 20 * 0.5
        assert (await asked).startswith(b"HTTP/1.1 200 OK")
        for each in silent:
            each.close()
