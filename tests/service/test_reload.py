"""SIGHUP: workers read certificates, keys and versions again, and go on serving meanwhile."""

import asyncio
import shutil
import signal
import socket
import ssl
from pathlib import Path

import aiohttp
import pytest

from server.healthcheck import ask
from tests.certificates import NEEDS_OPENSSL, Authority
from tests.doors import bearer, write_keys
from tests.photos import jpeg
from tests.processes import ServerProcess, start_server, stop_server

pytestmark = [pytest.mark.process, NEEDS_OPENSSL]
WORKERS = 2


async def statuses(server: ServerProcess, context: ssl.SSLContext, key: str) -> list[int]:
    """Of so many connections that each worker has some."""

    async def status() -> int:
        async with (
            aiohttp.ClientSession(server.http) as session,
            session.post("/v1/classify", data=jpeg(), headers=bearer(key), ssl=context) as response,
        ):
            return response.status

    return await asyncio.gather(*(status() for _ in range(12)))


async def served(server: ServerProcess, context: ssl.SSLContext) -> set[str]:
    async with (
        aiohttp.ClientSession(server.http) as session,
        session.get("/v1/models", headers=bearer("admin"), ssl=context) as response,
    ):
        return {model["version"] for model in (await response.json())["models"]}


async def test_workers_take_over_keys_certificates_and_versions(
    tmp_path: Path, grey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (Authority(tmp_path, name) for name in ("old", "new"))
    versions, paths = tmp_path / "versions", [tmp_path / f"served.{end}" for end in ("pem", "key")]
    shutil.copytree(grey, versions / "1")

    def put(authority: Authority) -> None:
        for source, path in zip(authority.sign(f"of-{authority.name}"), paths, strict=True):
            shutil.copyfile(source, path)

    put(old)
    trusting = [ssl.create_default_context(cafile=ca.certificate) for ca in (old, new)]
    keys = write_keys(tmp_path, "shop", "slow", "admin")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        server = await asyncio.to_thread(
            start_server, "--model", str(versions), "--workers", str(WORKERS), "--keys-file", keys,
            "--tls-certificate", str(paths[0]), "--tls-key", str(paths[1]),
        )  # fmt: skip
        try:
            assert systemd.recv(100) == b"READY=1"
            assert "an API key" in server.banner
            assert server.http.startswith("https://")
            assert ask("127.0.0.1", int(server.metrics.rpartition(":")[2]), tls=True) == ""
            assert set(await statuses(server, trusting[0], "shop")) == {200}
            slow = await statuses(server, trusting[0], "slow")  # 2 at once, of both workers
            assert 2 <= slow.count(200) <= 4
            assert set(slow) == {200, 429}

            put(new)
            write_keys(tmp_path, "admin")
            shutil.copytree(grey, versions / "2")
            server.process.send_signal(signal.SIGHUP)
            assert (await asyncio.to_thread(systemd.recv, 100)).startswith(b"RELOADING=1\n")
            assert await asyncio.to_thread(systemd.recv, 100) == b"READY=1"
            assert set(await statuses(server, trusting[1], "shop")) == {401}
            assert set(await statuses(server, trusting[1], "admin")) == {200}
            assert await served(server, trusting[1]) == {"2"}
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await statuses(server, trusting[0], "admin")
        finally:
            code, log = stop_server(server)
    assert code == 0
    assert "Traceback" not in log
    assert log.count("the API keys were read again") == WORKERS
