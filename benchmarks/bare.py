"""The latency of a single client with a bare socket: the server's own overhead.

A client library would add about a millisecond of its own.
"""

import json
import socket
import time
from collections.abc import Sequence
from typing import Any

from alexnet_client.load.point import percentiles

WARM_UP = 20


def measure_alone(address: str, photos: Sequence[bytes], seconds: float) -> dict[str, Any]:
    """One REST connection, one photo at a time; percentiles in milliseconds.

    Raises RuntimeError unless every request is answered.
    """
    host, port = address.rsplit(":", 1)
    rows: list[tuple[float, float, float]] = []
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            photo = photos[len(rows) % len(photos)]
            took, timing = _ask(connection, photo)
            rows.append((took, timing["decode"] / 1000, timing["infer"] / 1000))
    latency, decode, infer = zip(*rows[WARM_UP:], strict=True)
    over = (a - b - c for a, b, c in zip(latency, decode, infer, strict=True))
    return {
        "latency_ms": percentiles(latency), "decode_ms": percentiles(decode),
        "infer_ms": percentiles(infer), "overhead_ms": percentiles(over),
    }  # fmt: skip


def _ask(connection: socket.socket, photo: bytes) -> tuple[float, dict[str, float]]:
    head = f"POST /v1/classify HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(photo)}\r\n\r\n"
    request = head.encode() + photo
    start = time.perf_counter()
    connection.sendall(request)
    received = connection.recv(1 << 16)
    head, _, body = received.decode().partition("\r\n\r\n")
    if not head.startswith("HTTP/1.1 200"):
        raise RuntimeError(f"the server answered {received[:200]!r}")
    length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
    while len(body.encode()) < length:
        body += connection.recv(1 << 16).decode()
    took = time.perf_counter() - start
    timing: dict[str, float] = json.loads(body)["timing_ms"]
    return took, timing
