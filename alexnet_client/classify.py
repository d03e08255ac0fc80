"""`alexnet-classify`: photos -> their most probable classes, as a table or as JSON lines."""

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

# Must be set before gRPC is imported: it would log every lost connection on stderr.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from alexnet_client import __version__, bulk, interrupt
from alexnet_client.access import HTTPS, Access
from alexnet_client.client import DEFAULT_ADDRESS, Client
from alexnet_client.errors import ClassifyError
from alexnet_client.many import Answer
from alexnet_client.photos import Photo, photos_in
from alexnet_client.results import Classification
from alexnet_client.terminal import Style, Table, say

MAX_COUNT = 100_000
BAR_MIN_PHOTOS = 21

EXAMPLES = """\
Folders and zips are searched for .jpg .jpeg .png .webp .gif .bmp .tif .tiff .avif .heic .heif,
subfolders included.
`-` reads one photo from standard input. With --output also tar shards and Parquet (a column
`image`, `bytes`, `jpg` or `photo`), of any number of photos.

examples:
  alexnet-classify cat.jpg
  alexnet-classify --top-k 1 holiday/ more.zip
  curl -s https://example.org/cat.jpg | alexnet-classify -
  alexnet-classify --output answers.parquet --concurrency 64 photos/ shard-*.tar more.parquet
  alexnet-classify --json holiday/ | jq -r '[.file, .predictions[0].label] | @tsv'

With --json each photo is one line, in the order given:
  {"file", "predictions": [{"index", "synset", "label", "probability"}], "model", "image",
   "timing_ms", "request_id"}   or   {"file", "error": {"code", "message"}}

A server that asks for an API key gets the one in ALEXNET_API_KEY.

exit code: 0 all photos classified, 1 one or more failed or no server, 2 wrong usage. With --output
a photo that is refused for what it is has its answer, which the file says, and does not count as
failed; one that failed, or could not be read, is tried again by the same command.
"""


def main() -> None:
    run_and_exit(run)


def run() -> int:
    parser = _parser()
    options = parser.parse_args()
    if options.output:
        return _write(options, parser)
    try:
        photos = [photo for name in options.photos for photo in _find_photos(name)]
    except ValueError as error:
        parser.error(str(error))
    show = show_json if options.json else Table(Style.of(sys.stdout)).show
    failed = 0
    with Client(options.server, access(parser, options, options.server)) as client:
        answers = client.classify_many(
            photos,
            concurrency=options.concurrency,
            top_k=options.top_k,
            timeout_s=options.timeout_s,
            priority=options.priority,
        )
        try:
            for photo, answer in show_progress(answers, len(photos), BAR_MIN_PHOTOS):
                interrupt.check()
                failed += isinstance(answer, ClassifyError)
                show(photo, answer)
        except ClassifyError as error:
            say(no_server_message(parser.prog, options.server, error), sys.stderr)
            return 1
    return 1 if failed else 0


def _write(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        return bulk.classify(options, access(parser, options, options.server))
    except ValueError as error:
        parser.error(str(error))
    except bulk.Unreachable as unreachable:
        message = no_server_message(parser.prog, options.server, unreachable.error)
        say(f"{message}\nwhat was answered is in {options.output}", sys.stderr)
        return 1


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


def run_and_exit(command: Callable[[], int]) -> NoReturn:
    """Exits with the command's code. Ctrl-C and a closed pipe end it silently, other errors of
    reading and writing with a sentence."""
    if not sys.stdout:
        sys.exit("standard output is closed")
    sys.stderr = sys.stderr or io.StringIO()  # closed: drop the messages
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Bars and labels are UTF-8 whatever the locale; a file name may be no text at all.
        chosen = None if "PYTHONIOENCODING" in os.environ else "utf-8"
        sys.stdout.reconfigure(encoding=chosen, errors="replace")
    interrupt.watch()
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
        help="https:// before it is TLS; default: %(default)s",
    )
    add_access_options(parser)
    parser.add_argument(
        "--concurrency",
        type=_count,
        default=concurrency,
        metavar="N",
        help="photos in flight at once; default: %(default)s",
    )


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """An API key is none of them: all users of a machine can read its command lines."""
    tls = parser.add_argument_group("TLS", "for a server that is named https://HOST:PORT")
    tls.add_argument("--ca", type=Path, metavar="PEM", help="roots of the server's certificate")
    tls.add_argument("--certificate", type=Path, metavar="PEM", help="yours, with its --key")
    tls.add_argument("--key", type=Path, metavar="PEM")


def access(parser: argparse.ArgumentParser, options: argparse.Namespace, server: str) -> Access:
    """Ends with the parser's error for a key that is none, and for certificates without TLS."""
    try:
        access = Access(ca=options.ca, certificate=options.certificate, key=options.key)
        access.uses_tls(server)
    except ValueError as error:
        parser.error(str(error))
    return access


def _host_port(text: str) -> str:
    host, _, port = text.removeprefix(HTTPS).rpartition(":")
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
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="file, folder, .zip, or -")
    add_server_options(parser, concurrency=8)
    parser.add_argument("--top-k", type=_count, metavar="N", help="classes per photo; default: 5")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write answers to a .jsonl or a .parquet (a folder of parts); the same command goes "
        "on where it ended",
    )
    parser.add_argument(
        "--timeout-s",
        type=_seconds,
        default=10.0,
        metavar="S",
        help="for each photo, retries included; default: %(default)s",
    )
    parser.add_argument(
        "--priority",
        type=_count,
        metavar="N",
        help="of the server's levels: 1 is the highest, a bulk job takes the lowest",
    )
    return parser


if __name__ == "__main__":
    main()
