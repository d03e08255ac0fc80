"""How a version is opened: as nice as those who are served while that happens deserve."""

import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest
from prometheus_client import CollectorRegistry

from alexnet.bundle import Bundle
from alexnet.manifest import BundleError
from server.config import Config
from server.models.opener import Opener
from server.models.repository import Source
from server.telemetry.metrics import Metrics


@pytest.mark.parametrize(("served", "nice"), [([], 0), (["somebody"], 19)])
async def test_who_is_served_goes_before_who_opens_and_a_start_is_not_nice(
    monkeypatch: pytest.MonkeyPatch, served: list[Any], nice: int
) -> None:
    seen: list[int] = []

    def open_bundle(path: Path) -> NoReturn:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        raise BundleError("no bundle")

    monkeypatch.setattr(Bundle, "open", open_bundle)
    opener = Opener(Config(), cast(Any, None), Metrics(CollectorRegistry()))
    opener.repository = cast(Any, SimpleNamespace(served=served))
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with pytest.raises(BundleError, match="no bundle"):
        await opener.open(Source("1", Path("nowhere"), (0, 0)))
    assert seen == [max(own, nice)]
