"""What each of the better answers (docs/answers.md) gains, on photos whose class is known.

`python -m benchmarks.answers BUNDLE --photos val.zip --strangers other.zip`: the strangers are
photos of classes that the network has not learned; those of a class in `--photos` are left out.
Prints what it found, and writes it where `--output` says.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from alexnet import occlusion, wordnet
from alexnet.bundle import Bundle
from alexnet.kinds import Kinds
from alexnet.postprocess import softmax
from alexnet.preprocess import preprocess
from alexnet.ten_views import cut_ten_views, of_the_square
from export.temperature import calibration_error, fit
from server.engines.ort import OrtEngine
from training.evaluate import score
from training.photos import PhotoFile, photo_files

EXPLAINED = 100
"""Photos of which explanations are compared; each by occlusion is 50 runs."""
HIDDEN = 0.2
"""Part of a crop that is hidden to see whether an explanation names what counts."""
FALSE_ALARMS = 0.05

Crops = NDArray[np.uint8]
Logits = NDArray[np.float32]
# Higher means: more unlike what it knows.
UNLIKE: dict[str, Callable[[Logits], NDArray[np.floating]]] = {
    "1 - largest probability": lambda x: 1 - softmax(x).max(1),
    "entropy": lambda x: (softmax(x) * -np.log(softmax(x) + 1e-12)).sum(1),
    "- largest logit": lambda x: -x.max(1),
    "energy": lambda x: -np.log(np.exp(x.astype(np.float64)).sum(1)),
}


@dataclass(frozen=True)
class Seen:
    """Photos as the network sees them."""

    targets: NDArray[np.int64]
    squares: Crops
    """(N, resize, resize, 3), of which the views are cut."""
    logits: Logits
    ten: NDArray[np.float32]
    """The mean probabilities of ten views."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.answers", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--strangers", type=Path, nargs="*", default=[])
    parser.add_argument("--limit", type=int, default=1000, help="photos of each kind")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    (artifact,) = [a for a in bundle.manifest.artifacts if a.precision == "int8"]
    engine = OrtEngine(bundle.files[artifact.file], bundle.manifest, arguments.threads)
    files = chosen(photo_files(arguments.photos), arguments.limit)
    known = {file.group for file in photo_files(arguments.photos)}
    strange = photo_files(arguments.strangers) if arguments.strangers else []
    strange = chosen([f for f in strange if f.group not in known], arguments.limit)
    seen = look(engine, bundle, files)
    rows = [*accuracy(seen), *calibration(seen), *kinds(seen, bundle), *explained(seen, engine)]
    if strange:
        rows += unlike(seen.logits, look(engine, bundle, strange).logits)
    told = [f"- **{name}**: {words}" for name, words in rows]
    model = bundle.manifest.model
    head = f"{model.name} {model.version}, int8; {len(seen.targets)} photos"
    text = "\n".join([head, "", *told, ""])
    print(text)
    if arguments.output:
        arguments.output.write_text(text)


def chosen(files: Sequence[PhotoFile], limit: int) -> list[PhotoFile]:
    return random.Random(0).sample(list(files), min(limit, len(files)))


def look(engine: OrtEngine, bundle: Bundle, files: Sequence[PhotoFile]) -> Seen:
    spec = bundle.manifest.preprocess
    square = of_the_square(spec)
    own = [(file, bundle.labels.index[file.group]) for file in files]
    with ThreadPoolExecutor(2) as pool:
        squares = [*pool.map(lambda file: preprocess(file.read(), square).crop, files)]
        crops = [*pool.map(lambda file: preprocess(file.read(), spec).crop, files)]
    logits = np.concatenate([engine.run(crop[None]) for crop in tqdm(crops, "one view")])
    ten = [
        softmax(engine.run(cut_ten_views(each[None], spec.crop)[0])).mean(0)
        for each in tqdm(squares, "ten views")
    ]
    targets = np.array([target for _, target in own], np.int64)
    return Seen(targets, np.stack(crops), logits, np.stack(ten))


def accuracy(seen: Seen) -> list[tuple[str, str]]:
    one, ten = score(seen.logits, seen.targets), score(seen.ten, seen.targets)
    return [
        ("one view", f"top-1 {one.top1:.1%}, top-5 {one.top5:.1%}"),
        (
            "ten views",
            f"top-1 {ten.top1:.1%}, top-5 {ten.top5:.1%}: {100 * (ten.top1 - one.top1):+.1f} and "
            f"{100 * (ten.top5 - one.top5):+.1f} points",
        ),
    ]


