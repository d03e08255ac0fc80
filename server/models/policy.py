"""Which versions are served, and which of them answers requests that name none."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Versioned(Protocol):
    @property
    def version(self) -> str: ...


V = TypeVar("V", bound=Versioned)


@dataclass(frozen=True)
class VersionPolicy:
    """Triton's three policies; raises ValueError for a text that is none of them."""

    versions: str = "latest"
    """`latest`, `latest:N`, `all`, or the versions themselves: `1,3`."""
    weights: str = ""
    """Shares of the requests that name no version: `1=90,2=10`. Without it the latest gets all."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"latest(:[1-9]\d{0,3})?|all|[1-9]\d*(,[1-9]\d*)*", self.versions):
            raise ValueError(f"{self.versions!r} is not latest, latest:N, all, or versions: 1,3")
        if not re.fullmatch(r"([1-9]\d*=\d{1,6}(,(?=\d)|$))*", self.weights):
            raise ValueError(f"{self.weights!r} is not a list of shares: 1=90,2=10")

    def wanted(self, found: Sequence[V]) -> list[V]:
        """Of these, lowest version first."""
        if self.versions == "all":
            return list(found)
        kind, _, count = self.versions.partition(":")
        if kind == "latest":
            return list(found[-int(count or 1) :])
        names = set(self.versions.split(","))
        return [source for source in found if source.version in names]

    def pick(self, served: Sequence[str], at: float) -> str:
        """`at` lies in [0, 1); shares of versions that are not served fall to the others."""
        shares = {v: n for v, n in self._shares().items() if v in served and n}
        left = at * sum(shares.values())
        for version, share in shares.items():
            left -= share
            if left < 0:
                return version
        return served[-1]

    def _shares(self) -> dict[str, int]:
        pairs = (pair.partition("=") for pair in self.weights.split(",") if pair)
        return {version: int(share) for version, _, share in pairs}
