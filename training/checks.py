"""What is checked before the first step: each fault is one sentence."""

import errno
import logging
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from alexnet.spec import Preprocess
from training.data import class_list, pack_bytes
from training.network import ARCHITECTURES, AlexNet
from training.photos import Photos
from training.recipe import Recipe

log = logging.getLogger(__name__)

_SHOWN = 5  # names in a message
_FEW_STEPS = 20


def check_photos(train: Photos | None, val: Photos, taught: frozenset[str] = frozenset()) -> None:
    """Logs what is odd about the photos; raises ValueError for what cannot be trained. `taught` are
    classes that a teacher knows.

    Shards are not opened: what is in them is only known when they are packed.
    """
    if train is not None:
        _report_files(train, "training")
    if val.part is None:  # else they are the same files
        _report_files(val, "validation")
    if train is None or train.shards:
        return
    classes = Counter(photo.group for photo in train.listed)
    if val.part is not None:
        classes += Counter(photo.group for photo in val.listed)
    count = sum(classes.values())
    if len(classes) == count > 1:
        raise ValueError(
            f"{train.names} holds {count} photos of {count} classes: put the photos of each class "
            "into a folder with the name of the class, or let their names begin with CLASS_"
        )
    if len(classes) == 1 and not taught:
        raise ValueError(
            f"all photos in {train.names} are of one class, {next(iter(classes))}: "
            "it takes two to tell apart"
        )
    if alone := [name for name, photos in classes.items() if photos == 1]:
        log.warning("classes of a single photo are hardly learnt: %s", _few(alone))
    if not val.shards:
        scored = Counter(photo.group for photo in val.listed)
        _compare_classes(classes, scored, train, val, taught)


def _report_files(photos: Photos, what: str) -> None:
    found = photos.found
    if found.others:
        others = ", ".join(f"{count} {suffix}" for suffix, count in found.others.most_common(5))
        log.warning("%s files are no photos and left out: %s", what, others)
    if found.broken:
        log.warning("%s links lead nowhere and are left out: %s", what, _few(found.broken))
    if found.empty:
        log.warning("%s folders hold no photo and are no class: %s", what, _few(found.empty))


def _compare_classes(
    known: Counter[str], scored: Counter[str], train: Photos, val: Photos, taught: frozenset[str]
) -> None:
    labels = class_list(known.keys() | taught)
    unknown = sorted(scored.keys() - labels.index.keys())
    if unknown:
        raise ValueError(
            f"{val.names} has classes that {train.names} lacks: {_few(unknown)} "
            f"(it has {_few(sorted(known))})"
        )
    if untrained := sorted(scored.keys() - known.keys() - taught):
        log.warning("classes that score but are not trained: %s", _few(untrained))
    if unscored := sorted(known.keys() - scored.keys()):
        log.warning("classes without photos to score with: %s", _few(unscored))
    if set(train.sources) & set(val.sources) and val.part is None:
        log.warning("%s trains and scores: the accuracy will be too good to be true", val.names)


def check_recipe(recipe: Recipe, photos: int | None) -> None:
    """Raises ValueError for settings that cannot train; `photos` are None where shards do not tell
    how many they hold."""
    if recipe.epochs < 1:
        raise ValueError(f"--epochs {recipe.epochs}: at least one is needed")
    least = 2 if ARCHITECTURES[recipe.arch].batch_norm else 1
    if recipe.batch < least:
        why = " for batch norm, which compares the photos of a batch" if least > 1 else ""
        raise ValueError(f"--batch {recipe.batch}: at least {least} is needed{why}")
    if photos is None:
        return
    steps = photos // recipe.batch * recipe.epochs
    if 0 < steps < _FEW_STEPS:
        log.warning(
            "this run makes only %d steps: a smaller --batch or more --epochs teach it more", steps
        )


def count_photos(sources: Sequence[Photos | None]) -> int | None:
    """Of all of them; None if one of them does not tell before its shards are read."""
    counts = [photos.count for photos in sources if photos is not None]
    return None if None in counts else sum(count for count in counts if count is not None)


def check_disk(
    recipe: Recipe,
    train: Photos | None,
    val: Photos,
    cache: Path,
    run: Path,
    more: Sequence[Photos] = (),
    taught: frozenset[str] = frozenset(),
) -> None:
    """Says how much room packed photos and checkpoints take; raises OSError if it is not there.
    `more` are photos without classes, `taught` the classes that a teacher knows."""
    store = Preprocess(recipe.store, recipe.store)
    specs = {Preprocess().at(px) for _, px in recipe.sizes}
    pools = [train, *more] if train is not None else more
    packed = sum(pack_bytes(photos, store, cache) for photos in pools)
    packed += sum(pack_bytes(val, spec, cache) for spec in specs)
    with torch.device("meta"):
        network = AlexNet(_classes(train, taught), recipe.arch)
    weights = 4 * sum(parameter.numel() for parameter in network.parameters())
    # The last checkpoint holds weights and momentum (and their average), the best one and the model
    # weights; each is written beside the one that it replaces.
    needs = {cache: packed, run: (7 if recipe.average else 6) * weights}
    log.info("disk: %s for packed photos in %s, up to %s for checkpoints in %s",
             _size(packed), cache, _size(needs[run]), run)  # fmt: skip
    disks: dict[int, list[Path]] = defaultdict(list)
    for path in needs:
        disks[_existing(path).stat().st_dev].append(path)
    for paths in disks.values():
        needed = sum(needs[path] for path in paths)
        free = shutil.disk_usage(_existing(paths[0])).free
        if needed > free:
            raise OSError(
                errno.ENOSPC,
                f"{' and '.join(map(str, paths))} will take up to {_size(needed)} and the disk has "
                f"{_size(free)} left: make room, or pass another --cache or --output",
            )


def _classes(train: Photos | None, taught: frozenset[str]) -> int:
    """Outputs of the network; those of ImageNet where shards do not tell."""
    groups = taught | {photo.group for photo in (train.listed if train else ())}
    return len(class_list(set(groups))) if groups and not (train and train.shards) else 1000


def _existing(path: Path) -> Path:
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def sentence(error: BaseException, *, batch: bool = True) -> str:
    """What went wrong, without a number of the operating system; `batch`: there is a --batch."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ({error.filename})" if error.filename else ""
        full = f"the disk is full{where}: make room, or pass another --cache or --output"
        return full if error.strerror == os.strerror(error.errno) else str(error.strerror)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return f"there is not enough memory{': a smaller --batch needs less' if batch else ''}"
    return text if isinstance(error, RuntimeError) else str(error)
