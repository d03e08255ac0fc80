"""nginx in front of a server, which it shows under a path of its own."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.processes import free_port

NGINX = shutil.which("nginx")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

CONFIGURATION = """
daemon off; pid {folder}/pid; error_log {folder}/errors;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location {path} {{ proxy_pass {url}/; proxy_set_header Host localhost; }}
  }}
}}
"""


@asynccontextmanager
async def behind_nginx(url: str, path: str, folder: Path) -> AsyncIterator[str]:
    """The address there."""
    assert NGINX
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, port=port, path=path, url=url))
    process = await asyncio.create_subprocess_exec(NGINX, "-c", str(configuration), "-p", folder)
    base = f"http://127.0.0.1:{port}{path}"
    try:
        async with aiohttp.ClientSession() as session:
            for _ in range(100):
                try:
                    async with session.get(f"{base}livez") as reply:
                        assert reply.status == 200
                    break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
        yield base
    finally:
        process.terminate()
        await process.wait()
