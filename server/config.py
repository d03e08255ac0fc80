"""The server's configuration: flag > environment > file > default; every mistake at once.

Nothing about the model is here: it comes from the bundle.
"""

import argparse
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from alexnet import __version__
from server.engines.runtimes import ENGINES, PRECISIONS
from server.models.policy import VersionPolicy

PREFIX = "ALEXNET_"
# What Kubernetes says of a Service that is named alexnet, or alexnet-http.
SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT\w*)$|_PORT_\d+_\w+$")
ADDRESS = ("tcp://", "udp://", "sctp://")

EPILOG = """\
Every option is also an environment variable (--http-port is ALEXNET_HTTP_PORT) and a key of the
TOML file (http_port = 8000). A flag wins over the environment, the environment over the file.

examples:
  alexnet-server
  alexnet-server --model models/mine --host 0.0.0.0 --drain-delay-s 5
  ALEXNET_LOG_FORMAT=json alexnet-server --config server.toml

exit code: 0 stopped as asked, 1 cannot serve (one sentence says why), 2 wrong options
"""


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


_TEXT = Check(bool, "not be empty")
_ANY = Check(lambda value: True, "be text")
_POSITIVE = Check(lambda value: value >= 1, "be at least 1")
_NOT_NEGATIVE = Check(lambda value: value >= 0, "be at least 0")
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
    precision: str = _option("auto", "model", _one_of("auto", *PRECISIONS),
        "of the arithmetic: auto (int8 on a CPU, fp16 on a GPU), or " + ", ".join(PRECISIONS))
    version_policy: str = _option("latest", "model", _VERSIONS,
        "versions to serve: latest, latest:N, all, or 1,3")
    version_weights: str = _option("", "model", _SHARES,
        "shares of requests that name no version: 1=90,2=10; else the latest gets all")
    poll_s: float = _option(0.0, "model", _NOT_NEGATIVE,
        "look for new versions so often; 0 is never")
    repository_control: str = _option("off", "model", _one_of("off", "local", "open"),
        "who may load and unload versions: off, local (this machine) or open")
    cache_dir: str = _option("~/.cache/alexnet", "model", _ANY,
        "where calibrations and plans are kept for the next start; empty: nowhere")
    host: str = _option("127.0.0.1", "address", _TEXT,
        "address to listen on; 0.0.0.0 opens it to the network")
    http_port: int = _option(8000, "address", _PORT, "REST and the page at /docs")
    grpc_port: int = _option(8001, "address", _PORT, "gRPC")
    metrics_port: int = _option(8002, "address", _PORT, "Prometheus metrics and health probes")
    engine: str = _option("auto", "speed", _one_of("auto", *ENGINES),
        "auto (a GPU's if one is here), or " + ", ".join(ENGINES))
    devices: str = _option("", "speed", _read_by(numbers, "be the numbers of GPUs: 0,1"),
        "GPUs to use, an engine on each: 0,1; else the first")
    workers: int = _option(1, "speed", _between(1, 256),
        "server processes behind the same ports, each with engines of its own")
    engine_threads: int = _option(0, "speed", _THREADS,
        "threads of an engine on the CPU; 0 is one for each CPU of the worker")
    decode_threads: int = _option(0, "speed", _THREADS,
        "threads that decode photos; 0 is one for each CPU of the worker")
    max_batch_size: int = _option(32, "speed", _POSITIVE,
        "photos in one run of the engine, at most")
    preferred_batch_size: str = _option("", "speed",
        _read_by(lambda text: numbers(text, 1), "be sizes: 8,16"),
        "sizes that the engine likes: 8,16; the largest that can be filled is taken")
    max_queue_delay_microseconds: int = _option(0, "speed", _NOT_NEGATIVE,
        "how long a photo may wait for a fuller batch")
    priority_levels: int = _option(1, "speed", _between(1, 8),
        "priorities that requests may name, 1 the highest; each gets four times the share of the "
        "next")
    default_priority_level: int = _option(0, "speed", _NOT_NEGATIVE,
        "of requests that name none; 0 is the lowest")
    max_queue_size: int = _option(256, "limits", _POSITIVE,
        "requests under way, at most; the next is refused at once (429)")
    max_request_bytes: int = _option(20_000_000, "limits", _POSITIVE,
        "bytes of an upload, at most (413)")
    max_photo_bytes: int = _option(1_000_000_000, "limits", _POSITIVE,
        "bytes of all photos under way, encoded and decoded (429)")
    max_image_pixels: int = _option(50_000_000, "limits", _between(1, 178_956_970),
        "width x height, at most (413, before anything is decoded)")
    request_timeout_ms: int = _option(10_000, "limits", _POSITIVE,
        "deadline of a request that names none")
    drain_delay_s: float = _option(0.0, "stopping", _NOT_NEGATIVE,
        "after SIGTERM go on accepting for so long, not ready any more")
    drain_timeout_s: float = _option(30.0, "stopping", _NOT_NEGATIVE,
        "then finish what was accepted, for so long at most")
    log_level: str = _option("info", "log", _one_of(*_LEVELS),
        "least severe level that is logged: debug, info, warning or error")
    log_format: str = _option("text", "log", _one_of("text", "json"),
        "text for people or json for programs")
    # fmt: on

    def __post_init__(self) -> None:
        wrong = [
            f"{f.name} must {f.metadata['check'].must}, not {getattr(self, f.name)!r}"
            for f in fields(self)
            if not f.metadata["check"].passes(getattr(self, f.name))
        ]
        if self.default_priority_level > self.priority_levels:
            wrong.append("default_priority_level must not be above priority_levels")
        if wrong:
            raise ConfigError("\n".join(wrong))


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="alexnet-server",
        usage="alexnet-server [--model BUNDLE] [options]",
        description="Serve AlexNet: photos in, classes out, over REST and gRPC.",
        epilog=EPILOG,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--version", action="version", version=f"alexnet-server {__version__}")
    result.add_argument("--config", metavar="FILE", help="TOML file with any of these options")
    groups = {name: result.add_argument_group(name) for name in _groups()}
    for f in fields(Config):
        default = f"default: {f.default}" if f.default != "" else "default: none"
        text = f"{f.metadata['help']} ({default})"
        groups[f.metadata["group"]].add_argument(_flag(f), metavar=_metavar(f), help=text)
    return result


