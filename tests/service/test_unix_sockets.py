"""Unix sockets: REST and gRPC at a path beside the ports, for the user and group of the server."""

import stat
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
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


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot listen at .*absent/http.sock: No such file"):
        at_path(tmp_path / "absent" / "http.sock")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"cannot listen at .*file: Address already in use"):
        at_path(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(ConfigError, match="no two can share a path"):
        Config(workers=2, http_socket="a")
