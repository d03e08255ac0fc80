"""What a caller wants to be told of a photo, and how thoroughly it is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.labels import Labels
from alexnet.ten_views import VIEWS
from server.engines.model import Model
from server.errors import BadRequest
from server.thorough import EXPLANATIONS, explanations

DEFAULT_TOP_K = 5
MOST_LABELS = 1000


@dataclass(frozen=True)
class Options:
    """As asked: `checked` says what that means for the model that answers."""

    top_k: int | None = None
    min_probability: float = 0.0
    labels: Sequence[str] = ()
    """Synsets or names; none: all classes."""
    kinds: bool = False
    views: int = 1
    explain: str = ""

    def checked(self, model: Model) -> "Asked":
        """Raises BadRequest."""
        if not 0 <= self.min_probability <= 1:
            raise BadRequest(
                f"min_probability must lie between 0 and 1, not {self.min_probability:g}"
            )
        if self.views not in (1, VIEWS):
            raise BadRequest(f"views must be 1 or {VIEWS}, not {self.views}")
        if self.explain not in ("", *EXPLANATIONS):
            known = " or ".join(EXPLANATIONS)
            raise BadRequest(f"explain must be {known}, or left out; not {self.explain[:20]!r}")
        if self.explain and self.explain not in (others := explanations(model)):
            raise BadRequest(
                f"explain={self.explain} is not to be had from {model.name} on "
                f"{model.engine.name}: ask for explain={others[0]}"
            )
        among = _among(self.labels, model.bundle.labels) if self.labels else None
        k = _checked_k(self.top_k, model.classes if among is None else len(among))
        return Asked(k, self.min_probability, among, self.kinds, self.views, self.explain)


@dataclass(frozen=True)
class Asked:
    k: int
    min_probability: float
    among: NDArray[np.intp] | None
    """The classes to choose from; None: all."""
    kinds: bool
    views: int
    explain: str

    @property
    def is_costly(self) -> bool:
        """Whether a photo takes more than one run of the network."""
        return self.views > 1 or bool(self.explain)


def _among(wanted: Sequence[str], labels: Labels) -> NDArray[np.intp]:
    """Raises BadRequest for what is no class, or several."""
    if len(wanted) > MOST_LABELS:
        raise BadRequest(f"labels has {len(wanted)} entries; at most {MOST_LABELS} are read")
    names: dict[str, list[int]] = {}
    for index, label in enumerate(labels.rows):
        names.setdefault(label.name.casefold(), []).append(index)
    found = []
    for text in wanted:
        name = text.strip()
        indices = [labels.index[name]] if name in labels.index else names.get(name.casefold(), [])
        if not indices:
            raise BadRequest(f"labels: the model has no class {name[:50]!r}")
        if len(indices) > 1:
            synsets = " or ".join(labels[i].synset for i in indices)
            raise BadRequest(f"labels: {name!r} are {len(indices)} classes: say {synsets}")
        found += indices
    return np.unique(np.array(found, np.intp))


def _checked_k(k: int | None, classes: int) -> int:
    """Raises BadRequest; 5 unless told, or all classes of a model that has fewer."""
    if k is None:
        return min(DEFAULT_TOP_K, classes)
    if not 1 <= k <= classes:
        raise BadRequest(f"top_k must lie between 1 and {classes}, not {k}")
    return k
