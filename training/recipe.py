"""A training run is one frozen `Recipe`; the named ones are here, with the result to expect."""

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Recipe:
    name: str
    epochs: int
    batch: int = 256
    sizes: tuple[tuple[int, int], ...] = ((0, 224),)
    """(first epoch, side of the crop in px): small crops are cheap, and AlexNet pools to 6 x 6."""
    store: int = 256
    """Side in px at which photos are packed; 256 as in the paper, section 2."""
    smallest_view: float = 0.5
    """Random crops span this fraction of the stored side, up to all of it."""
    filters: tuple[str, ...] = ("bilinear",)
    """What enlarges or reduces the views, one of them for each batch."""
    sharpness: float = 0.0
    """How far views are blurred or sharpened (training/augment.py)."""
    grain: float = 0.0
    """Grey levels of noise at most."""
    peak_lr: float = 0.15
    warmup: float = 0.1
    """Fraction of the run in which the learning rate rises; after it, linear to zero."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    dropout: float = 0.5
    batch_norm: bool = True
    sparsity: float = 0.0
    """Fraction of the fully connected weights that is zero at the end (training/prune.py)."""
    pruning: tuple[float, float] = (0.4, 0.8)
    """Where in the run, as fractions of it, sparsity rises from nothing to that."""
    seed: int = 2012

    def size_at(self, epoch: int) -> int:
        """Side of the crop in px during `epoch`."""
        return [px for first, px in self.sizes if epoch >= first][-1]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Recipe":
        return cls(
            **{
                **data,
                "sizes": tuple((e, px) for e, px in data["sizes"]),
                "pruning": tuple(data["pruning"]),
                "filters": tuple(data["filters"]),
            }
        )


# The starter that `make serve` serves: Tiny ImageNet, 200 classes, 64 px tiles.
# Expect 45 % top-1 / 72 % top-5 of the 200: 72 minutes on two busy cores with AMX (docs/records/).
STARTER = Recipe(
    name="starter",
    epochs=11,
    sizes=((0, 96), (4, 112), (8, 160), (9, 224)),
    store=64,
    smallest_view=0.6,
    dropout=0.3,
    sparsity=0.9,
)

# The starter, continued (--init) for photos that are sharper than the tiles it has seen, and that
# never went through their JPEG: whatever a filter, a lens or a sensor adds must not matter.
SHARP = Recipe(
    name="starter-sharp",
    epochs=9,
    sizes=((0, 128), (5, 176), (7, 224)),
    store=64,
    smallest_view=0.6,
    filters=("bilinear", "bicubic", "nearest"),
    sharpness=1.0,
    grain=40.0,
    peak_lr=0.08,
    dropout=0.3,
    sparsity=0.9,
)

# A photo folder of one's own, from nothing, at full size.
PLAIN = Recipe(name="plain", epochs=30)

# Seconds on any machine: proves the chain, learns nothing worth serving.
SMOKE = Recipe(
    name="smoke", epochs=2, batch=16, sizes=((0, 64),), store=64, peak_lr=0.02, sparsity=0.5
)

RECIPES = {recipe.name: recipe for recipe in (STARTER, SHARP, PLAIN, SMOKE)}


def named(name: str, **overrides: Any) -> Recipe:
    """The named recipe with the overrides that are not None."""
    return replace(RECIPES[name], **{k: v for k, v in overrides.items() if v is not None})
