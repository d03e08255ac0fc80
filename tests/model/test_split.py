"""The photos that are held out to score: the same ones in every run, and some of each class."""

from collections import Counter
from pathlib import Path

import pytest

from tests.photos import class_folders
from training.photos import Part, Photos
from training.split import PhotoFile

TRAIN, HELD_OUT = Part(0.2, held_out=False), Part(0.2, held_out=True)


def photo(group: str, name: str, place: str = "/photos") -> PhotoFile:
    return PhotoFile(f"{place}/{group}/{name}", group, lambda: b"")


def photos(counts: dict[str, int], place: str = "/photos") -> list[PhotoFile]:
    return [photo(g, f"{i}.jpg", place) for g, count in counts.items() for i in range(count)]


def names(part: list[PhotoFile]) -> set[str]:
    return {"/".join(p.name.replace("!", "/").split("/")[-2:]) for p in part}


def test_every_class_gives_its_share_and_the_parts_are_disjoint() -> None:
    everything = photos({"cat": 50, "dog": 11, "bird": 2, "fish": 3})
    train, held_out = TRAIN.of(everything), HELD_OUT.of(everything)
    assert Counter(p.group for p in held_out) == {"cat": 10, "dog": 2, "bird": 1, "fish": 1}
    assert names(train) | names(held_out) == names(everything)
    assert not names(train) & names(held_out)
    assert [p for p in everything if p in train] == train, "in their order"


def test_a_single_photo_of_a_class_trains() -> None:
    assert TRAIN.of(photos({"cat": 1})) != []
    assert HELD_OUT.of(photos({"cat": 1})) == []


def test_a_large_fraction_leaves_one_to_train() -> None:
    assert len(Part(0.99, held_out=False).of(photos({"cat": 10}))) == 1


@pytest.mark.parametrize("place", ["/elsewhere/deep", "photos.zip!photos", "photos.zip!"])
def test_the_split_is_the_same_wherever_the_folder_lies(place: str) -> None:
    counts = {"cat": 30, "dog": 30}
    moved = photos(counts, place.rstrip("/") if place != "photos.zip!" else "photos.zip!x")
    assert names(HELD_OUT.of(moved)) == names(HELD_OUT.of(photos(counts)))


def test_a_new_photo_moves_at_most_one_other() -> None:
    before = names(HELD_OUT.of(photos({"cat": 40})))
    for i in range(40, 60):
        after = names(HELD_OUT.of([*photos({"cat": 40}), photo("cat", f"new{i}.jpg")]))
        assert len(before - after) <= 1


def test_in_shards_the_fraction_holds_on_average() -> None:
    each = [HELD_OUT.has(p) for p in photos({"cat": 2000})]
    assert 0.17 < sum(each) / len(each) < 0.23
    assert [not TRAIN.has(p) for p in photos({"cat": 2000})] == each


def test_the_parts_of_a_folder_are_told_apart_by_their_fingerprints(tmp_path: Path) -> None:
    class_folders(tmp_path, ("leaf", "sky"), each=5, side=8)
    parts = [Photos([tmp_path], part) for part in (None, TRAIN, HELD_OUT)]
    assert [part.count for part in parts] == [10, 8, 2]
    assert len({part.fingerprint for part in parts}) == 3
