"""API keys: a file that has their hashes, and what the caller that shows one may do.

    python -m server.keys NAME

makes a key. It is shown this once; the file gets its hash.
"""

import argparse
import hmac
import re
import secrets
import time
import tomllib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from alexnet import __version__
from alexnet.files import read_plain
from server.allowance import Allowance
from server.errors import RateLimited
from server.watched import Unusable, Watched

MAX_FILE_BYTES, MAX_KEYS = 1 << 20, 1000
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""It stands in the log."""
HASH = re.compile(r"sha256:[0-9a-f]{64}")
MOST_A_SECOND = 1e6
EXAMPLE = """\
[{name}]
hash = "{hash}"
# rate = 50             # photos a second; none: any number
# priority = 2          # the highest it may name, and that of requests that name none
# versions = ["1"]      # of the model; none: all
# manage = true         # may load and unload versions
"""


@dataclass(frozen=True)
class Key:
    name: str
    digest: bytes = field(repr=False)
    allowance: Allowance = field(repr=False)
    rate: float = 0.0
    """Photos and other requests a second; 0 is any number."""
    priority: int | None = None
    """The highest level that it may name, and that of requests that name none."""
    versions: frozenset[str] = frozenset()
    """Empty: all."""
    manage: bool = False

    def spend(self, count: int = 1, debt: bool = False) -> None:
        """Raises RateLimited, unless it may go into `debt`: later requests wait then."""
        if not self.rate:
            return
        early_s = self.allowance.spend(count, self.rate, time.monotonic(), debt)
        if early_s:
            raise RateLimited(f"this key may send {self.rate:g} photos a second", early_s)


caller: ContextVar[Key | None] = ContextVar("caller", default=None)
"""The key of the request that is handled; None where none was shown or none is asked for."""


class Keys(Watched):
    def __init__(self, path: Path, shared: Path | None):
        """`shared`: the folder in which the workers count together. Raises OSError."""
        self._path, self._shared = path, shared
        self._allowances: dict[str, Allowance] = {}
        """By name, so that a new hash is no new allowance."""
        self._keys: list[Key] = []
        super().__init__("API keys", path)

    def find(self, secret: bytes) -> Key | None:
        """Compares with every key, so that its time does not tell which one it was, if any."""
        digest, found = sha256(secret).digest(), None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def read(self) -> None:
        try:
            tables = tomllib.loads(read_plain(self._path, MAX_FILE_BYTES).decode())
        except OSError as error:
            raise Unusable(f"{self._path} cannot be read: {error.strerror}") from None
        except tomllib.TOMLDecodeError as error:
            raise Unusable(f"{self._path} is no TOML: {error}") from None
        except (UnicodeError, RecursionError):
            raise Unusable(f"{self._path} is no TOML") from None
        except ValueError as error:
            raise Unusable(str(error)) from None
        if not 1 <= len(tables) <= MAX_KEYS:
            raise Unusable(f"{self._path} must have 1 to {MAX_KEYS} keys, not {len(tables)}")
        try:
            keys = [self._key(name, table) for name, table in tables.items()]
        except ValueError as error:
            raise Unusable(f"{self._path}: {error}") from None
        if len({key.digest for key in keys}) < len(keys):
            raise Unusable(f"{self._path} has two keys of the same hash")
        self._keys = keys

    def _key(self, name: str, table: Any) -> Key:
        """Raises ValueError, which says nothing of what stands in the file beyond names."""
        if not NAME.fullmatch(name):
            raise ValueError("the name of a key has 1 to 64 letters, digits, _ or -")
        if not isinstance(table, dict):
            raise ValueError(f"{name} must be a table: [{name}]")
        if unknown := table.keys() - _FIELDS:
            raise ValueError(f"[{name}] has more than {', '.join(_FIELDS)}: {len(unknown)} more")
        for option, (right, must) in _FIELDS.items():
            if option in table and not right(table[option]):
                raise ValueError(f"{option} of [{name}] must be {must}")
        if "hash" not in table:
            raise ValueError(f"[{name}] has no hash: python -m server.keys {name} makes one")
        if name not in self._allowances:
            path = self._shared / f"{name}.rate" if self._shared else None
            self._allowances[name] = Allowance(path)
        return Key(
            name,
            bytes.fromhex(table["hash"].removeprefix("sha256:")),
            self._allowances[name],
            float(table.get("rate", 0)),
            table.get("priority"),
            frozenset(table.get("versions", ())),
            table.get("manage", False),
        )


_FIELDS: Mapping[str, tuple[Any, str]] = {
    "hash": (
        lambda v: isinstance(v, str) and HASH.fullmatch(v),
        "sha256: and 64 hexadecimal digits, of the key and not the key itself",
    ),
    "rate": (
        lambda v: type(v) in (int, float) and 0 < v <= MOST_A_SECOND,
        "a number of photos a second, above 0",
    ),
    "priority": (lambda v: type(v) is int and 1 <= v <= 8, "a level from 1, the highest, to 8"),
    "versions": (
        lambda v: isinstance(v, list) and v and all(isinstance(each, str) for each in v),
        'versions as text: ["1", "2"]',
    ),
    "manage": (lambda v: type(v) is bool, "true or false"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="alexnet-key", description="Make an API key for the server's --keys-file."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("name", help="what the log calls its caller: letters, digits, _ and -")
    name = parser.parse_args().name
    if not NAME.fullmatch(name):
        parser.error("a name has 1 to 64 letters, digits, _ or -")
    secret = f"alexnet_{secrets.token_urlsafe(32)}"
    hashed = f"sha256:{sha256(secret.encode()).hexdigest()}"
    print(f"The key, for its caller only; it is shown this once:\n\n{secret}\n")
    lines = EXAMPLE.format(name=name, hash=hashed)
    print(f"For the file of keys (--keys-file):\n\n{lines}", end="")


if __name__ == "__main__":
    main()
