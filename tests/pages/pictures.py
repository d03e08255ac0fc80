"""The pictures of the pages in the documents: `make pictures` writes them into docs/pictures/.

The server is a real one, with the shipped model; what the pictures show of times is this machine's.
"""

import asyncio
import io
from collections.abc import Awaitable, Callable

import aiohttp
from PIL import Image
from playwright.async_api import Page, expect

from tests.pages.browser import DESKTOP, PHONE, chromium, watching
from tests.pages.sample import SAMPLE
from tests.paths import ROOT
from tests.processes import start_server, stop_server

FOLDER = ROOT / "docs" / "pictures"
COLOURS = 128
"""A picture of a page has few; so it has a third of the bytes."""
ASKED = 150


async def classified(page: Page, base: str) -> None:
    await page.goto(base)
    await page.click("#sample")
    await expect(page.locator(".crop canvas")).to_be_visible()
    await expect(page.locator(".path").last).not_to_be_empty()


async def inside(page: Page, base: str) -> None:
    await page.goto(f"{base}/model")
    await expect(page.locator("#layers tbody tr")).to_have_count(8)
    async with aiohttp.ClientSession(base) as session:
        for _ in range(ASKED):
            async with session.post("/v1/classify", data=SAMPLE.read_bytes()) as reply:
                await reply.read()


PICTURES: dict[str, tuple[Callable[[Page, str], Awaitable[None]], tuple[int, int], bool]] = {
    "page": (classified, DESKTOP, False),
    "phone": (classified, PHONE, True),
    "model": (inside, DESKTOP, False),
}
"""Name -> what is done first, the size of the window, and whether it is dark."""


async def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    server = start_server()
    try:
        async with chromium() as browser:
            for name, (prepare, size, dark) in PICTURES.items():
                async with watching(browser, size, dark) as watched:
                    await prepare(watched.page, server.http)
                    shot = await watched.page.screenshot(full_page=True)
                path = FOLDER / f"{name}.png"
                image = Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS)
                image.save(path, optimize=True)
                print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    finally:
        stop_server(server)


if __name__ == "__main__":
    asyncio.run(main())
