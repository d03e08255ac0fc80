"""`alexnet-score`: the accuracy of a running server on photos whose class is known."""

import argparse
import json
import math
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from alexnet_client import __version__
from alexnet_client.classify import (
    access,
    add_server_options,
    no_server_message,
    run_and_exit,
    show_progress,
)
from alexnet_client.client import Client
from alexnet_client.errors import ClassifyError
from alexnet_client.photos import Photo, photos_in
from alexnet_client.results import Classification
from alexnet_client.terminal import say

FAILURES_SHOWN = 10

EXPLANATION = """\
The class of a photo is the name of its top folder, in a directory or in a zip; in a flat folder
it is what precedes the first _ in the file's name, as in n02085620_Chihuahua.jpg. It is compared
with the synsets that the server answers. A photo without an answer counts as failed, not as wrong.

A model that knows few classes is wrong on all others: --classes val.zip scores only photos of the
classes in val.zip. It also takes a text file with a class at the start of each line. A model with
five classes or fewer has no top-5 (null in JSON): five guesses are always right.

examples:
  alexnet-score val.zip
  alexnet-score photos/ --classes val.zip
  alexnet-score --json val.zip photos/ | jq 'select(.source == "total").top1'

Latencies are the server's own (timing.total_ms); photos/s is what this client saw.
exit code: 0 scored, 1 a photo failed or none was scored or no server, 2 wrong usage
"""


@dataclass
class SourceScore:
    """The score of one source, so far."""

    source: str
    has_top5: bool = True
    """Not of a model with five classes or fewer: five guesses are always right."""
    left_out: int = 0
    failed: int = 0
    top1: int = 0
    top5: int = 0
    seconds: float = 0.0
    total_ms: list[float] = field(default_factory=list)
    model: str = ""

    @property
    def photos(self) -> int:
        return len(self.total_ms)

    def add(self, group: str, answer: Classification) -> None:
        synsets = [p.synset for p in answer.predictions]
        self.top1 += synsets[:1] == [group]
        self.top5 += group in synsets[:5]
        self.total_ms.append(answer.timing.total_ms)
        self.model = f"{answer.model.name} {answer.model.build or answer.model.version}"

    def to_json(self) -> dict[str, object]:
        return {
            "source": self.source,
            "model": self.model,
            "photos": self.photos,
            "top1": _ratio(self.top1, self.photos, 6),
            "top5": _ratio(self.top5, self.photos, 6) if self.has_top5 else None,
            "photos_per_s": _ratio(self.photos, self.seconds, 2),
            "total_ms": {q: round(ms, 3) for q, ms in self._latency().items()},
            "failed": self.failed,
            "left_out": self.left_out,
        }

    def to_row(self) -> list[str]:
        if not self.photos:
            return [self.source, "0", *["-"] * 5, str(self.failed)]
        latency = self._latency()
        return [
            self.source,
            f"{self.photos:,}",
            f"{self.top1 / self.photos:.1%}",
            f"{self.top5 / self.photos:.1%}" if self.has_top5 else "-",
            f"{self.photos / self.seconds:,.1f}",
            f"{latency['median']:.1f}",
            f"{latency['p99']:.1f}",
            f"{self.failed:,}",
        ]

    def _latency(self) -> dict[str, float]:
        if not self.photos:
            return {}
        p99 = sorted(self.total_ms)[math.ceil(0.99 * self.photos) - 1]
        return {"median": median(self.total_ms), "p99": p99}


COLUMNS = ("source", "photos", "top-1", "top-5", "photos/s", "median ms", "p99 ms", "failed")


def main() -> None:
    run_and_exit(run)


def run() -> int:
    parser = _parser()
    options = parser.parse_args()
    try:
        classes = _classes(options.classes) if options.classes else None
        sources = {str(source): photos_in(source) for source in options.sources}
    except (ValueError, OSError) as error:
        parser.error(str(error))
    scores: list[SourceScore] = []
    width = max(len(name) for name in [*sources, "source", "total"])
    show = _show_json if options.json else _Rows(width).show
    with Client(options.server, access(parser, options, options.server)) as client:
        try:
            for score in _scores(client, sources, classes, options.concurrency):
                scores.append(score)
                show(score)
        except ClassifyError as error:
            say(no_server_message(parser.prog, options.server, error), sys.stderr)
            return 1
    total = _total(scores)
    if len(scores) > 1:
        show(total)
    if not options.json:
        _say_summary(total, options.server, options.classes)
    return 1 if total.failed or not total.photos else 0


