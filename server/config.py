"""The server's configuration: each option with its default, its check and its help.

How it is read is in options.py. Nothing about the model is here: it comes from the bundle.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from alexnet.manifest import MODEL_NAME
from alexnet.spec import PRECISIONS
from server.engines.runtimes import ENGINES
from server.models.policy import VersionPolicy

# As a browser writes it: in small letters, without a path.
ORIGIN = re.compile(r"https?://[a-z0-9.:\[\]-]+")
HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")

DAY_S = 86_400


class ConfigError(ValueError):
    """One line for each mistake."""


def _option(default: Any, group: str, check: "Check", text: str) -> Any:
    return field(default=default, metadata={"group": group, "check": check, "help": text})


@dataclass(frozen=True)
class Check:
    """`passes` says whether a value will do; `must` goes on after "NAME must"."""

    passes: Callable[[Any], bool]
    must: str


def _between(least: float, most: float, more: str = "") -> Check:
    return Check(lambda value: least <= value <= most, f"lie between {least} and {most}{more}")


def _one_of(*values: str) -> Check:
    return Check(lambda value: value in values, f"be one of {', '.join(values)}")


def _read_by(read: Callable[[str], object], must: str) -> Check:
    """Text that `read` takes without ValueError."""

    def passes(value: str) -> bool:
        try:
            read(value)
        except ValueError:
            return False
        return True

    return Check(passes, must)


def numbers(text: str, least: int = 0) -> tuple[int, ...]:
    """`8,16` -> (8, 16); raises ValueError."""
    found = tuple(int(number) for number in text.split(",")) if text else ()
    if any(number < least for number in found):
        raise ValueError(f"{text} has a number below {least}")
    return found


def _devices(text: str) -> tuple[int, ...]:
    """`0,1` -> (0, 1); raises ValueError, also for one that is named twice."""
    found = numbers(text)
    if len(set(found)) < len(found):
        raise ValueError(f"{text} names a GPU twice")
    return found


def _largest(text: str) -> int:
    """0 for what are no numbers: its own check says so."""
    try:
        return max(numbers(text), default=0)
    except ValueError:
        return 0


def origins(text: str) -> frozenset[str]:
    """`https://a.example,https://b.example` or `*`; raises ValueError."""
    return _listed(text, ORIGIN)


def host_names(text: str) -> frozenset[str]:
    """`photos.example,photos` or `*`; raises ValueError."""
    return _listed(text.lower(), HOST_NAME)


def _listed(text: str, pattern: re.Pattern[str]) -> frozenset[str]:
    found = frozenset(text.split(",")) if text else frozenset()
    for each in found - {"*"}:
        if not pattern.fullmatch(each):
            raise ValueError(f"{each} is none")
    return found


_TEXT = Check(bool, "not be empty")
_ANY = Check(lambda value: True, "be text")
_NAME = Check(
    lambda value: not value or MODEL_NAME.fullmatch(value) is not None,
    "be up to 64 of the letters A to Z and a to z, digits, dots, dashes and underscores, and begin "
    "with a letter or a digit",
)
_POSITIVE = Check(lambda value: value >= 1, "be at least 1")
_NOT_NEGATIVE = Check(lambda value: value >= 0, "be at least 0")
# Far above what is of use, and below what gRPC, which counts milliseconds and bytes in 32 bits, and
# threads can take.
_UP_TO_A_DAY = _between(0, DAY_S)
_PORT = _between(0, 65535, " (0 picks a free one)")
_THREADS = _between(0, 1024)
_SHARES = _read_by(lambda text: VersionPolicy(weights=text), "be shares of versions: 1=90,2=10")
_VERSIONS = _read_by(VersionPolicy, "be latest, latest:N, all, or versions: 1,3")
_LEVELS = ("debug", "info", "warning", "error")


# fmt: off
@dataclass(frozen=True)
class Config:
    model: str = _option("models/starter.tar.xz", "model", _TEXT,
        "the bundle to serve (a directory or a .tar.xz), or a folder of versions: 1/, 2.tar.xz")
    model_name: str = _option("", "model", _NAME,
        "what callers name it, as KServe does by the name of its service; else as the bundle does")
    precision: str = _option("auto", "model", _one_of("auto", *PRECISIONS),
        "of the arithmetic: auto (int8 on a CPU, fp16 on a GPU), or " + ", ".join(PRECISIONS))
    version_policy: str = _option("latest", "model", _VERSIONS,
        "versions to serve: latest, latest:N, all, or 1,3")
    version_weights: str = _option("", "model", _SHARES,
        "shares of requests that name no version: 1=90,2=10; else the latest gets all")
    poll_s: float = _option(0.0, "model", _UP_TO_A_DAY,
        "look for new versions so often; 0 is never")
    repository_control: str = _option("off", "model", _one_of("off", "local", "key"),
        "what may load and unload versions: off is nothing, local is this machine and keys that "
        "may, key is these keys only")
    cache_dir: str = _option("~/.cache/alexnet", "model", _ANY,
        "where calibrations and plans are kept for the next start; empty: nowhere")
    host: str = _option("127.0.0.1", "address", _TEXT,
        "address to listen on; 0.0.0.0 or :: opens it to the network, over IPv4 and IPv6")
    http_port: int = _option(8000, "address", _PORT, "REST and the pages")
    grpc_port: int = _option(8001, "address", _PORT, "gRPC")
    metrics_port: int = _option(8002, "address", _PORT, "Prometheus metrics and health probes")
    http_socket: str = _option("", "address", _ANY,
        "path of a Unix socket for REST, too, without TLS: for a proxy on this machine")
    grpc_socket: str = _option("", "address", _ANY,
        "path of a Unix socket for gRPC, too, without TLS")
    http_keepalive_s: float = _option(75.0, "address", _between(1, DAY_S),
        "an HTTP connection without a request in it is closed after so long: later than the "
        "balancer closes its own")
    max_connection_age_s: float = _option(0.0, "address", _between(0, 20 * DAY_S),
        "a connection takes no more requests then, so that balancers spread callers over new "
        "servers; 0 is never")
    tls_certificate: str = _option("", "door", _ANY,
        "PEM file with the certificate, and those between it and its root: TLS on every port")
    tls_key: str = _option("", "door", _ANY,
        "PEM file with the certificate's private key, without a passphrase")
    tls_client_ca: str = _option("", "door", _ANY,
        "PEM file with roots: callers must show a certificate that one of them signed")
    keys_file: str = _option("", "door", _ANY,
        "TOML file with the hashes of API keys, one of which callers must show: alexnet-key")
    cors_origin: str = _option("", "door",
        _read_by(origins, "be origins such as https://app.example,http://localhost:3000, or *"),
        "origins of other sites whose pages may call this server: https://app.example, or *")
    allowed_hosts: str = _option("", "door",
        _read_by(host_names, "be names without ports, such as photos.example,photos, or *"),
        "names by which a proxy on this machine may ask for this server: photos.example, or *; "
        "without one it is localhost there")
    engine: str = _option("auto", "speed", _one_of("auto", *ENGINES),
        "auto (a GPU's if one is here), or " + ", ".join(ENGINES))
    devices: str = _option("", "speed", _read_by(_devices, "be numbers of GPUs, each once: 0,1"),
        "GPUs to use, an engine on each: 0,1; else the first")
    workers: int = _option(1, "speed", _between(1, 256),
        "server processes behind the same ports, each with engines of its own")
    engine_threads: int = _option(0, "speed", _THREADS,
        "threads of an engine on the CPU; 0 is one for each CPU of the worker")
    decode_threads: int = _option(0, "speed", _THREADS,
        "threads that decode photos; 0 is one for each CPU of the worker")
    max_batch_size: int = _option(32, "speed", _between(1, 4096),
        "photos in one run of the engine, at most")
    preferred_batch_size: str = _option("", "speed",
        _read_by(lambda text: numbers(text, 1), "be sizes: 8,16"),
        "sizes that the engine likes: 8,16; the largest that can be filled is taken")
    max_queue_delay_microseconds: int = _option(0, "speed", _between(0, 60_000_000),
        "how long a photo may wait for a fuller batch")
    priority_levels: int = _option(1, "speed", _between(1, 8),
        "priorities that requests may name, 1 the highest; each gets four times the share of the "
        "next")
    default_priority_level: int = _option(0, "speed", _NOT_NEGATIVE,
        "of requests that name none; 0 is the lowest")
    max_queue_size: int = _option(256, "limits", _between(1, 100_000),
        "requests under way, at most; the next is refused at once (429)")
    max_request_bytes: int = _option(20_000_000, "limits", _between(1, 2_000_000_000),
        "bytes of an upload, at most (413)")
    max_photo_bytes: int = _option(1_000_000_000, "limits", _POSITIVE,
        "bytes of all photos under way (429); as much again is for those being decoded, at most "
        "seven eighths of it for one (413)")
    max_image_pixels: int = _option(64_000_000, "limits", _between(1, 178_956_970),
        "pixels that are decoded of a photo, at most (413); a JPEG that is decoded at a fraction "
        "may have up to four times as many")
    request_timeout_ms: int = _option(10_000, "limits", _between(1, 1000 * DAY_S),
        "deadline of a request that names none")
    cache_bytes: int = _option(0, "limits", _NOT_NEGATIVE,
        "memory of a worker for answers, kept for photos that come again; 0 keeps none")
    drain_delay_s: float = _option(0.0, "stopping", _UP_TO_A_DAY,
        "after SIGTERM go on accepting for so long, not ready any more")
    drain_timeout_s: float = _option(30.0, "stopping", _UP_TO_A_DAY,
        "then finish what was accepted, for so long at most")
    log_level: str = _option("info", "log", _one_of(*_LEVELS),
        "least severe level that is logged: debug, info, warning or error")
    log_format: str = _option("text", "log", _one_of("text", "json"),
        "text for people or json for programs")
    access_log: str = _option("errors", "log", _one_of("off", "errors", "all"),
        "a line for each request: off, errors (what was not answered) or all")
    # fmt: on

    def __post_init__(self) -> None:
        wrong = [
            f"{f.name} must {f.metadata['check'].must}, not {getattr(self, f.name)!r}"
            for f in fields(self)
            if not f.metadata["check"].passes(getattr(self, f.name))
        ]
        if self.default_priority_level > self.priority_levels:
            wrong.append("default_priority_level must not be above priority_levels")
        if _largest(self.preferred_batch_size) > self.max_batch_size:
            wrong.append("preferred_batch_size must not have sizes above max_batch_size")
        if bool(self.tls_certificate) != bool(self.tls_key):
            wrong.append("tls_certificate and tls_key go together")
        if self.tls_client_ca and not self.tls_certificate:
            wrong.append("tls_client_ca needs tls_certificate")
        if self.repository_control == "key" and not self.keys_file:
            wrong.append("repository_control must not be 'key' without keys_file")
        if self.workers > 1 and (self.http_socket or self.grpc_socket):
            wrong.append("http_socket and grpc_socket need workers = 1: no two can share a path")
        if wrong:
            raise ConfigError("\n".join(wrong))