def load(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Config:
    """Raises ConfigError that lists every mistake; argparse exits by itself on unknown flags."""
    flags = vars(parser().parse_args(argv))
    path = flags.pop("config", environ.get(f"{PREFIX}CONFIG") or None)
    mistakes: list[str] = []
    values: dict[str, Any] = {}
    known = {f.name: f for f in fields(Config)}
    in_file = _from_file(path, mistakes)
    sources = [
        (f"{path}: ", in_file),
        (PREFIX, _from_environment(environ)),
        ("--", flags),
    ]
    for source, options in sources:
        for name, raw in options.items():
            shown = f"{PREFIX}{name.upper()}" if source == PREFIX else f"{source}{name}"
            if source == "--":
                shown = _flag(known[name])
            if name not in known:
                mistakes.append(f"{shown} is no option; see alexnet-server --help")
                continue
            try:
                values[name] = _convert(known[name], raw, typed=options is in_file)
            except (ValueError, TypeError):
                mistakes.append(f"{shown} must be {_kind(known[name])}, not {raw!r}")
    try:
        config = Config(**values)
    except ConfigError as error:
        mistakes += str(error).splitlines()
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return config


def _from_file(path: str | None, mistakes: list[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        mistakes.append(f"the configuration file {path} cannot be read: {error}")
        return {}


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    names = (name for name in environ if name.startswith(PREFIX) and name != f"{PREFIX}CONFIG")
    return {
        name.removeprefix(PREFIX).lower(): environ[name]
        for name in names
        if not (SERVICE_LINK.search(name) or environ[name].startswith(ADDRESS))
    }


def _convert(f: "Field[Any]", raw: Any, typed: bool) -> Any:
    """TOML has types, and they must be right; flags and the environment are text."""
    kind: Any = type(f.default)
    if not typed or (kind is float and type(raw) is int):
        return kind(raw)
    if type(raw) is not kind:
        raise TypeError
    return raw


def _groups() -> dict[str, None]:
    """In the order of the fields, each once."""
    return dict.fromkeys(f.metadata["group"] for f in fields(Config))


def _flag(f: "Field[Any]") -> str:
    return "--" + f.name.replace("_", "-")


def _metavar(f: "Field[Any]") -> str:
    return {int: "N", float: "S"}.get(type(f.default), f.name.split("_")[-1].upper())


def _kind(f: "Field[Any]") -> str:
    return {int: "a whole number", float: "a number"}.get(type(f.default), "text")