def _scores(
    client: Client, sources: dict[str, list[Photo]], classes: set[str] | None, concurrency: int
) -> Iterator[SourceScore]:
    has_top5 = client.model().classes > 5
    for name, photos in sources.items():
        chosen = photos if classes is None else [p for p in photos if p.group in classes]
        score = SourceScore(name, has_top5, left_out=len(photos) - len(chosen))
        start = time.monotonic()
        # Five classes unless told, or all of a model that has fewer, which refuses to be told five.
        answers = client.classify_many(chosen, concurrency=concurrency)
        for photo, answer in show_progress(answers, len(chosen)):
            if isinstance(answer, ClassifyError):
                _say_failure(score, photo, answer)
            else:
                score.add(photo.group, answer)
        score.seconds = time.monotonic() - start
        yield score


def _say_failure(score: SourceScore, photo: Photo, error: ClassifyError) -> None:
    score.failed += 1
    if score.failed <= FAILURES_SHOWN:
        say(f"{photo.name}: {error}", sys.stderr)
    elif score.failed == FAILURES_SHOWN + 1:
        say(f"{score.source}: more photos failed; they are counted below", sys.stderr)


def _total(scores: list[SourceScore]) -> SourceScore:
    return SourceScore(
        "total",
        all(s.has_top5 for s in scores),
        left_out=sum(s.left_out for s in scores),
        failed=sum(s.failed for s in scores),
        top1=sum(s.top1 for s in scores),
        top5=sum(s.top5 for s in scores),
        seconds=sum(s.seconds for s in scores),
        total_ms=[ms for s in scores for ms in s.total_ms],
        model=", ".join(sorted({s.model for s in scores if s.model})),
    )


class _Rows:
    """The table: its header, then a row as soon as a source is done."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._header = True

    def show(self, score: SourceScore) -> None:
        if self._header:
            self._say(list(COLUMNS))
            self._header = False
        self._say(score.to_row())

    def _say(self, cells: list[str]) -> None:
        numbers = (
            f"{cell:>{max(len(name), 7)}}"
            for name, cell in zip(COLUMNS[1:], cells[1:], strict=True)
        )
        say("  ".join([f"{cells[0]:<{self._width}}", *numbers]), sys.stdout)


def _show_json(score: SourceScore) -> None:
    say(json.dumps(score.to_json()), sys.stdout)


def _say_summary(total: SourceScore, address: str, classes: Path | None) -> None:
    say(f"\nmodel {total.model or 'unknown'} at {address}", sys.stdout)
    if total.left_out:
        found = total.photos + total.failed + total.left_out
        left_out = f"left out: {total.left_out:,} of {found:,} photos"
        say(f"{left_out}, of classes that are not in {classes}", sys.stdout)
    if total.photos and not total.top5:
        say("not one right: is each photo in a folder that has its synset for a name?", sys.stdout)


def _classes(source: Path) -> set[str]:
    if source.is_dir() or zipfile.is_zipfile(source):
        return {photo.group for photo in photos_in(source)}
    try:
        classes = {
            line.split()[0]
            for line in source.read_text(encoding="utf-8").splitlines()
            if line.strip()
        }
    except UnicodeDecodeError:
        raise ValueError(f"{source} is neither a folder, nor a zip, nor text") from None
    if not classes:
        raise ValueError(f"no classes in {source}")
    return classes


def _ratio(part: float, whole: float, digits: int) -> float | None:
    return round(part / whole, digits) if whole else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="alexnet-score",
        description="Measure a running AlexNet server on photos whose class is known.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("sources", nargs="+", type=Path, metavar="DIR_OR_ZIP")
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE_OR_ZIP_OR_DIR",
        help="score only photos of the classes in here",
    )
    add_server_options(parser, concurrency=16)
    parser.add_argument("--json", action="store_true", help="one JSON object a source and line")
    return parser


if __name__ == "__main__":
    main()
