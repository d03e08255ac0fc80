"""What is measured of how cost grows outlives what goes wrong later."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from alexnet_client.load.sender import Reply
from benchmarks import growth
from benchmarks.server import Server


def test_a_series_is_on_the_disk_when_the_next_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sweep(name: str, *_: object) -> Any:
        return {"1": [{"ms": 1.0}]}

    def no_server(*_: object) -> None:
        raise SystemExit("the server did not start")

    monkeypatch.setattr(growth, "sweep", sweep)
    monkeypatch.setattr(growth, "run_server", no_server)
    monkeypatch.setattr(growth, "photos_of", lambda _: [])
    monkeypatch.setattr("sys.argv", ["growth", "--output", str(tmp_path / "new" / "growth")])
    with pytest.raises(SystemExit, match="did not start"):
        growth.main()
    record = json.loads((tmp_path / "new" / "growth.json").read_text())
    assert record["batch"] == {"1": [{"ms": 1.0}]}


def test_a_server_that_is_gone_is_an_outcome() -> None:
    async def ask() -> Reply:
        gone = Server("", "http://127.0.0.1:1", "")
        async with growth.asking(gone, [b"a photo"], "top_k=5") as (sender, _):
            return await sender.send(0, 5.0)

    assert asyncio.run(ask()) == Reply("unavailable")
