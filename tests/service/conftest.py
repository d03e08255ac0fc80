"""A server in this process, whose engine the test controls, and its callers. A module that needs
other options has a `fake` of its own."""

from collections.abc import AsyncIterator

import aiohttp
import grpc
import pytest

from tests.fakes import Fake, faking


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    async with faking() as fake:
        yield fake


@pytest.fixture
async def session(fake: Fake) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(fake.url) as session:
        yield session


@pytest.fixture
async def channel(fake: Fake) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(fake.target) as channel:
        yield channel
