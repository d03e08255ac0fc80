"""What a bundle says of a network that a teacher taught, where its photos show all classes too."""

from dataclasses import replace
from types import SimpleNamespace

from alexnet.bundle import Bundle
from alexnet.manifest import Taught
from export import card, run
from tests.paths import STARTER


def test_no_class_is_counted_as_the_teachers_alone_where_there_is_none() -> None:
    manifest = Bundle.open(STARTER).manifest
    for classes, alone, said in (
        (0, "photos\n", "of all of its"),
        (3, "photos; 3 more", "learned 3"),
    ):
        lessons = Taught("lite0", 330_000, classes)
        model = SimpleNamespace(labels=range(1000), known=1000, taught=lessons)
        assert alone in card._taught(replace(manifest, taught=lessons))
        assert said in run._description(model)  # type: ignore[arg-type]
