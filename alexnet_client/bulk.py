"""`alexnet-classify --output`: millions of photos, with a file of answers that a later run goes on
with."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from alexnet_client import interrupt
from alexnet_client.access import Access
from alexnet_client.answers import Answers, open_answers, row
from alexnet_client.client import Client
from alexnet_client.errors import ClassifyError
from alexnet_client.photos import Photo
from alexnet_client.sources import photos_of

REFUSALS = ("invalid_image", "unsupported_format", "too_large")
"""Reasons to refuse a photo for what it is."""


def _is_final(error: ClassifyError) -> bool:
    """Whether the same photo gets it again: it is written down. Others the next run tries again."""
    return error.reason in REFUSALS


class Unreachable(Exception):
    """The server answers no more; what it has answered is written."""

    def __init__(self, error: ClassifyError) -> None:
        self.error = error


def classify(options: argparse.Namespace, access: Access) -> int:
    """Writes the answers, and says how many; returns the exit code. Raises ValueError, OSError,
    Unreachable."""
    answers = open_answers(options.output)
    before, failed, refused = len(answers), 0, 0
    try:
        with Client(options.server, access) as client:
            asked = client.classify_many(
                _new(options.photos, answers),
                concurrency=options.concurrency,
                top_k=options.top_k,
                timeout_s=options.timeout_s,
                priority=options.priority,
            )
            bar = tqdm(asked, initial=before, unit=" photos", disable=not sys.stderr.isatty())
            for photo, answer in bar:
                interrupt.check()
                if not isinstance(answer, ClassifyError):
                    answers.add(row(photo.name, answer))
                elif answer.unreachable:
                    raise Unreachable(answer)
                elif _is_final(answer):
                    refused += 1
                    answers.add(row(photo.name, answer))
                elif answer.code == "INVALID_ARGUMENT":  # an option is wrong: no fault of the photo
                    raise ValueError(f"{options.server} refuses the command: {answer.message}")
                else:
                    failed += 1
                    bar.write(f"{photo.name}: {answer}", file=sys.stderr)
    finally:
        answers.close()
    print(_summary(options.output, len(answers) - before, before, refused, failed))
    return 1 if failed else 0


def _new(names: list[str], answers: Answers) -> Iterator[Photo]:
    for name in names:
        for photo in photos_of(name):
            if photo.name not in answers:
                yield photo


def _summary(output: Path, new: int, before: int, refused: int, failed: int) -> str:
    text = f"{output}: {new:,} new answers"
    if before:
        text += f" beside {before:,}"
    if refused:
        text += f"; {refused:,} of them say that the photo cannot be read"
    if failed:
        text += f"; {failed:,} photos failed: the same command tries them again"
    return text
