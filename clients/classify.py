"""`alexnet-classify`: photos -> their most probable classes, as a table or as JSON lines."""

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn, Self, TextIO

from tqdm import tqdm

# Must be set before gRPC is imported: it would log every lost connection on stderr.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from clients.client import DEFAULT_ADDRESS, Client
from clients.errors import ClassifyError
from clients.many import Answer
from clients.photos import Photo, photos_in
from clients.results import Classification, Prediction

MAX_COUNT = 100_000
BAR_MIN_PHOTOS = 21
BAR_WIDTH = 20
LABEL_WIDTH = 24  # the longest labels of ImageNet: the synsets of most photos line up
EIGHTHS = " ▏▎▍▌▋▊▉"

EXAMPLES = """\
Folders and zips are searched for .jpg .jpeg .png .webp .gif .bmp, subfolders included.
`-` reads one photo from standard input.

examples:
  alexnet-classify cat.jpg
  alexnet-classify --top-k 1 holiday/ more.zip
  curl -s https://example.org/cat.jpg | alexnet-classify -
  alexnet-classify --json holiday/ | jq -r '[.file, .predictions[0].label] | @tsv'

With --json each photo is one line, in the order given:
  {"file", "predictions": [{"index", "synset", "label", "probability"}], "model", "image",
   "timing_ms", "request_id"}   or   {"file", "error": {"code", "message"}}

exit code: 0 all photos classified, 1 one or more failed or no server, 2 wrong usage
"""


def main() -> None:
    run_and_exit(run)


def run() -> int:
    parser = _parser()
    options = parser.parse_args()
    try:
        photos = [photo for name in options.photos for photo in _find_photos(name)]
    except ValueError as error:
        parser.error(str(error))
    show = show_json if options.json else Table(Style.of(sys.stdout)).show
    failed = 0
    with Client(options.server) as client:
        answers = client.classify_many(
            photos,
            concurrency=options.concurrency,
            top_k=options.top_k,
            timeout_s=options.timeout_s,
        )
        try:
            for photo, answer in show_progress(answers, len(photos), BAR_MIN_PHOTOS):
                failed += isinstance(answer, ClassifyError)
                show(photo, answer)
        except ClassifyError as error:
            say(no_server_message(parser.prog, options.server, error), sys.stderr)
            return 1
    return 1 if failed else 0


def show_json(photo: Photo, answer: Classification | ClassifyError) -> None:
    if isinstance(answer, ClassifyError):
        error = {"code": answer.code, "message": answer.message}
        say(json.dumps({"file": photo.name, "error": error}), sys.stdout)
    else:
        say(json.dumps({"file": photo.name, **to_json(answer)}), sys.stdout)


def to_json(answer: Classification) -> dict[str, object]:
    predictions = [asdict(p) | {"probability": round(p.probability, 6)} for p in answer.predictions]
    milliseconds = {
        name.removesuffix("_ms"): round(value, 3)
        for name, value in asdict(answer.timing).items()
        if name.endswith("_ms")
    }
    return {
        "predictions": predictions,
        "model": asdict(answer.model),
        "image": asdict(answer.image),
        "timing_ms": milliseconds,
        "request_id": answer.request_id,
    }


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


def run_and_exit(command: Callable[[], int]) -> NoReturn:
    """Exits with the command's code. Ctrl-C and a closed pipe end it silently, other errors of
    reading and writing with a sentence."""
    if not sys.stdout:
        sys.exit("standard output is closed")
    sys.stderr = sys.stderr or io.StringIO()  # closed: drop the messages
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for a file name that the terminal cannot show
    try:
        code = command()
    except KeyboardInterrupt:
        code = 130  # both as a shell reports them: 128 + the signal
    except OSError as error:
        code = 141
        if not isinstance(error, BrokenPipeError):
            code = 1
            say(f"{Path(sys.argv[0]).name}: {error}", sys.stderr)
        # Python flushes both again at exit, which would fail.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.dup2(nowhere, sys.stderr.fileno())
    sys.exit(code)


def show_progress(
    answers: Iterable[Answer[Photo]], photos: int, min_photos: int = 1
) -> Iterator[Answer[Photo]]:
    """Passes the answers on; a terminal also shows a progress bar.

    Raises the ClassifyError of an unreachable server: all other photos would fail the same way.
    """
    hidden = photos < min_photos or not sys.stderr.isatty()
    for photo, answer in tqdm(answers, total=photos, unit=" photos", leave=False, disable=hidden):
        if isinstance(answer, ClassifyError) and answer.unreachable:
            raise answer
        yield photo, answer


def say(line: str, stream: TextIO) -> None:
    with tqdm.external_write_mode(stream):  # hides the progress bar meanwhile
        print(line, file=stream, flush=True)


def no_server_message(program: str, address: str, error: ClassifyError) -> str:
    # gRPC's message is a chain such as `failed to ...; last error: ...: Connection refused`.
    reason = error.message.rpartition(": ")[2].rstrip("]")
    return (
        f"{program}: no server answers at {address} ({reason}): "
        "start one with `make serve`, or name another with --server"
    )


def add_server_options(parser: argparse.ArgumentParser, concurrency: int) -> None:
    parser.add_argument(
        "--server",
        type=_host_port,
        default=DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--concurrency",
        type=_count,
        default=concurrency,
        metavar="N",
        help="photos in flight at once; default: %(default)s",
    )


def _host_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port, such as {DEFAULT_ADDRESS}")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_COUNT}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _find_photos(name: str) -> list[Photo]:
    path = Path(name)
    if path.is_dir() or path.suffix.lower() == ".zip":
        return photos_in(path)
    read = path.read_bytes
    if name == "-":
        if not sys.stdin:
            raise OSError("standard input is closed")
        read = sys.stdin.buffer.read
    elif path.is_file() or not path.exists():
        return [Photo(name, read)]
    image = read()  # read here: Ctrl-C cannot end a thread that waits for a pipe
    return [Photo(name, lambda: image)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="alexnet-classify",
        description="Ask a running AlexNet server what is in your photos.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="file, folder, .zip, or -")
    add_server_options(parser, concurrency=8)
    parser.add_argument("--top-k", type=_count, metavar="N", help="classes per photo; default: 5")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--timeout-s",
        type=_seconds,
        default=10.0,
        metavar="S",
        help="for each photo, retries included; default: %(default)s",
    )
    return parser


if __name__ == "__main__":
    main()
