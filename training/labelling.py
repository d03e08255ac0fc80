"""Asks a teacher about the views of photos, and keeps its answers: photos in, soft labels out.

Photos are read from the memory-mapped pack, a chunk at a time. Each chunk of answers is a file of
its own until all are there, so that an interrupted run loses the current chunk only.
"""

import argparse
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from alexnet.spec import Preprocess
from training.checkpoint import Checkpoint
from training.data import Dataset, load
from training.evaluate import evaluate
from training.recipe import RECIPES, Recipe
from training.softlabels import MOST_CLASSES, Origin, SoftLabels, best
from training.teacher import BATCH, Teacher

log = logging.getLogger(__name__)

CHUNK = 512  # photos: seconds of a teacher's time


def label_photos(arguments: argparse.Namespace) -> None:
    """The command; raises ValueError, OSError."""
    teacher, recipe = Teacher(arguments.teacher), RECIPES[arguments.recipe]
    if arguments.val:
        val = load(arguments.val, teacher.description.preprocess, teacher.labels)
        score = evaluate(teacher, val).in_words(len(teacher.labels))
        log.info("%s: %s", teacher.name, score)
    spec = Preprocess(recipe.store, recipe.store)
    data = load(arguments.photos, spec, teacher.labels, arguments.cache, classes=False)
    origin = describe(teacher, data, recipe, arguments.views)
    labels = label(teacher, data, origin, arguments.best, arguments.output)
    log.info("%s\nwrote %s", summary(labels), arguments.output)


def describe(teacher: Teacher, data: Dataset, recipe: Recipe, views: int) -> Origin:
    """The origin of the labels that `teacher` will give to `views` views of each photo."""
    return Origin(
        teacher=teacher.name,
        teacher_sha256=teacher.sha256,
        classes=teacher.labels.to_tsv(),
        photos_sha256=data.sha256,
        photos=len(data),
        views=views,
        seed=recipe.seed,
        view=recipe.view,
    )


def label(teacher: Teacher, data: Dataset, origin: Origin, k: int, output: Path) -> SoftLabels:
    """Writes the labels to `output`; goes on where an earlier call was interrupted.

    Raises ValueError if `output` or what is unfinished there is of other labels.
    """
    if len(teacher.labels) > MOST_CLASSES:
        raise ValueError(f"a teacher has at most {MOST_CLASSES:,} classes")
    k = min(k, len(teacher.labels))
    if output.exists():
        labels = SoftLabels.load(output)
        if (labels.origin, labels.classes.shape[2]) != (origin, k):
            raise ValueError(f"{output} holds other labels: name another --output")
        log.info("%s is complete", output)
        return labels
    folder = output.with_name(f"{output.name}.unfinished")
    _begin(folder, {"origin": origin.to_json(), "k": k})
    for photos in _missing(folder, len(data)):
        _ask(teacher, data, origin, k, photos).save(_chunk(folder, photos.start))
    _join(folder, origin).save(output)
    shutil.rmtree(folder)
    return SoftLabels.load(output)


def _begin(folder: Path, facts: dict[str, Any]) -> None:
    """Makes the folder of an unfinished run, or checks that it is of this one."""
    folder.mkdir(parents=True, exist_ok=True)
    path, text = folder / "origin.json", json.dumps(facts, sort_keys=True)
    if not path.exists():
        path.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{folder} holds part of other labels: remove it, or name another --output"
        )


def _missing(folder: Path, photos: int) -> Iterator[range]:
    """The photos of each chunk that is to be labelled."""
    chunks = [range(start, min(start + CHUNK, photos)) for start in range(0, photos, CHUNK)]
    missing = [chunk for chunk in chunks if not _chunk(folder, chunk.start).exists()]
    done = photos - sum(map(len, missing))
    with tqdm(total=photos, initial=done, desc="labelling", unit="photo", disable=None) as bar:
        for chunk in missing:
            yield chunk
            bar.update(len(chunk))


def _chunk(folder: Path, start: int) -> Path:
    return folder / f"{start:09d}.safetensors"


def _ask(teacher: Teacher, data: Dataset, origin: Origin, k: int, photos: range) -> Checkpoint:
    """The answers to all views of these photos: tensors (photos, views, ...)."""
    index = torch.tensor(photos).repeat_interleave(origin.views)
    numbers = torch.arange(origin.views).repeat(len(photos))
    images, side = torch.from_numpy(data.images), data.images.shape[1]
    views = origin.boxes(index, numbers, side)
    parts = []
    for i in range(0, len(index), BATCH):
        batch = slice(i, i + BATCH)
        crops = views.at(batch).cut(images, index[batch], teacher.description.side)
        parts.append(best(teacher(crops.numpy()), k))
    names = ("classes", "shares", "rest")
    tensors = (torch.cat(column) for column in zip(*parts, strict=True))
    shape = (len(photos), origin.views)
    return Checkpoint(
        {n: t.reshape(*shape, *t.shape[1:]) for n, t in zip(names, tensors, strict=True)}
    )


def _join(folder: Path, origin: Origin) -> SoftLabels:
    chunks = [Checkpoint.load(_chunk(folder, start)) for start in range(0, origin.photos, CHUNK)]
    names = ("classes", "shares", "rest")
    tensors = (torch.cat([chunk.tensors[name] for chunk in chunks]) for name in names)
    return SoftLabels.of(origin, *tensors)


def summary(labels: SoftLabels) -> str:
    """What the teacher sees in these photos, in one sentence."""
    first = labels.shares[:, :, 0].float()
    return (
        f"{len(labels):,} photos, {labels.origin.views} views each: the first answer has "
        f"{first.mean():.0%} on average, {len(labels.named())} of {len(labels.known)} classes have "
        "half of an answer or more"
    )
