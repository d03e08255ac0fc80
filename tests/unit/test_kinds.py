"""Guesses of one kind add up."""

import numpy as np
from numpy.typing import NDArray

from alexnet.kinds import Kinds
from alexnet.labels import Label, Labels

IMAGENET = Labels.imagenet()


def guesses(**chances: float) -> NDArray[np.float32]:
    row = np.zeros(len(IMAGENET), np.float32)
    for name, chance in chances.items():
        (index,) = (i for i, label in enumerate(IMAGENET.rows) if label.name == name)
        row[index] = chance
    return row


def names(row: NDArray[np.float32], labels: Labels = IMAGENET) -> list[str]:
    return [kind.name for kind in Kinds(labels).of(row)]


def test_two_hounds_are_a_dog_and_a_dog_is_an_animal() -> None:
    kinds = Kinds(IMAGENET).of(guesses(beagle=0.3, basset=0.4, teapot=0.1))
    chances = {kind.name: round(kind.probability, 3) for kind in kinds}
    assert chances["dog"] == chances["animal"] == 0.7
    assert list(chances).index("animal") < list(chances).index("dog")
    assert {kind.synset for kind in kinds} >= {"n02084071"}


def test_a_sure_class_ends_the_path() -> None:
    assert names(guesses(teapot=0.9))[-1] == "teapot"
    assert names(guesses(teapot=0.4, beagle=0.3))[-1:] != ["teapot"]


def test_nothing_is_said_where_no_kind_has_the_majority() -> None:
    assert names(guesses(teapot=0.3, beagle=0.3, strawberry=0.3)) == []


def test_what_nearly_all_classes_are_is_not_said() -> None:
    assert not {"entity", "object", "physical entity"} & {*names(guesses(beagle=1.0))}


def test_classes_that_wordnet_does_not_know_are_of_no_kind() -> None:
    own = Labels((Label("mine", "mine"), Label("n02088364", "beagle")))
    assert names(np.array([0.9, 0.1], np.float32), own) == []


def test_each_kind_holds_the_next() -> None:
    dice = np.random.default_rng(0)
    kinds = Kinds(IMAGENET)
    for _ in range(200):
        row = dice.dirichlet(np.full(1000, 0.01)).astype(np.float32)
        chances = [kind.probability for kind in kinds.of(row)]
        assert chances == sorted(chances, reverse=True)
        assert all(0.5 < chance <= 1.001 for chance in chances)
