"""How long connections live: pings keep them, dead peers lose them, none ends without a word."""

import asyncio
import http.client
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import grpc
import pytest

from protos import classifier_pb2 as pb
from protos import classifier_pb2_grpc as pb_grpc
from server.api import lifetime
from tests.access_lines import access_lines
from tests.fakes import faking, flat
from tests.paths import ROOT
from tests.photos import jpeg
from tests.processes import ended, half_sent, start_server, stop_server

CLASSIFY = "/v1/classify"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7


def frame(kind: int, flags: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags, 0, 0, 0, 0]) + payload


async def frames(reader: asyncio.StreamReader, pings: int) -> Counter[int]:
    """The kinds of frames, until so many pings have been answered, or the connection ends."""
    found: Counter[int] = Counter()
    while found[PING] < pings and not found[GOAWAY]:
        head = await reader.readexactly(9)
        await reader.readexactly(int.from_bytes(head[:3]))
        found[head[3]] += 1
    return found


async def test_a_connection_whose_caller_pings_more_often_than_grpcs_five_minutes_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert lifetime.PINGS_APART_S <= 5  # a caller that pings every 10 s is far from it
    monkeypatch.setattr(lifetime, "PINGS_APART_S", 0.02)
    async with faking() as fake, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", fake.server.grpc.port)
        writer.write(PREFACE + frame(SETTINGS) + frame(SETTINGS, flags=1))
        asked = asyncio.create_task(frames(reader, 10))
        for number in range(10):
            writer.write(frame(PING, payload=struct.pack(">Q", number)))
            await asyncio.sleep(0.04)
        assert (await asked)[GOAWAY] == 0
        writer.close()


@pytest.mark.process
async def test_grpcs_callers_are_told_to_leave_while_others_are_still_answered(grey: str) -> None:
    running = start_server("--model", grey, "--drain-timeout-s", "60")
    try:
        async with AsyncExitStack() as stack, asyncio.timeout(40):  # the drain may take longer
            (upload,) = await half_sent(stack, running, 1)
            host, _, port = running.grpc.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(PREFACE + frame(SETTINGS) + frame(SETTINGS, flags=1))
            writer.write(frame(PING, payload=bytes(8)))
            await frames(reader, 1)  # the connection is known to the server
            running.process.terminate()
            assert (await frames(reader, 100))[GOAWAY] == 1
            writer.close()
            await upload.send(start=2000)
            assert (await upload.reply()).status == 200
        code, log = await ended(running)
    finally:
        running.process.kill()
        running.process.communicate(timeout=10)
    assert code == 0
    assert "Traceback" not in log


STREAMING = """
import sys, threading, grpc
from protos import classifier_pb2 as pb, classifier_pb2_grpc as pb_grpc
def photos():
    yield pb.ClassifyRequest(image=sys.stdin.buffer.read())
    threading.Event().wait()
call = pb_grpc.ClassifierStub(grpc.insecure_channel(sys.argv[1])).ClassifyStream(photos())
print(next(call).WhichOneof("result"), flush=True)
threading.Event().wait()
"""


