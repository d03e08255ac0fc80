"""An earlier sweep to compare with."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from alexnet_client.load.point import Point
from alexnet_client.load.report import FORMAT


@dataclass(frozen=True)
class Baseline:
    title: str
    settings: dict[str, Any]
    points: dict[str, dict[str, Any]]
    """By level, without those in which the generator was too slow."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises ValueError, OSError."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']} is not {FORMAT}")
            points = {p["level"]: p for p in document["points"] if not p["problem"]}
            return cls(f"{path.name} of {document['date']}", dict(document["settings"]), points)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not what --output writes: {error}") from None

    def changed_settings(self, settings: dict[str, Any]) -> list[str]:
        """The settings in which the two sweeps differ."""
        return [
            f"{name} was {self.settings.get(name)}, is {value}"
            for name, value in settings.items()
            if name not in {"rates", "concurrency"} and self.settings.get(name) != value
        ]

    def changes(self, points: Sequence[Point]) -> dict[str, dict[str, float | None]]:
        """By level: goodput, p50 and p99, now / then; None if either is missing or 0."""
        return {
            str(point.load): {
                "goodput": _ratio(point.goodput_per_s, then["goodput_per_s"]),
                "p50": _ratio(point.latency_ms.get("p50"), then["latency_ms"].get("p50")),
                "p99": _ratio(point.latency_ms.get("p99"), then["latency_ms"].get("p99")),
            }
            for point in points
            if (then := self.points.get(str(point.load)))
        }


def is_worse(change: dict[str, float | None], tolerance: float) -> bool:
    slower = max(change["p50"] or 0.0, change["p99"] or 0.0) > 1 + tolerance
    return slower or (change["goodput"] is not None and change["goodput"] < 1 - tolerance)


def _ratio(now: float | None, then: float | None) -> float | None:
    return now / then if now is not None and then else None
