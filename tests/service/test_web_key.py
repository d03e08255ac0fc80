"""The page of a server that asks for an API key: it is readable, and has a field for the key."""

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.doors import secret, write_keys
from tests.fakes import faking
from tests.pages.browser import chromium, needs_chromium, watching
from tests.photos import jpeg

pytestmark = [pytest.mark.process, needs_chromium]


async def test_the_page_asks_for_the_key_and_forgets_it(tmp_path: Path) -> None:
    photo = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": jpeg()}
    async with (
        faking(keys_file=write_keys(tmp_path)) as fake,
        chromium() as browser,
        watching(browser) as watched,
    ):
        page = watched.page
        await page.goto(fake.url)
        await expect(page.locator("#about")).to_have_text("The server asks for an API key.")
        await page.set_input_files("#files", photo)  # type: ignore[arg-type]
        await expect(page.locator(".failed")).to_contain_text("The server asks for an API key.")
        for name, said in (("stranger", "The server asks"), ("shop", "Ten shades of grey.")):
            field = page.get_by_label("API key")
            await field.fill(secret(name))
            await field.press("Enter")
            await expect(page.locator("#about")).to_contain_text(said)
        await expect(page.locator("#key")).to_be_hidden()
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator(".guess")).to_have_count(5)
        await expect(page.locator("pre").first).to_contain_text("Bearer $ALEXNET_API_KEY")
        assert all("401" in complaint for complaint in watched.complaints)
        kept = "[document.cookie, localStorage.length, sessionStorage.length]"
        assert await page.evaluate(kept) == ["", 0, 0]
        assert secret("shop") not in page.url
        await page.goto(f"{fake.url}/model")
        await expect(page.get_by_label("API key")).to_be_visible()
