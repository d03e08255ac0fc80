"""How a version is opened: it yields to the requests that are served meanwhile."""

import os
import threading
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
from prometheus_client import CollectorRegistry

from alexnet.bundle import Bundle
from alexnet.manifest import BundleError
from server.app import _load
from server.engines.choice import Wanted
from server.models.opener import Opener
from server.models.policy import VersionPolicy
from server.models.repository import Repository
from server.models.sources import Source
from server.scheduler.batcher import BatchPolicy
from server.scheduler.decoder import Decoder
from server.telemetry.metrics import Metrics
from tests.repositories import Versions


@pytest.mark.parametrize("serving", [[], ["another version"]])
async def test_opening_yields_to_what_is_served_and_a_start_yields_to_nothing(
    monkeypatch: pytest.MonkeyPatch, serving: list[Any]
) -> None:
    seen: list[int] = []

    def open_bundle(path: Path) -> NoReturn:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        raise BundleError("no bundle")

    monkeypatch.setattr(Bundle, "open", open_bundle)
    decoder = cast(Any, None)  # it is not asked before a bundle has been opened
    opener = Opener(Wanted(), BatchPolicy(4), decoder, Metrics(CollectorRegistry()))
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with pytest.raises(BundleError, match="no bundle"):
        await opener.open(Source("1", Path("nowhere"), ""), serving)
    (nice,) = seen
    assert nice == 19 if serving else nice <= own


async def test_a_new_worker_is_ready_beside_others_that_serve_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the only version on disk is broken: it would never be ready else."""
    decoder = Decoder(1, 1_000_000, 1)
    versions = Versions(tmp_path, decoder, Metrics(CollectorRegistry()))
    versions.add("1", build="bad")
    served = Repository(tmp_path, VersionPolicy(), versions.open)
    await _load(served, others=[])
    assert served.served == []
    assert "golden batch" in caplog.text
    decoder.close()
