"""A real browser: Chromium without a window, which reports what a page complains about."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
DESKTOP, PHONE = (1200, 900), (360, 740)


@dataclass
class Watched:
    """A page, all that was wrong on it, and where it asked for something."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    received: int = 0


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        arguments = ["--disable-gpu", "--disable-quic", "--disable-background-networking"]
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=arguments, chromium_sandbox=False
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def watching(
    browser: Browser, size: tuple[int, int] = DESKTOP, dark: bool = False, scale: float = 1
) -> AsyncIterator[Watched]:
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        device_scale_factor=scale,
        is_mobile=size == PHONE,
        has_touch=size == PHONE,
        reduced_motion="reduce",
    )
    page = await context.new_page()
    watched = Watched(page)
    page.on(
        "console",
        lambda message: (
            watched.complaints.append(message.text)
            if message.type in ("error", "warning")
            else None
        ),
    )
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    page.on("request", lambda request: watched.hosts.add(urlsplit(request.url).netloc))
    try:
        yield watched
    finally:
        await context.close()


async def clean(watched: Watched, base: str) -> None:
    """Nothing was wrong, and nothing was asked of another server."""
    assert watched.complaints == []
    assert watched.hosts <= {base.removeprefix("http://"), ""}  # "" has blob:
    page = watched.page
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = (await Axe().run(page)).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert not [(each["id"], each["nodes"][0]["html"]) for each in serious]
