"""Where the server listens: addresses that mean the same on every port, and ports that are held."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

EVERYWHERE = "0.0.0.0", "::"
"""Either means every interface, over IPv4 and IPv6."""


def numeric(host: str) -> str:
    """The one address behind a name, IPv4 before IPv6: left to themselves HTTP and gRPC would each
    take another choice of several. `::` for every interface, or `0.0.0.0` where there is no IPv6.

    Raises OSError for a name that is not known.
    """
    if host in EVERYWHERE:
        return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"cannot listen on {host}: {reason}") from None
    return str(min(found, key=lambda each: each[0] != socket.AF_INET)[4][0])


def listening(host: str, port: int, shared: bool) -> socket.socket:
    """A socket for connections; a `shared` port has several. Raises OSError."""
    try:
        listener = _socket(host)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
            listener.bind((numeric(host), port))
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise _refusal(host, port, error) from None
    return listener


def at_path(path: Path) -> socket.socket:
    """A socket in the file system, for its user and group. Raises OSError."""
    cleared(path)
    listener, before = socket.socket(socket.AF_UNIX), os.umask(0o117)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen at {path}: {error.strerror or error}") from None
    finally:
        os.umask(before)
    return listener


def cleared(path: Path) -> None:
    """Takes away what a server that is dead has left there. Raises OSError where one answers."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(f"cannot listen at {path}: another server does")


@contextmanager
def reserved(host: str, *ports: int) -> Iterator[list[int]]:
    """Bound for as long as the block runs, so that no other server gets them; a port of 0
    becomes a free one. Connections go to the processes of this user that listen with SO_REUSEPORT.

    Raises OSError for a port that is in use or reserved, or is named twice.
    """
    with ExitStack() as stack:
        yield [_held(stack, host, port) for port in ports]


def _held(stack: ExitStack, host: str, port: int) -> int:
    address = numeric(host), port
    try:
        if port:  # without sharing: fails where a process listens, or holds it as below
            with _socket(host) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        held = stack.enter_context(_socket(host))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError as error:
        raise _refusal(host, port, error) from None
    return int(held.getsockname()[1])


def _socket(host: str) -> socket.socket:
    result = socket.socket(socket.AF_INET6 if ":" in numeric(host) else socket.AF_INET)
    if result.family == socket.AF_INET6:
        result.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host not in EVERYWHERE))
    return result


def _refusal(host: str, port: int, error: OSError) -> OSError:
    if error.errno is None:  # of `numeric`, which says it in full
        return error
    hint = {
        errno.EACCES: "; ports below 1024 need a privilege, or -p 80:8000 in a container",
        errno.EADDRNOTAVAIL: ": it is no address of this machine",
    }.get(error.errno, "")
    return OSError(f"cannot listen on {host}:{port}: {error.strerror}{hint}")
