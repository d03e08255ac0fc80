"""The banner: its addresses can be pasted into a shell."""

from types import SimpleNamespace
from typing import Any

import pytest

from server.banner import banner
from tests.fakes import FakeEngine, tiny_bundle


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("fe80::7", "[fe80::7]"),
    ],
)
def test_addresses_can_be_pasted(host: str, shown: str) -> None:
    bundle, engine = tiny_bundle(), FakeEngine()
    model: Any = SimpleNamespace(
        bundle=bundle, artifact=bundle.manifest.artifacts[0], engine=engine, engines=(engine,),
        name="tiny", build="1",
    )  # fmt: skip
    pipeline: Any = SimpleNamespace(model=model, number="1")
    text = banner([pipeline], host, 8000, 8001, 8002, 2)
    assert f"  curl -T photo.jpg http://{shown}:8000/v1/classify\n" in text
    assert f"{shown}:8001 (with reflection" in text
    assert f"http://{shown}:8002/metrics" in text
