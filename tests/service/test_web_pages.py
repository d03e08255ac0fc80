"""The page for photos, in a real browser: from a photo to bars, and words where there is none."""

import time
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from alexnet.bundle import Bundle
from server.errors import Overloaded
from tests.fakes import Fake, faking
from tests.pages.browser import PHONE, chromium, clean, needs_chromium, watching
from tests.paths import ROOT, STARTER
from tests.photos import jpeg
from tests.processes import ServerProcess

pytestmark = [pytest.mark.process, needs_chromium]


def photo(name: str = "photo.jpg", data: bytes | None = None) -> dict[str, object]:
    return {"name": name, "mimeType": "image/jpeg", "buffer": jpeg() if data is None else data}


async def choose(page: Page, *files: dict[str, object]) -> None:
    await page.set_input_files("#files", [*files])  # type: ignore[arg-type]


async def test_a_photo_becomes_bars_and_a_crop_within_a_second(server: ServerProcess) -> None:
    side = Bundle.open(STARTER).manifest.preprocess.crop
    async with chromium() as browser, watching(browser) as watched:
        page = watched.page
        await page.goto(f"{server.http}/")
        await expect(page.locator("#about")).to_contain_text("AlexNet")
        took = []
        for _ in range(3):  # other tests have their share of the machine: the best counts
            start = time.monotonic()
            await page.click("#sample")
            await page.wait_for_selector("[aria-busy]")
            await expect(page.locator(".guess")).to_have_count(5)
            await page.wait_for_selector(".crop img")
            took.append(time.monotonic() - start)
        assert min(took) < 1, took
        first = page.locator(".guess").first
        await expect(first.locator(".label")).to_have_text("jellyfish")
        await expect(first.locator(".path")).to_have_text("animal › invertebrate › coelenterate")
        await expect(page.locator(".crop figcaption").first).to_have_text(
            f"What the network saw: {side}\u00a0×\u00a0{side}."
        )
        await expect(page.locator(".stages li")).to_have_count(5)
        await expect(page.locator("#said")).to_contain_text("sample.jpg: jellyfish, ")
        await clean(watched, server.http)


async def test_where_it_looks_is_drawn_over_the_crop_and_can_be_faded(
    server: ServerProcess,
) -> None:
    async with chromium() as browser, watching(browser) as watched:
        page = watched.page
        await page.goto(f"{server.http}/")
        await page.click("#sample")
        canvas, slider = page.locator(".crop canvas"), page.get_by_role("slider")
        await expect(page.locator(".crop")).to_contain_text("Where it sees jellyfish")
        inked = "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
        assert await canvas.evaluate(inked) > 20
        await slider.fill("0")
        assert await canvas.evaluate("c => getComputedStyle(c).opacity") == "0"
        await clean(watched, server.http)


async def test_without_class_activation_parts_are_hidden_when_asked() -> None:
    async with faking() as fake, chromium() as browser, watching(browser) as watched:
        page = watched.page
        await page.goto(fake.url)
        await choose(page, photo())
        await expect(page.locator(".crop canvas")).to_have_count(0)
        await page.get_by_role("button", name="Show where it looks").click()
        await expect(page.locator(".crop")).to_contain_text("(occlusion)")
        await clean(watched, fake.url)


async def test_the_page_is_small(server: ServerProcess) -> None:
    files = (ROOT / "server" / "api" / "web" / "static").iterdir()
    assert sum(path.stat().st_size for path in files) < 100_000


