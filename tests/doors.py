"""Callers of a server that asks for keys."""

from hashlib import sha256
from pathlib import Path

KEYS = {
    "shop": "",
    "slow": "rate = 2",
    "narrow": 'priority = 2\nversions = ["7"]',
    "humble": "priority = 2",
    "admin": "manage = true",
}
"""name -> what it may do. The key itself is `alexnet_NAME`."""


def secret(name: str) -> str:
    return f"alexnet_{name}"


def entry(name: str, more: str = "") -> str:
    digest = sha256(secret(name).encode()).hexdigest()
    return f'[{name}]\nhash = "sha256:{digest}"\n{more}\n'


def write_keys(folder: Path, *names: str) -> str:
    """The path of a file with these keys, or with all."""
    path = folder / "keys.toml"
    path.write_text("".join(entry(name, KEYS[name]) for name in names or KEYS))
    return str(path)


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret(name)}"}
