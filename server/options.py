"""How the configuration is read: flag > environment > file > default; every mistake at once."""

import argparse
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from alexnet import __version__
from alexnet.files import read_plain
from server.config import Config, ConfigError

PREFIX = "ALEXNET_"
MAX_FILE_BYTES = 1 << 16
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
    sources = [(f"{path}: ", in_file), (PREFIX, _from_environment(environ)), ("--", flags)]
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
        return tomllib.loads(read_plain(Path(path), MAX_FILE_BYTES).decode())
    except (OSError, ValueError) as error:
        mistakes.append(f"the configuration file {path} cannot be read: {error}")
    except RecursionError:
        mistakes.append(f"the configuration file {path} is too deeply nested")
    return {}


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """An empty variable is none: compose files and charts write `ALEXNET_X=` for the default. The
    key that a client shows (ALEXNET_API_KEY) is none of the server's."""
    names = (
        name
        for name in environ
        if name.startswith(PREFIX)
        and name not in (f"{PREFIX}CONFIG", f"{PREFIX}API_KEY")
        and environ[name]
    )
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
