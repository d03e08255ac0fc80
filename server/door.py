"""What a caller must show to come in, what it is shown, and which pages may send it."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from server.certificates import Certificates
from server.keys import Keys

LOOK_S = 5.0
"""Kubernetes takes a minute to exchange a secret, certbot and an editor no time."""


@dataclass(frozen=True)
class Door:
    certificates: Certificates | None = None
    """None: no TLS."""
    keys: Keys | None = None
    """None: no key is asked for."""
    origins: frozenset[str] = frozenset()
    """Of other sites' pages that may call; `*` is all."""
    names: frozenset[str] = frozenset()
    """That this server has on the loopback beside localhost: a proxy's; `*` is all."""

    @classmethod
    def opened(
        cls,
        certificate: str = "",
        key: str = "",
        client_ca: str = "",
        keys_file: str = "",
        origins: frozenset[str] = frozenset(),
        names: frozenset[str] = frozenset(),
        shared: Path | None = None,
    ) -> Self:
        """Paths, empty for none; `shared` is where workers count together. Raises OSError."""
        ca = Path(client_ca) if client_ca else None
        return cls(
            Certificates(Path(certificate), Path(key), ca) if certificate else None,
            Keys(Path(keys_file), shared) if keys_file else None,
            origins,
            names,
        )

    @property
    def wants_certificate(self) -> bool:
        return self.certificates is not None and self.certificates.mutual

    def without_keys(self) -> Self:
        return replace(self, keys=None)

    async def refresh(self, anyway: bool = False) -> None:
        """Reads again what has changed, or all of it `anyway`; the log says what is of no use."""
        for files in (self.certificates, self.keys):
            if files:
                await files.refresh(anyway)

    async def watch(self) -> None:
        """Reads files that have changed, without end."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.refresh()
