"""What a client shows to a server that asks for it: an API key, and over TLS a certificate."""

import os
import ssl
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc

from alexnet_client.classifier_pb2_grpc import ClassifierStub
from alexnet_client.loopback import past_proxy

KEY_VARIABLE = "ALEXNET_API_KEY"
HTTPS = "https://"


@dataclass(frozen=True)
class Access:
    """TLS is for addresses such as https://photos.example:8001; the files are PEM."""

    api_key: str = field(default_factory=lambda: os.environ.get(KEY_VARIABLE, ""), repr=False)
    """Default: the environment's ALEXNET_API_KEY; empty for none."""
    ca: str | Path | None = None
    """The roots that the server's certificate is checked with; default: gRPC's own."""
    certificate: str | Path | None = None
    key: str | Path | None = None
    """The client's, for a server that asks for one; they go together."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        if not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ValueError("an API key is one line of ASCII")

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def channel(self, address: str, options: list[tuple[str, int]]) -> grpc.aio.Channel:
        """Raises OSError for files that cannot be read, ValueError for files without TLS."""
        target = address.removeprefix(HTTPS)
        options = [*options, *past_proxy(target)]
        if not self.uses_tls(address):
            return grpc.aio.insecure_channel(target, options=options)
        files = (self.ca, self.key, self.certificate)
        shown = [Path(file).read_bytes() if file else None for file in files]
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(*shown), options)

    def stub(self, channel: grpc.aio.Channel) -> Any:
        """ClassifierStub, whose calls show the key."""
        stub: Any = ClassifierStub(channel)
        return SimpleNamespace(
            **{name: self.showing(call) for name, call in vars(stub).items() if name[0] != "_"}
        )

    def showing(self, call: Any) -> Any:
        """A gRPC method, with the key in its metadata."""
        return partial(call, metadata=tuple(self.headers.items())) if self.api_key else call

    def context(self, address: str) -> ssl.SSLContext | None:
        """For HTTP; None without TLS. Raises as `channel` does."""
        if not self.uses_tls(address):
            return None
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate and self.key:
            context.load_cert_chain(self.certificate, self.key)
        return context

    def uses_tls(self, address: str) -> bool:
        """Raises ValueError for files without TLS."""
        if address.startswith(HTTPS):
            return True
        if self.ca or self.certificate:
            raise ValueError(f"certificates are for TLS: name the server {HTTPS}{address}")
        return False
