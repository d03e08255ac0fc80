import pytest

from alexnet.labels import Label, Labels
from export.groups import score_groups
from training.evaluate import ClassScore, Score

IMAGENET = Labels.imagenet()


def own(synset: str, top1: float, top5: float, photos: int) -> ClassScore:
    return ClassScore(IMAGENET.index[synset], Score(top1, top5, photos), [])


def test_the_score_of_a_group_is_over_its_photos_and_the_worst_group_is_first() -> None:
    tabby, lion = own("n02123045", 0.5, 1.0, 10), own("n02129165", 1.0, 1.0, 30)
    strawberry = own("n07745940", 0.25, 0.75, 4)
    food, cats = score_groups([tabby, strawberry, lion], IMAGENET)
    assert (food.name, food.classes, food.score) == ("food", 1, Score(0.25, 0.75, 4))
    assert (cats.name, cats.classes, cats.score.photos) == ("cats", 2, 40)
    assert (cats.score.top1, cats.score.top5) == pytest.approx((0.875, 1.0))


def test_classes_of_another_list_have_no_groups() -> None:
    labels = Labels((Label("cat", "cat"), Label("dog", "dog")))
    assert score_groups([ClassScore(0, Score(1, 1, 3), [])], labels) == []
