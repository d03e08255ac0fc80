"""What a refused call leaves behind, and a client that is no gRPC client: nothing."""

import asyncio
import gc
import os
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest

from server.api import calls
from server.errors import BadRequest
from server.scheduler import cpus
from tests.fakes import faking
from tests.service.oip_asking import request

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
PING = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0, *range(8)])


class Asked:
    """A message that tells how many of it there are."""

    alive: ClassVar["weakref.WeakSet[Asked]"] = weakref.WeakSet()

    def __init__(self) -> None:
        self.alive.add(self)


class Context:
    """Notes what is alive when the refusal is sent."""

    async def abort(self, *refusal: Any) -> None:
        assert not Asked.alive
        raise grpc.aio.AbortError


async def test_a_message_is_gone_before_its_refusal_is_sent() -> None:
    """A caller that reads its refusals slowly kept a message for each: 6.6 GB in all."""

    async def requests() -> AsyncIterator[Asked]:
        yield Asked()

    @calls.responding
    async def method(self: Any, request: Asked, context: Any) -> None:
        assert len(Asked.alive) == 1
        raise BadRequest("no")

    gc.disable()  # not even a circle may hold it
    try:
        read = calls._reading(lambda *asked: method(None, *asked), "Asked", 1.0)
        with pytest.raises(grpc.aio.AbortError):
            await read(requests(), Context())
    finally:
        gc.enable()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_memory_is_where_it_was_after_many_refused_calls() -> None:
    large = request([bytes(900_000)], model="nosuch").SerializeToString()
    async with faking() as fake, grpc.aio.insecure_channel(fake.target) as channel:
        ask: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        async def refused() -> None:
            with pytest.raises(grpc.aio.AioRpcError, match="nosuch"):
                await ask(large)

        async def many(rounds: int) -> int:
            for _ in range(rounds):
                await asyncio.gather(*(refused() for _ in range(4)))
            return resident_bytes()

        before = await many(15)
        gc.disable()  # a large message must not wait for it, which counts objects and no bytes
        try:
            assert await many(60) - before < 30e6  # of 216 MB that were sent
        finally:
            gc.enable()


async def test_a_call_without_a_message_is_told_so() -> None:
    async with (
        faking(request_timeout_s=0.2) as fake,
        grpc.aio.insecure_channel(fake.target) as channel,
        asyncio.timeout(10),
    ):
        method = "/inference.GRPCInferenceService/ModelInfer"
        open_call: Any = channel.stream_unary(method)()
        with pytest.raises(grpc.aio.AioRpcError, match="before the message was here") as late:
            await open_call
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        closed: Any = channel.stream_unary(method)(iter(()))
        with pytest.raises(grpc.aio.AioRpcError, match="the call has no ModelInferRequest"):
            await closed


async def test_a_client_that_acknowledges_no_settings_is_hung_up_on() -> None:
    """gRPC keeps what it sends to such a client, gigabytes of it."""
    async with faking() as fake, asyncio.timeout(5):
        host, _, port = fake.target.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PREFACE)
        sent = await reader.read()  # to the end
        writer.close()
    assert sent[3] == 4  # settings, which it answers by nothing


async def test_many_pings_cost_little() -> None:
    """They are answered: where gRPC hangs up instead, it takes the square of their number first."""
    many, acknowledged = 60_000, bytes([0, 0, 0, 4, 1, 0, 0, 0, 0])
    async with faking() as fake, asyncio.timeout(20):
        host, _, port = fake.target.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        start = time.process_time()
        writer.write(PREFACE + acknowledged + PING * many)
        sent = await reader.readexactly(many * len(PING))
        assert sent.count(PING[9:]) > many * 0.99  # settings came with them
        assert time.process_time() - start < 2.0
        writer.close()


async def test_threads_of_grpc_yield_to_the_event_loop_and_to_the_engine() -> None:
    async with faking(), asyncio.timeout(5):
        threads = [*Path("/proc/self/task").iterdir()]
        named = {int(each.name): (each / "comm").read_text().strip() for each in threads}
        ours = [thread for thread, name in named.items() if name == "event_engine"]
        assert ours
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in ours} == {cpus.DECODER}
