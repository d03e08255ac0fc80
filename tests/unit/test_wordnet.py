from collections import Counter

import pytest

from alexnet import wordnet
from alexnet.labels import Labels


def test_a_retriever_is_a_dog_is_an_animal() -> None:
    names = [node.name for node in wordnet.path("n02099601")]
    assert names[0] == "entity"
    assert names[-1] == "golden retriever"
    assert names.index("animal") < names.index("mammal") < names.index("dog")


def test_every_class_of_imagenet_has_a_path_to_the_top() -> None:
    for label in Labels.imagenet().rows:
        path = wordnet.path(label.synset)
        assert path[0].parent == ""
        assert [node.parent for node in path[1:]] == [node.synset for node in path[:-1]]
        assert path[-1].synset == label.synset


def test_what_is_no_class_of_imagenet_has_no_path() -> None:
    assert wordnet.path("cat") == []
    assert wordnet.group("cat") == wordnet.OTHER


@pytest.mark.parametrize(
    ("synset", "group"),
    [
        ("n02123045", "cats"),
        ("n02129165", "cats"),  # a lion
        ("n02114367", "other carnivores"),  # a wolf
        ("n02086240", "dogs"),
        ("n01729977", "snakes"),
        ("n07745940", "food"),  # a strawberry
        ("n13040303", "mushrooms"),
        ("n04146614", "other artefacts"),  # a school bus: WordNet has it as public transport
    ],
)
def test_the_group_of_a_class_is_the_nearest_above_it(synset: str, group: str) -> None:
    assert wordnet.group(synset) == group


def test_groups_are_neither_tiny_nor_everything() -> None:
    sizes = Counter(wordnet.group(label.synset) for label in Labels.imagenet().rows)
    assert sum(sizes.values()) == 1000
    assert max(sizes.values()) == sizes["dogs"] == 118
    assert sizes[wordnet.OTHER] < 20
