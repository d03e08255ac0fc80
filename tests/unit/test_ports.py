"""Ports that are reserved for the workers, which listen on them together."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from server import ports
from server.ports import reserved

HERE = "127.0.0.1"


@contextmanager
def listening(port: int, shared: bool) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        listener.bind((HERE, port))
        listener.listen(64)
        listener.setblocking(False)
        yield listener


def accepted(listener: socket.socket) -> int:
    """How many connections were waiting."""
    count = 0
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return count
        connection.close()
        count += 1


def test_a_port_of_zero_becomes_a_free_one_that_several_can_share() -> None:
    with (
        reserved(HERE, 0, 0) as (port, other),
        listening(port, shared=True) as first,
        listening(port, shared=True) as second,
    ):
        assert 0 < port != other > 0
        for _ in range(64):
            socket.create_connection((HERE, port)).close()
        found = accepted(first), accepted(second)
        assert sum(found) == 64, "a connection was lost"
        assert min(found) > 0


def test_a_given_port_is_reserved_as_it_is() -> None:
    with reserved(HERE, 0) as (free,):
        pass
    with reserved(HERE, free) as held, listening(free, shared=True):
        assert held == [free]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_either_name_of_every_interface_holds_the_port_on_both_families(host: str) -> None:
    with reserved(host, 0) as (port,):
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as other, pytest.raises(OSError, match="in use"):
                other.bind((address, port))
        with ports.listening(host, port, shared=True) as listener:
            listener.listen()
            for address in ("127.0.0.1", "::1"):
                socket.create_connection((address, port), timeout=5).close()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "256.1.1.1", "a" * 300, "192.0.2.1"])
def test_a_host_that_cannot_be_listened_on_is_one_sentence(host: str) -> None:
    with pytest.raises(OSError, match=f"^cannot listen on {re.escape(host)}"), reserved(host, 0):
        pass
    with pytest.raises(OSError, match=f"^cannot listen on {re.escape(host)}"):
        ports.listening(host, 0, shared=False)


def test_connections_are_refused_until_a_worker_listens() -> None:
    with reserved(HERE, 0) as (port,):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HERE, port))
        with listening(port, shared=True):
            socket.create_connection((HERE, port)).close()


def test_no_other_program_can_take_a_reserved_port() -> None:
    with (
        reserved(HERE, 0) as (port,),
        socket.socket() as other,
        pytest.raises(OSError, match="in use"),
    ):
        other.bind((HERE, port))


@pytest.mark.parametrize("shared", [False, True], ids=["ordinary", "sharing"])
def test_a_port_on_which_another_program_listens_is_refused(shared: bool) -> None:
    with listening(0, shared) as taken:
        port = taken.getsockname()[1]
        sentence = f"cannot listen on {HERE}:{port}: Address already in use"
        with pytest.raises(OSError, match=f"^{re.escape(sentence)}$"), reserved(HERE, 0, port):
            pass


def test_a_port_that_another_server_has_reserved_is_refused() -> None:
    """Its workers are still starting, so nothing listens yet."""
    with (
        reserved(HERE, 0) as (port,),
        pytest.raises(OSError, match=f"cannot listen on {HERE}:{port}"),
        reserved(HERE, port),
    ):
        pass


def test_the_same_port_twice_is_refused() -> None:
    with reserved(HERE, 0) as (free,):
        pass
    with (
        pytest.raises(OSError, match=f"cannot listen on {HERE}:{free}"),
        reserved(HERE, free, free),
    ):
        pass


def test_a_port_is_free_again_after_the_reservation() -> None:
    with reserved(HERE, 0) as (port,):
        pass
    with socket.socket() as other:
        other.bind((HERE, port))
        other.listen()


def test_no_port_stays_reserved_when_one_of_them_is_taken() -> None:
    with reserved(HERE, 0) as (free,):
        pass
    with listening(0, shared=False) as taken:
        with (
            pytest.raises(OSError, match="cannot listen"),
            reserved(HERE, free, taken.getsockname()[1]),
        ):
            pass
        with socket.socket() as other:
            other.bind((HERE, free))