def calibration(seen: Seen) -> list[tuple[str, str]]:
    """Fitted on every other photo, measured on the rest."""
    fitted = fit(seen.logits[::2], seen.targets[::2])
    logits, targets = seen.logits[1::2], seen.targets[1::2]
    before, after = (calibration_error(softmax(logits / t), targets) for t in (1.0, fitted))
    text = f"{fitted:.2f}: expected calibration error {before:.1%} as shipped, {after:.1%} with it"
    return [("temperature", text)]


def kinds(seen: Seen, bundle: Bundle) -> list[tuple[str, str]]:
    """The most particular kind that is told, against the first class."""
    all_kinds, probabilities = Kinds(bundle.labels), softmax(seen.logits)
    told = right = deeper = 0
    for row, target in zip(probabilities, seen.targets, strict=True):
        found = all_kinds.of(row)
        if not found:
            continue
        told += 1
        synsets = {node.synset for node in wordnet.path(bundle.labels[int(target)].synset)}
        right += found[-1].synset in synsets
        deeper += found[-1].synset == bundle.labels[int(row.argmax())].synset
    n, first = len(probabilities), float(np.mean(probabilities.argmax(1) == seen.targets))
    text = (
        f"something is told of {told / n:.0%}, and the most particular kind is right for "
        f"{right / max(1, told):.0%} of these ({deeper / max(1, told):.0%} of them are a class); "
        f"the first class of all is right for {first:.0%}"
    )
    return [("kinds", text)]


def explained(seen: Seen, engine: OrtEngine) -> list[tuple[str, str]]:
    """What is left of the best class's probability where the part that an explanation names is
    hidden in the crop's mean colour; of photos whose best class is fairly sure."""
    sure = np.flatnonzero(softmax(seen.logits).max(1) > 0.3)[:EXPLAINED]
    random_places = np.random.default_rng(0)
    assert engine.activation is not None
    left: dict[str, list[float]] = {}
    taken = dict.fromkeys(("cam", "occlusion"), 0.0)
    for i in tqdm(sure, "explanations"):
        crop, index = seen.squares[i], int(seen.logits[i].argmax())
        start = time.perf_counter()
        _, (inside,) = engine.look_inside(crop[None])
        cam = engine.activation.shares(inside, index)
        middle = time.perf_counter()
        hidden = occlusion.hidden(crop)
        after = softmax(engine.run(np.stack(hidden)))[:, index]
        drops = occlusion.drops(float(after[0]), after[1:].tolist())
        taken["cam"] += middle - start
        taken["occlusion"] += time.perf_counter() - middle
        side = np.linspace(-1, 1, len(cam))
        grids = {
            "cam": cam,
            "occlusion": occlusion.shares(drops),
            "the middle": -np.hypot(*np.meshgrid(side, side)),
            "any place": random_places.random(drops.shape),
        }
        masked = np.stack([without(crop, grid) for grid in grids.values()])
        for name, probability in zip(grids, softmax(engine.run(masked))[:, index], strict=True):
            left.setdefault(name, []).append(float(probability / after[0]))
    n = len(sure)
    parts = [f"{name} {np.mean(values):.0%}" for name, values in left.items()]
    return [
        (
            "explain",
            f"left of the best class's probability without the {HIDDEN:.0%} of the crop that it "
            f"names, mean of {n} photos: {', '.join(parts)}",
        ),
        ("time", ", ".join(f"{k} {1000 * s / n:.0f} ms a photo" for k, s in taken.items())),
    ]


def without(crop: Crops, grid: NDArray[np.floating]) -> Crops:
    """The crop, with the places of the largest values hidden."""
    places = np.arange(len(crop)) * len(grid) // len(crop)
    values = grid[np.ix_(places, places)] + 1e-6 * np.random.default_rng(1).random(crop.shape[:2])
    mask = values > np.quantile(values, 1 - HIDDEN)
    return np.where(mask[..., None], crop.mean((0, 1)), crop).astype(np.uint8)


def unlike(known: Logits, strange: Logits) -> list[tuple[str, str]]:
    rows = []
    for name, of in UNLIKE.items():
        ours, theirs = of(known), of(strange)
        order = np.concatenate([ours, theirs]).argsort().argsort()
        area = (order[len(ours) :].mean() - (len(theirs) - 1) / 2) / len(ours)
        found = np.mean(theirs > np.quantile(ours, 1 - FALSE_ALARMS))
        text = (
            f"area under the curve {area:.3f}; finds {found:.0%} of {len(theirs)} strangers at "
            f"{FALSE_ALARMS:.0%} false alarms"
        )
        rows.append((f"unlike anything it knows, by {name}", text))
    return rows


if __name__ == "__main__":
    main()
