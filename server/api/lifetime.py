"""How long a connection lives, over either protocol: what idles, what is old, what is dead."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

PING_S, PONG_S = 20.0, 10.0
"""gRPC's connections are asked whether the other end is there, so often and for so long: a stream
whose peer is dead gives its place back after half a minute."""
PINGS_APART_S = 5.0
"""Callers may ask as often; gRPC's own limit, 5 minutes, ends connections of which a balancer or a
caller makes sure every 10 s."""
SETTLE_S = 0.2
"""A caller that has connected or asked as lately is about to ask when the server ends."""


@dataclass(frozen=True)
class Lifetime:
    idle_s: float = 75.0
    """Of HTTP: a connection without a request in it is closed then."""
    age_s: float = 0.0
    """Then it takes no more requests, so that balancers find new servers; 0 is never."""
    grace_s: float = 30.0
    """For the calls that a gRPC connection has then."""
    leaving: Callable[[], bool] = field(default=lambda: False)
    """Whether the server is."""

    def over(self, started: float) -> bool:
        """Whether the next answer is the connection's last; `started` is of time.monotonic."""
        age_s = time.monotonic() - started
        return self.leaving() or (0 < self.age_s * random.uniform(0.9, 1.1) < age_s)

    def grpc_options(self) -> list[tuple[str, int]]:
        options = {
            "keepalive_time_ms": PING_S,
            "keepalive_timeout_ms": PONG_S,
            "http2.ping_timeout_ms": PONG_S,  # or a minute, whatever the line above says
            "http2.min_ping_interval_without_data_ms": PINGS_APART_S,
        }
        if self.age_s:
            options |= {
                "max_connection_age_ms": self.age_s,
                "max_connection_age_grace_ms": self.grace_s,
            }
        return [
            *((f"grpc.{name}", round(1000 * seconds)) for name, seconds in options.items()),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),  # any number
        ]