@pytest.mark.process
async def test_a_stream_whose_peer_is_dead_gives_its_place_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is stopped, and so does not even close its connection."""
    assert lifetime.PING_S + lifetime.PONG_S <= 60
    monkeypatch.setattr(lifetime, "PING_S", 0.2)
    monkeypatch.setattr(lifetime, "PONG_S", 0.2)
    async with faking() as fake:
        client = subprocess.Popen(
            [sys.executable, "-c", STREAMING, fake.target], cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert client.stdin
        assert client.stdout
        try:
            client.stdin.write(flat(50))
            client.stdin.close()
            assert await asyncio.to_thread(client.stdout.readline) == b"response\n"
            await asyncio.sleep(1)  # it lives as long as it answers pings
            assert fake.service.gate._streams == 1
            os.kill(client.pid, signal.SIGSTOP)
            async with asyncio.timeout(10):
                while fake.service.gate._streams:
                    await asyncio.sleep(0.02)
        finally:
            client.kill()
            client.wait()
            client.stdout.close()


async def test_an_old_connection_makes_room_for_another_and_no_request_fails() -> None:
    async with (
        faking(max_connection_age_s=0.3, access_log="all") as fake,
        aiohttp.ClientSession(fake.url) as session,
        grpc.aio.insecure_channel(fake.target) as channel,
    ):
        stub: Any = pb_grpc.ClassifierStub(channel)
        stop = time.monotonic() + 1.2
        with access_lines() as log:
            while time.monotonic() < stop:
                async with session.post(CLASSIFY, data=flat(50)) as response:
                    assert response.status == 200
                assert (await stub.Classify(pb.ClassifyRequest(image=flat(50)))).predictions
        for face in ("rest", "grpc"):
            peers = {line["peer"] for line in log.lines if line["face"] == face}
            assert 2 < len(peers) < 10


async def test_what_an_old_connection_has_begun_is_answered() -> None:
    async with (
        faking(max_connection_age_s=0.3) as fake,
        aiohttp.ClientSession(fake.url) as session,
        grpc.aio.insecure_channel(fake.target) as channel,
    ):
        fake.engine.gate.clear()
        stub: Any = pb_grpc.ClassifierStub(channel)
        called = asyncio.ensure_future(stub.Classify(pb.ClassifyRequest(image=flat(50))))
        posted = asyncio.create_task(session.post(CLASSIFY, data=flat(50)))
        await fake.until_in_flight(2)
        await asyncio.sleep(1)  # three times as old as it may get
        fake.engine.gate.set()
        assert (await called).predictions
        async with await posted as response:
            assert response.status == 200


async def test_an_idle_connection_is_closed_after_as_long_as_the_operator_says() -> None:
    async with faking(http_keepalive_s=1.0) as fake, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", fake.server.http.port)
        writer.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b'"live": true' in await reader.readuntil(b"}")
        answered = time.monotonic()
        assert await reader.read() == b""
        assert 0.9 < time.monotonic() - answered < 5
        writer.close()


class Caller(threading.Thread):
    """Sends one photo after the other over a connection that it keeps as long as it is told to."""

    def __init__(self, port: int):
        super().__init__()
        self._port = port
        self.told: Counter[tuple[int, str]] = Counter()
        """(status, what Connection says)"""
        self.lost: list[str] = []
        """What went wrong after a request was sent."""

    def run(self) -> None:
        photo = jpeg()
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            try:
                connection.connect()
            except OSError:
                return
            while connection.sock:
                try:
                    connection.request("POST", CLASSIFY, photo)
                    reply = connection.getresponse()
                    reply.read()
                except (OSError, http.client.HTTPException) as error:
                    self.lost.append(repr(error))
                    return
                self.told[reply.status, reply.getheader("Connection", "")] += 1


@pytest.mark.process
@pytest.mark.parametrize("delay_s", [0.5, 0.0])
def test_a_caller_that_keeps_its_connection_meets_no_reset_when_the_server_ends(
    grey: str, delay_s: float
) -> None:
    server = start_server("--model", grey, "--drain-delay-s", str(delay_s))
    callers = [Caller(int(server.http.rpartition(":")[2])) for _ in range(3)]
    for caller in callers:
        caller.start()
    while not all(caller.told[200, ""] > 3 for caller in callers):
        time.sleep(0.01)
    code, log = stop_server(server)
    for caller in callers:
        caller.join()
    assert code == 0
    assert "Traceback" not in log
    told = sum((caller.told for caller in callers), Counter[tuple[int, str]]())
    assert [caller.lost for caller in callers] == [[], [], []]
    # 503 only after the delay, for what comes too late; told on each that the connection ends
    assert set(told) <= {(200, ""), (200, "close"), (503, "close")}
    assert told[200, "close"] > 20 or not delay_s
    assert sum(told.values()) > 20
