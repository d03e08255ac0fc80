"""The page that looks into the network, in a real browser; and all pages behind a proxy's path."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect

from tests.fakes import faking, flat
from tests.pages.browser import PHONE, chromium, clean, needs_chromium, watching
from tests.pages.proxy import behind_nginx, needs_nginx
from tests.photos import jpeg
from tests.processes import ServerProcess

pytestmark = [pytest.mark.process, needs_chromium]


async def test_layers_filters_files_and_card_are_shown(server: ServerProcess) -> None:
    async with chromium() as browser, watching(browser) as watched:
        page = watched.page
        await page.goto(f"{server.http}/model")
        await expect(page.locator("#layers tbody tr")).to_have_count(8)
        first = page.locator("#layers tbody tr").first
        await expect(first).to_contain_text("conv1")
        await expect(first).to_contain_text("23,232")
        await expect(page.locator("#layers tfoot")).to_contain_text("32,778,944")
        image = page.locator("#filters img")
        assert await image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 96
        await expect(page.locator("#files")).to_contain_text("model.int8.onnx")
        await expect(page.locator("#card h3").first).to_contain_text("alexnet")
        await expect(page.locator("#card table").first).to_be_visible()
        await clean(watched, server.http)


async def test_charts_follow_what_is_asked(server: ServerProcess) -> None:
    async with chromium() as browser, watching(browser, PHONE, dark=True) as watched:
        page = watched.page
        await page.goto(f"{server.http}/model")
        photos = page.locator(".chart", has_text="Photos a second").locator("output")
        await expect(photos).to_have_text("0.0")
        async with asking(server.http):
            await expect(photos).not_to_have_text("0.0")
            latency = page.locator(".chart", has_text="Half of the requests within")
            await expect(latency.locator("output")).to_contain_text("ms")
            await expect(latency).to_contain_text("99 of 100 within")
            drawn = await page.locator(".chart path").first.get_attribute("d")
            assert drawn is not None
            assert drawn.count("L") >= 1
        await clean(watched, server.http)


@asynccontextmanager
async def asking(base: str) -> AsyncIterator[None]:
    """One photo after the other, meanwhile."""

    async def ask() -> None:
        async with aiohttp.ClientSession(base) as session:
            while True:
                async with session.post("/v1/classify", data=jpeg()) as reply:
                    assert reply.status == 200

    task = asyncio.ensure_future(ask())
    try:
        yield
    finally:
        task.cancel()


async def test_a_network_that_cannot_be_read_is_told() -> None:
    async with faking() as fake, chromium() as browser, watching(browser) as watched:
        await watched.page.goto(f"{fake.url}/model")
        await expect(watched.page.locator("#layers")).to_contain_text("no chain of layers")
        await expect(watched.page.locator("#filters")).to_contain_text("does not look at colours")
        await clean(watched, fake.url)


@pytest.mark.parametrize("classes", [5, 6])
async def test_five_guesses_among_five_classes_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, classes: int
) -> None:
    monkeypatch.setattr("tests.fakes.CLASSES", classes)
    async with faking() as fake, chromium() as browser, watching(browser) as watched:
        await watched.page.goto(f"{fake.url}/model")
        scores = ["Top-1", "Top-5"] if classes > 5 else ["Top-1"]
        titles = ["File", "Served", "Size", *scores, "Measured on", "Agrees with training"]
        await expect(watched.page.locator("#files th")).to_have_text(titles)
        await expect(watched.page.locator("#files td")).to_have_count(len(titles))


@needs_nginx
async def test_all_pages_work_under_a_path_of_nginx(tmp_path: Path) -> None:
    async with faking() as fake, chromium() as browser, watching(browser) as watched:
        page = watched.page
        async with behind_nginx(fake.url, "/vision/", tmp_path) as base:
            await page.goto(base)
            photo = tmp_path / "photo.png"
            photo.write_bytes(flat(75))
            await page.set_input_files("#files", photo)
            await expect(page.locator(".guess .label").first).to_have_text("class 3")
            await page.get_by_text("Do the same").click()
            await expect(page.locator("pre").first).to_contain_text(f"{base}v1/classify")
            await page.get_by_role("link", name="Model").click()
            await expect(page.locator("#files")).to_contain_text("model.fake")
            await page.get_by_role("link", name="API").click()
            await page.wait_for_selector(".opblock")
            await clean(watched, base.removesuffix("/vision/"))
