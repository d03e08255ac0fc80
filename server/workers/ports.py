"""Ports that several processes will listen on together."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def reserved(host: str, *ports: int) -> Iterator[list[int]]:
    """Bound for as long as the block runs, so that no other server gets them; a port of 0
    becomes a free one. Connections go to the processes of this user that listen with SO_REUSEPORT.

    Raises OSError for a port that is in use or reserved, or is named twice.
    """
    with ExitStack() as stack:
        yield [_bound(stack, host, port) for port in ports]


def _bound(stack: ExitStack, host: str, port: int) -> int:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    try:
        if port:  # without sharing: fails where a process listens, or holds it as below
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        held = stack.enter_context(socket.socket(family, kind, protocol))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return int(held.getsockname()[1])
