"""Photos to classes with Ray Data: a stage for any pipeline, and a command that is one.

python -m alexnet_client.ray_data photos/ --output answers/ --server photos.example:8001
"""

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from alexnet_client.access import Access
from alexnet_client.aio import DEFAULT_ADDRESS
from alexnet_client.answers import row
from alexnet_client.client import Client
from alexnet_client.errors import ClassifyError
from alexnet_client.photos import SUFFIXES, Photo

if TYPE_CHECKING:
    from ray.data import Dataset

BATCH = 256  # photos that Ray hands over at once


class Classifier:
    """For `Dataset.map_batches`: rows of `path` and `bytes`, as `ray.data.read_binary_files` gives
    them with `include_paths=True`, become rows as `alexnet-classify --output` writes them.

    An actor keeps one connection, and `in_flight` photos on it. A photo without an answer gets a
    row with the reason as its `error`; a server that cannot be reached raises ClassifyError.
    """

    def __init__(
        self,
        server: str = DEFAULT_ADDRESS,
        access: Access | None = None,
        *,
        top_k: int | None = None,
        in_flight: int = 32,
    ) -> None:
        self._client, self._top_k, self._in_flight = Client(server, access), top_k, in_flight

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        pairs = zip(batch["path"], batch["bytes"], strict=True)
        photos = [Photo(str(path), partial(bytes, image)) for path, image in pairs]
        rows = []
        for photo, answer in self._client.classify_many(
            photos, concurrency=self._in_flight, top_k=self._top_k
        ):
            if isinstance(answer, ClassifyError) and answer.unreachable:
                raise answer
            rows.append(row(photo.name, answer))
        return {name: [each[name] for each in rows] for name in rows[0]} if rows else {}


def classify(photos: "Dataset", actors: int, *arguments: Any, **options: Any) -> "Dataset":
    """The answers to photos, by so many actors at a time; the arguments are those of `Classifier`.

    An actor only waits for the server, so that it takes little of a CPU.
    """
    return photos.map_batches(
        Classifier,
        fn_constructor_args=arguments,
        fn_constructor_kwargs=options,
        batch_size=BATCH,
        concurrency=actors,
        num_cpus=0.1,
    )


def main() -> None:
    arguments = _arguments()
    try:
        import ray
    except ImportError:
        sys.exit("Ray is not installed: pip install 'ray[data]'")
    photos = ray.data.read_binary_files(
        arguments.photos,
        include_paths=True,
        file_extensions=[suffix.removeprefix(".") for suffix in SUFFIXES],
    )
    answers = classify(photos, arguments.actors, arguments.server, Access(), top_k=arguments.top_k)
    answers.write_parquet(arguments.output)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_client.ray_data",
        description="Classify the photos of folders, here or in object stores, into Parquet, "
        "on the Ray cluster that RAY_ADDRESS names, or on this machine.",
    )
    parser.add_argument("photos", nargs="+", metavar="FOLDER", help="also s3://..., gs://...")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="for Parquet files")
    parser.add_argument(
        "--server", default=DEFAULT_ADDRESS, metavar="HOST:PORT",
        help="or the address of a balancer; https://... for TLS (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--actors", type=int, default=1, metavar="N",
        help="connections at a time, each with 32 photos in flight (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--top-k", type=int, metavar="K", help="default: 5, or all")
    return parser.parse_args()


if __name__ == "__main__":
    main()
