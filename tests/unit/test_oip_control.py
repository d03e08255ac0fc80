"""From where versions may be loaded and unloaded, and how long and how urgent a request is."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from alexnet.manifest import BundleError
from server.api.oip.control import RepositoryControl
from server.api.oip.grpc import _peer
from server.api.oip.models import OipModels
from server.errors import BadRequest, Disabled, NotFound
from server.models.control import Control
from tests.fakes import Fake, faking
from tests.repositories import FakeRepository

HERE = "127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"
THERE = "192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7", "", "localhost"


def control(allowed: str, repository: Any) -> RepositoryControl:
    service: Any = SimpleNamespace(repository=repository)
    return RepositoryControl(OipModels(service), Control(repository, {}), allowed)


@pytest.mark.parametrize(
    ("setting", "peer", "allowed"),
    [
        *(("off", peer, False) for peer in HERE + THERE),
        *(("local", peer, True) for peer in HERE),
        *(("local", peer, False) for peer in THERE),
    ],
)
async def test_the_operator_says_from_where_the_models_may_be_changed(
    setting: str, peer: str, allowed: bool
) -> None:
    repository = FakeRepository()
    asked = control(setting, repository)
    if allowed:
        await asked.load(peer, "m", {})
        await asked.unload(peer, "m_pixels")
        assert await asked.index(peer, only_ready=False)
    else:
        with pytest.raises(Disabled):
            await asked.load(peer, "m", {})
        with pytest.raises(Disabled):
            await asked.unload(peer, "m_pixels")
        with pytest.raises(Disabled):
            await asked.index(peer, only_ready=False)
    assert repository.calls == (["load", "unload"] if allowed else [])


@pytest.mark.parametrize("error", [BundleError("is cut off"), PermissionError(13, "denied")])
async def test_a_model_that_cannot_be_loaded_is_no_bug_of_ours(error: Exception) -> None:
    repository = FakeRepository()
    repository.load = AsyncMock(side_effect=error)  # type: ignore[method-assign]
    with pytest.raises(BadRequest, match=r"failed to load 'm': .*(is cut off|denied)"):
        await control("local", repository).load("::1", "m", {})


async def test_a_load_that_fails_after_its_caller_hung_up_is_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ready = asyncio.Event()

    async def load() -> None:
        await ready.wait()
        raise BundleError("is cut off")

    repository: Any = SimpleNamespace(load=load)
    before = asyncio.all_tasks()
    asked = asyncio.create_task(Control(repository, {}).load())
    await asyncio.sleep(0)  # it has begun
    asked.cancel()
    await asyncio.wait([asked])
    (loading,) = asyncio.all_tasks() - before
    ready.set()
    await asyncio.wait([loading])
    del loading
    gc.collect()  # asyncio reports an error that nothing looked at when its task is gone
    assert [(each.levelno, each.message, each.exc_info) for each in caplog.records] == [
        (logging.ERROR, "the load failed: is cut off", None)
    ]


async def test_the_index_has_both_models_of_each_version() -> None:
    rows = await control("local", FakeRepository()).index("::1", only_ready=False)
    assert [(r["name"], r["version"], r["state"]) for r in rows] == [
        ("m", "1", "READY"),
        ("m", "2", "UNAVAILABLE"),
        ("m_pixels", "1", "READY"),
        ("m_pixels", "2", "UNAVAILABLE"),
    ]
    ready = await control("local", FakeRepository()).index("::1", only_ready=True)
    assert {row["version"] for row in ready} == {"1"}


async def test_a_model_that_cannot_be_loaded_says_why() -> None:
    repository = FakeRepository()
    repository.broken = "it is damaged"
    with pytest.raises(BadRequest, match=r"failed to load 'm': it is damaged"):
        await control("local", repository).load("::1", "m", {})
    with pytest.raises(BadRequest, match="parameters are not taken"):
        await control("local", repository).load("::1", "m", {"config": "{}"})
    with pytest.raises(NotFound):
        await control("local", repository).unload("::1", "n")


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:5000", "127.0.0.1"),
        ("ipv6:%5B::1%5D:5000", "::1"),
        ("unix:/run/socket", ""),
        ("", ""),
    ],
)
def test_a_peer_of_grpc_is_an_address(peer: str, address: str) -> None:
    assert _peer(SimpleNamespace(peer=lambda: peer)) == address


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    """With three levels of priority and 10 s for a request."""
    async with faking(priority_levels=3, request_timeout_s=10.0) as fake:
        yield fake


@pytest.mark.parametrize(
    ("parameters", "transport_s", "timeout_s", "level"),
    [
        ({}, None, 10.0, 3),
        ({}, 2.0, 2.0, 3),
        ({"timeout": 500_000}, None, 0.5, 3),
        ({"timeout": 500_000}, 2.0, 0.5, 3),
        ({"timeout": 5_000_000}, 2.0, 2.0, 3),
        ({"timeout": 60_000_000}, None, 60.0, 3),
        ({"timeout": 0, "priority": 0}, None, 10.0, 3),
        ({"priority": 2, "other": "x"}, None, 10.0, 2),
        ({"priority": 4}, None, 10.0, 3),
    ],
)
async def test_the_shorter_timeout_counts_and_an_unknown_level_is_the_default(
    fake: Fake, parameters: dict[str, Any], transport_s: float | None, timeout_s: float, level: int
) -> None:
    with fake.service.admit("oip-grpc", transport_s) as request:
        OipModels(fake.service).schedule(parameters, request)
        assert request.deadline == pytest.approx(request.start + timeout_s)
        assert request.level == level


@pytest.mark.parametrize(
    "parameters", [{"timeout": -1}, {"timeout": "5"}, {"timeout": 1 << 64}, {"priority": -1}]
)
async def test_a_timeout_or_priority_that_makes_no_sense_is_refused(
    fake: Fake, parameters: dict[str, Any]
) -> None:
    with (
        pytest.raises(BadRequest, match="must be a whole number"),
        fake.service.admit("oip-grpc") as request,
    ):
        OipModels(fake.service).schedule(parameters, request)
