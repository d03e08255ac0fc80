"""Answers on a terminal: the table, and lines beside a progress bar."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self, TextIO

from tqdm import tqdm

from alexnet_client.errors import ClassifyError
from alexnet_client.photos import Photo
from alexnet_client.results import Classification, Prediction

BAR_WIDTH = 20
LABEL_WIDTH = 24  # the longest labels of ImageNet: the synsets of most photos line up
EIGHTHS = " ▏▎▍▌▋▊▉"


def say(line: str, stream: TextIO) -> None:
    with tqdm.external_write_mode(stream):  # hides the progress bar meanwhile
        print(line, file=stream, flush=True)


@dataclass(frozen=True)
class Style:
    """What the terminal can show."""

    colour: bool = False
    blocks: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> Self:
        colour = stream.isatty() and not os.environ.get("NO_COLOR")
        try:
            EIGHTHS.encode(stream.encoding)
        except UnicodeEncodeError:
            return cls(colour, blocks=False)
        return cls(colour, blocks=True)

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.colour else text

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.colour else text

    def bar(self, fraction: float) -> str:
        if not self.blocks:
            return "#" * round(fraction * BAR_WIDTH)
        full, eighths = divmod(round(fraction * BAR_WIDTH * 8), 8)
        return ("█" * full + EIGHTHS[eighths]).rstrip()


class Table:
    """A block of rows for each photo, separated by empty lines."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._between = ""

    def show(self, photo: Photo, answer: Classification | ClassifyError) -> None:
        if isinstance(answer, ClassifyError):
            say(f"{photo.name}: {answer}", sys.stderr)
            return
        rows = [self._style.bold(photo.name), *self._rows(answer.predictions)]
        say(self._between + "\n".join(rows), sys.stdout)
        self._between = "\n"

    def _rows(self, predictions: tuple[Prediction, ...]) -> Iterator[str]:
        width = max([LABEL_WIDTH, *(len(p.label) for p in predictions)])
        for p in predictions:
            bar = self._style.bar(p.probability)
            synset = self._style.dim(p.synset)
            yield f"  {p.probability:6.1%}  {bar:<{BAR_WIDTH}}  {p.label:<{width}}  {synset}"
