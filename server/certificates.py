"""The TLS certificate that the server shows, and whose certificates it takes from callers."""

import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from alexnet.files import read_plain
from server.watched import Unusable, Watched

MAX_FILE_BYTES = 1 << 20
DAY_S = 86400
NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, which the ssl module has no name for."""
ROUNDS = 3
"""Of messages in a handshake."""


@dataclass(frozen=True)
class Shown:
    """What new connections get."""

    context: ssl.SSLContext
    """For HTTP. A caller's certificate is checked where it has one; api/access.py wants it."""
    key: bytes
    certificate: bytes
    client_ca: bytes | None
    """All in PEM."""
    ends: float
    """When the certificate does, in time.time."""


class Certificates(Watched):
    shown: Shown

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None):
        """Raises OSError. With `client_ca` callers have to show a certificate that it signed."""
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        paths = [path for path in (certificate, key, client_ca) if path]
        super().__init__("TLS certificates", *paths)

    @property
    def mutual(self) -> bool:
        return self._client_ca is not None

    def days_left(self) -> float:
        return (self.shown.ends - time.time()) / DAY_S

    def read(self) -> None:
        before = self._marks()
        key, certificate = _read(self._key), _read(self._certificate)
        client_ca = _read(self._client_ca) if self._client_ca else None
        context = self._context()
        if client_ca is not None:
            context.verify_mode = ssl.CERT_OPTIONAL
            try:
                context.load_verify_locations(self._client_ca)
            except ssl.SSLError as error:
                raise Unusable(f"{self._client_ca} has no certificates: {_why(error)}") from None
        shown = Shown(context, key, certificate, client_ca, self._end())
        if self._marks() != before:  # the key of one certificate, and another certificate
            raise Unusable(f"{self._certificate} or {self._key} was written while it was read")
        self.shown = shown

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)  # TLS 1.2 at least
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, self._no_password)
        except ssl.SSLError as error:
            raise Unusable(
                f"{self._certificate} and {self._key} are no certificate and its key: {_why(error)}"
            ) from None
        return context

    def _no_password(self) -> NoReturn:
        raise Unusable(f"{self._key} is encrypted: the server needs it without a passphrase")

    def _end(self) -> float:
        """When the certificate ends, by a handshake with ourselves: so callers can have one."""
        ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.load_verify_locations(self._certificate)
        trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
        caller = trusting.wrap_bio(ours, theirs)
        server = self._context().wrap_bio(theirs, ours, server_side=True)
        try:
            for _ in range(ROUNDS):
                for side in (caller, server):
                    with suppress(ssl.SSLWantReadError):
                        side.do_handshake()
            found = caller.getpeercert()
            assert found, "a handshake takes so many rounds"
        except ssl.SSLError as error:
            raise Unusable(f"{self._certificate} is of no use to callers: {_why(error)}") from None
        return ssl.cert_time_to_seconds(str(found["notAfter"]))


def _read(path: Path) -> bytes:
    """Raises OSError that names the file."""
    try:
        return read_plain(path, MAX_FILE_BYTES)
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Unusable(str(error)) from None


def _why(error: ssl.SSLError) -> str:
    return (
        getattr(error, "verify_message", "")
        or (error.reason or "it is no PEM").replace("_", " ").lower()
    )
