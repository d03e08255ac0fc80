"""The client library and its commands come in where a key and a certificate are asked for."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from alexnet_client import classify
from alexnet_client.access import Access
from alexnet_client.aio import AsyncClient
from alexnet_client.client import Client
from alexnet_client.errors import ClassifyError
from alexnet_client.load.grpc import grpc_sender
from alexnet_client.load.rest import rest_sender
from alexnet_client.load.sender import OK
from tests.certificates import NEEDS_OPENSSL, Authority
from tests.doors import secret, write_keys
from tests.fakes import Fake, faking, flat

pytestmark = NEEDS_OPENSSL


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def fake(authority: Authority, tmp_path: Path) -> AsyncIterator[Fake]:
    certificate, key = authority.sign("server")
    async with faking(
        tls_certificate=certificate, tls_key=key, tls_client_ca=str(authority.certificate),
        keys_file=write_keys(tmp_path),
    ) as fake:  # fmt: skip
        yield fake


@pytest.fixture
def access(authority: Authority) -> Access:
    return Access(secret("shop"), authority.certificate, *authority.sign("client"))


async def test_the_library_shows_its_key_in_every_call(fake: Fake, access: Access) -> None:
    address = f"https://{fake.target}"
    async with AsyncClient(address, access) as client:
        assert await client.ready()
        assert (await client.classify(flat(50))).top1.index == 2
        assert (await client.model()).classes == 10
        streamed = [answer async for _, answer in client.classify_stream([flat(50)] * 3)]
        assert not [each for each in streamed if isinstance(each, ClassifyError)]

    def blocking() -> int:
        with Client(address, access) as client:
            return client.classify(flat(75)).top1.index

    assert await asyncio.to_thread(blocking) == 3
    unknown = Access("other", access.ca, access.certificate, access.key)
    async with AsyncClient(address, unknown) as client:
        with pytest.raises(ClassifyError, match="not known") as refused:
            await client.classify(flat(50))
        assert refused.value.reason == "unauthenticated"


async def test_the_load_generator_comes_in_over_both_protocols(fake: Fake, access: Access) -> None:
    async with grpc_sender(f"https://{fake.target}", [flat(50)], access=access) as sender:
        assert (await sender.send(0, 5.0)).outcome == OK
    async with rest_sender(fake.url, [flat(50)], access=access) as sender:
        assert (await sender.send(0, 5.0)).outcome == OK


async def test_the_command_takes_the_key_from_the_environment(
    fake: Fake,
    access: Access,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "photo.png").write_bytes(flat(50))
    monkeypatch.setenv("ALEXNET_API_KEY", access.api_key)
    files = "--ca", access.ca, "--certificate", access.certificate, "--key", access.key
    words = "--json", "--server", f"https://{fake.target}", *files, tmp_path / "photo.png"
    monkeypatch.setattr(sys, "argv", ["alexnet-classify", *map(str, words)])
    assert await asyncio.to_thread(classify.run) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["predictions"][0]["index"] == 2


def test_mistakes_are_said() -> None:
    with pytest.raises(ValueError, match="go together"):
        Access("", certificate="client.pem")
    with pytest.raises(ValueError, match="one line of ASCII"):
        Access("a\nb")
    with pytest.raises(ValueError, match="name the server https://host:1"):
        Access("", ca="ca.pem").channel("host:1", [])
    assert "secret" not in repr(Access("secret"))
