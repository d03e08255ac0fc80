"""The banner: its addresses can be pasted into a shell."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from alexnet.bundle import Bundle
from alexnet.manifest import Accuracy, Taught
from server.banner import banner
from server.door import Door
from tests.fakes import FakeEngine, tiny_bundle


def pipeline(bundle: Bundle) -> Any:
    engine = FakeEngine()
    model = SimpleNamespace(
        bundle=bundle, artifact=bundle.manifest.artifacts[0], engine=engine, engines=(engine,),
        name="tiny", build="1",
    )  # fmt: skip
    return SimpleNamespace(model=model, number="1")


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "127.0.0.1"),
        ("fe80::7", "[fe80::7]"),
    ],
)
def test_addresses_can_be_pasted(host: str, shown: str) -> None:
    text = banner([pipeline(tiny_bundle())], host, 8000, 8001, 8002, 2)
    assert f"  curl -T photo.jpg http://{shown}:8000/v1/classify\n" in text
    assert f"{shown}:8001 (with reflection" in text
    assert f"http://{shown}:8002/metrics" in text


@pytest.mark.parametrize(
    ("known", "words"), [(10, "top-1 50.0%, top-5 90.0% on photos"), (5, "top-1 50.0% on photos")]
)
def test_five_guesses_among_five_classes_are_not_told(known: int, words: str) -> None:
    bundle, engine = tiny_bundle(), FakeEngine()
    manifest = bundle.manifest
    artifact = replace(manifest.artifacts[0], accuracy=Accuracy(0.5, 0.9, 100, "photos"))
    manifest = replace(manifest, model=replace(manifest.model, known_classes=known))
    model: Any = SimpleNamespace(
        bundle=SimpleNamespace(manifest=manifest), artifact=artifact, engine=engine,
        engines=(engine,), name="tiny", build="1",
    )  # fmt: skip
    pipeline: Any = SimpleNamespace(model=model, number="1")
    assert f"accuracy  {words}\n" in banner([pipeline], "::", 8000, 8001, 8002, 2)


def test_what_a_teacher_told_is_told_apart_from_labelled_photos() -> None:
    bundle = tiny_bundle()
    assert "taught" not in banner([pipeline(bundle)], "127.0.0.1", 8000, 8001, 8002, 2)
    manifest = replace(
        bundle.manifest,
        model=replace(bundle.manifest.model, known_classes=4),
        taught=Taught("lite0", 330_000, 6),
    )
    text = banner([pipeline(replace(bundle, manifest=manifest))], "127.0.0.1", 1, 2, 3, 2)
    row = "  taught    4 classes by labelled photos, 6 by lite0's answers to 330,000 photos\n"
    assert row in text
    manifest = replace(manifest, taught=Taught("lite0", 330_000, 0))
    text = banner([pipeline(replace(bundle, manifest=manifest))], "127.0.0.1", 1, 2, 3, 2)
    row = "  taught    4 classes by labelled photos and lite0's answers to 330,000 photos\n"
    assert row in text, "no class is known from the answers only"


@pytest.mark.parametrize(
    ("mutual", "keys", "line", "asks"),
    [
        (False, False, "curl -T photo.jpg https://127.0.0.1:8000/v1/classify", ""),
        (
            True,
            True,
            'curl --cert client.pem --key client.key -H "Authorization: Bearer $ALEXNET_API_KEY" '
            "-T photo.jpg https://127.0.0.1:8000/v1/classify",
            "asks for  a client certificate and an API key\n",
        ),
    ],
)
def test_what_a_caller_must_show_is_said(mutual: bool, keys: bool, line: str, asks: str) -> None:
    certificates: Any = SimpleNamespace(mutual=mutual)
    asked: Any = SimpleNamespace() if keys else None
    door = Door(certificates, asked)
    text = banner([pipeline(tiny_bundle())], "::", 8000, 8001, 8002, 2, door=door)
    assert f"  {line}\n" in text
    assert asks in text
    assert "asks for" in text or not asks
    assert "127.0.0.1:8001 (TLS, with reflection" in text
    assert "https://127.0.0.1:8002/metrics" in text
