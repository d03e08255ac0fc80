"""What a class is a kind of, in WordNet 3.0 (wordnet.princeton.edu): ImageNet's synsets are its
numbers.

`wordnet.tsv` has the 1000 classes and all that they are a kind of: of several parents the first.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources

_GROUPS = {
    "n02084071": "dogs",
    "n02120997": "cats",
    "n02075296": "other carnivores",
    "n02469914": "primates",
    "n02370806": "hoofed animals",
    "n01861778": "other mammals",
    "n01503061": "birds",
    "n01726692": "snakes",
    "n01661091": "lizards, turtles and other reptiles",
    "n01627424": "frogs and other amphibians",
    "n02512053": "fish",
    "n02159955": "insects",
    "n00015388": "spiders, crabs, shells and other animals",
    "n04524313": "vehicles",
    "n03800933": "musical instruments",
    "n03405265": "furniture",
    "n03051540": "clothes",
    "n03122748": "other coverings",
    "n03094503": "containers",
    "n03563967": "tools",
    "n03294048": "equipment",
    "n03183080": "other devices",
    "n04341686": "buildings and other structures",
    "n00021939": "other artefacts",
    "n07555863": "food",
    "n00021265": "food",
    "n09287968": "landscapes",
    "n11669921": "plants",
    "n13134947": "plants",
    "n12992868": "mushrooms",
}
OTHER = "other things"


@dataclass(frozen=True)
class Node:
    synset: str
    parent: str
    """A synset; empty for `entity`, of which all things are a kind."""
    name: str


@cache
def nodes() -> dict[str, Node]:
    """By synset."""
    rows = (
        resources.files("alexnet")
        .joinpath("wordnet.tsv")
        .read_text(encoding="utf-8")
        .splitlines()[1:]
    )
    return {node.synset: node for node in (Node(*row.split("\t")) for row in rows)}


def path(synset: str) -> list[Node]:
    """From `entity` down to the synset; empty for one that is not of ImageNet's 1000 classes."""
    found: list[Node] = []
    node = nodes().get(synset)
    while node:
        found.append(node)
        node = nodes().get(node.parent)
    return found[::-1]


def group(synset: str) -> str:
    """One of some two dozen groups for tables, such as `dogs`; `other things` for what has none."""
    names = [_GROUPS[node.synset] for node in path(synset) if node.synset in _GROUPS]
    return names[-1] if names else OTHER