async def test_several_at_once_each_have_their_answer_or_the_words(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("milk")
    async with faking() as fake, chromium() as browser, watching(browser) as watched:
        page = watched.page
        await page.goto(fake.url)
        await choose(page, photo(), photo("two.jpg"), photo("cut.jpg", jpeg()[:400]))
        await expect(page.locator(".crop img")).to_have_count(2)
        await expect(page.locator(".failed")).to_contain_text("This photo cannot be read.")
        await expect(page.locator("img")).to_have_count(1 + 2 * 2)  # ours, photos and crops
        assert [c for c in watched.complaints if "400" in c] == watched.complaints
        watched.complaints.clear()
        await page.set_input_files("#files", tmp_path / "notes.txt")
        await expect(page.locator(".failed")).to_contain_text("This is not a photo.")
        await expect(page.locator(".failed")).to_contain_text("The file is text/plain.")
        await clean(watched, fake.url)


async def words(page: Page, *expected: str) -> None:
    await choose(page, photo())
    for each in expected:
        await expect(page.locator(".failed")).to_contain_text(each)


async def test_every_failure_has_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        faking(max_request_bytes=5000) as fake,
        chromium() as browser,
        watching(browser) as watched,
    ):
        page = watched.page
        await page.goto(fake.url)
        await words(page, "This photo is too large.", "the server takes 5 kB")
        await choose(page, photo("x.jpg", b"text"))
        await expect(page.locator(".failed")).to_contain_text("This is not a photo.")
        small = photo("s.jpg", jpeg(64, 64))

        def full(*_: object) -> None:
            raise Overloaded("all places are taken", 0.05)

        with monkeypatch.context() as patch:
            patch.setattr(fake.service.gate, "enter", full)
            await choose(page, small)
            await expect(page.locator(".failed")).to_contain_text("The server is busy")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator(".guess")).to_have_count(5)
        await page.route("**/v1/classify*", lambda route: route.fulfill(status=502, body="?"))
        await choose(page, small)
        await expect(page.locator(".failed")).to_contain_text("status 502")
        await fake.server.http.stop()
        await page.unroute("**/v1/classify*")
        await choose(page, small)
        await expect(page.locator(".failed")).to_contain_text("The server does not answer.")


async def test_on_a_phone_long_names_fit_and_bars_differ() -> None:
    async with faking() as fake, chromium() as browser:
        rename(fake, "Pneumonoultramicroscopicsilicovolcanoconiosis-like retriever of the lakes")
        async with watching(browser, PHONE, dark=True) as watched:
            page = watched.page
            await page.goto(fake.url)
            await expect(page.get_by_role("button", name="Take a photo")).to_be_visible()
            await choose(page, photo())
            await expect(page.locator(".crop img")).to_have_count(1)
            widths = await page.locator(".fill").evaluate_all("a => a.map(e => e.offsetWidth)")
            assert widths[0] > 50 * widths[1] > 0
            background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert background == "rgb(21, 21, 20)"
            await clean(watched, fake.url)


def rename(fake: Fake, name: str) -> None:
    """All classes."""
    bundle: Bundle = fake.pipeline.model.bundle
    for label in bundle.labels.rows:
        vars(label)["name"] = name


async def test_the_keyboard_is_enough(server: ServerProcess) -> None:
    async with chromium() as browser, watching(browser) as watched:
        page = watched.page
        await page.goto(f"{server.http}/")
        seen: list[str] = []
        while "sample" not in seen and len(seen) < 10:
            await page.keyboard.press("Tab")
            seen.append(await page.evaluate("document.activeElement.id"))
        assert seen[-2:] == ["choose", "sample"]
        await page.keyboard.press("Enter")
        await expect(page.locator(".guess")).to_have_count(5)
        await page.get_by_role("slider").wait_for()
        await page.keyboard.press("Tab")
        await page.keyboard.press("ArrowLeft")
        await expect(page.get_by_role("slider")).to_have_value("69")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")  # opens what follows
        await expect(page.locator("pre")).to_have_count(2)
        await expect(page.locator("pre").first).to_be_visible()


async def test_a_photo_is_pasted_and_dropped() -> None:
    async with faking() as fake, chromium() as browser, watching(browser) as watched:
        page = watched.page
        await page.goto(fake.url)
        hand_over = """([bytes, kind]) => {
            const data = new DataTransfer();
            for (const b of bytes) data.items.add(new File([new Uint8Array(b)], "p.jpg"));
            dispatchEvent(kind == "paste" ? new ClipboardEvent(kind, { clipboardData: data })
                                          : new DragEvent(kind, { dataTransfer: data }));
        }"""
        for kind in ("paste", "drop"):
            await page.evaluate(hand_over, [[[*jpeg()], [*jpeg(seed=1)]], kind])
            await expect(page.locator(".crop img")).to_have_count(2)
        await page.evaluate(hand_over, [[], "drop"])
        await expect(page.locator("#note")).to_contain_text("There was no file in that.")


async def test_the_reference_of_the_api_shows_every_path(server: ServerProcess) -> None:
    async with chromium() as browser, watching(browser) as watched:
        page = watched.page
        await page.goto(f"{server.http}/docs")
        await page.wait_for_selector(".opblock")
        shown = await page.locator("[data-path]").evaluate_all("a => a.map(e => e.dataset.path)")
        document = await (await page.request.get(f"{server.http}/openapi.json")).json()
        assert {*document["paths"]} == {*shown}
        assert any(path.startswith("/v2/") for path in shown)
        await clean(watched, server.http)
