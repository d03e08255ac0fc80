"""The class list: index -> (synset, name)."""

from dataclasses import dataclass
from functools import cached_property
from importlib import resources


@dataclass(frozen=True)
class Label:
    synset: str
    names: str

    @cached_property
    def name(self) -> str:
        """The first of the synonyms: `tench` of `tench, Tinca tinca`."""
        return self.names.split(",")[0].strip()


@dataclass(frozen=True)
class Labels:
    """Classes in the order of the network's outputs; synsets are unique."""

    rows: tuple[Label, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError("a class list needs at least one class")
        if len(self.index) != len(self.rows):
            raise ValueError("a class appears twice in the class list")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Label:
        return self.rows[index]

    @cached_property
    def index(self) -> dict[str, int]:
        """Synset -> position."""
        return {label.synset: i for i, label in enumerate(self.rows)}

    @classmethod
    def imagenet(cls) -> "Labels":
        """The 1000 classes of ILSVRC-2012 in sorted-synset order, as torchvision has them."""
        return cls.from_tsv(
            resources.files("alexnet").joinpath("imagenet_1000.tsv").read_text(encoding="utf-8")
        )

    @classmethod
    def from_tsv(cls, text: str) -> "Labels":
        """Reads `index<TAB>synset<TAB>names` rows under a header; ValueError names a bad row."""
        lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
        rows = [line.split("\t") for line in lines]
        if not rows or rows[0] != ["index", "synset", "names"]:
            raise ValueError("a class list starts with the columns index, synset, names")
        for number, row in enumerate(rows[1:]):
            if len(row) != 3 or "\r" in "".join(row) or row[0] != str(number):
                raise ValueError(f"class list, row {number}: {row} is not index, synset, names")
        return cls(tuple(Label(synset, names) for _, synset, names in rows[1:]))

    def to_tsv(self) -> str:
        lines = [f"{i}\t{label.synset}\t{label.names}" for i, label in enumerate(self.rows)]
        return "\n".join(["index\tsynset\tnames", *lines]) + "\n"
