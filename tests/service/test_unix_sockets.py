"""Unix sockets: REST and gRPC at a path beside the ports, for the user and group of the server."""

import socket
import stat
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server.api.listener import Listener
from server.config import Config, ConfigError
from server.ports import at_path
from tests.doors import bearer, write_keys
from tests.fakes import faking, flat


async def test_both_protocols_listen_at_a_path_and_ask_for_the_key(tmp_path: Path) -> None:
    http, rpc = tmp_path / "http.sock", tmp_path / "grpc.sock"
    at_path(http).close()  # what a server that was killed leaves
    paths = {"http_socket": str(http), "grpc_socket": str(rpc)}
    async with faking(keys_file=write_keys(tmp_path), **paths) as fake:  # type: ignore[arg-type]
        connector = aiohttp.UnixConnector(str(http))
        async with aiohttp.ClientSession("http://alexnet", connector=connector) as session:
            for headers, status in (({}, 401), (bearer("shop"), 200)):
                async with session.post("/v1/classify", data=flat(50), headers=headers) as response:
                    assert response.status == status
        async with grpc.aio.insecure_channel(f"unix:{rpc}") as channel:
            stub: Any = pb_grpc.ClassifierStub(channel)
            photo = pb.ClassifyRequest(image=flat(50))
            assert (await stub.Classify(photo, metadata=tuple(bearer("shop").items()))).predictions
        assert [stat.S_IMODE(path.stat().st_mode) for path in (http, rpc)] == [0o660] * 2
        async with aiohttp.ClientSession(fake.url) as session, session.get("/livez") as response:
            assert response.status == 200
        with pytest.raises(OSError, match=r"http\.sock: another server does"):
            at_path(http)
    assert not http.exists()


GET = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


def ask(path: Path) -> socket.socket | None:
    """At once: the event loop does not turn. None where nothing listens any more."""
    asking = socket.socket(socket.AF_UNIX)
    asking.settimeout(5)
    try:
        asking.connect(str(path))
    except OSError:
        asking.close()
        return None
    asking.sendall(GET)
    return asking


async def test_what_has_connected_when_the_server_ends_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server accepted till the last moment, and closed what it had not come to."""
    path, settle = tmp_path / "http.sock", Listener._settle
    asked: list[socket.socket | None] = []

    async def and_one_more(listener: Listener) -> None:
        await settle(listener)
        asked.append(ask(path))

    monkeypatch.setattr(Listener, "_settle", and_one_more)
    async with faking(http_socket=str(path)) as fake:
        asked += [ask(path) for _ in range(3)]
        await fake.server.http.stop()
        assert all(asked[:3])
        for each in filter(None, asked):
            with each:
                assert each.recv(1000).startswith(b"HTTP/1.1 200 OK")


async def test_a_server_that_finds_another_at_the_path_leaves_it_there(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    async with faking(http_socket=str(path)):
        with pytest.raises(OSError, match=r"http\.sock: another server does"):
            async with faking(http_socket=str(path)):
                pass
        assert path.is_socket()


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot listen at .*absent/http.sock: No such file"):
        at_path(tmp_path / "absent" / "http.sock")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"cannot listen at .*file: Address already in use"):
        at_path(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(ConfigError, match="no two can share a path"):
        Config(workers=2, http_socket="a")
