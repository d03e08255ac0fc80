"""Several runs of one recipe, each from the weights of the one before -> their mean.

    python -m training.merge runs/a runs/b --photos fifty.zip --val val.zip --output runs/merged

The mean of weights that went on from one another lies in a flatter place than any of them and
scores better (Izmailov et al. 2018, arXiv 1803.05407, where they are of one run). What is zero in
all of them stays zero. Two things are then measured on photos like those to be named, as many of
each class:

- batch norm's statistics: the mean's own are no mean of theirs, and in training tiles and photos of
  other things have a part in them;
- how often the network says each class. Those that training showed more often it says too often;
  the biases of the last layer take that off (Menon et al. 2020, arXiv 2007.07314, section 4).
"""

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from alexnet.spec import Preprocess
from training.checkpoint import Checkpoint
from training.data import load, load_unlabelled
from training.evaluate import evaluate
from training.importers import TrainedModel, load_model
from training.network import AlexNet
from training.plain import to_plain
from training.recipe import Recipe
from training.views import boxes

log = logging.getLogger(__name__)

SAMPLE, BATCH = 2048, 256
"""Photos for batch norm's statistics, and in a run."""


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m training.merge",
        description="The mean of runs that went on from one another (docs/training.md).",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="their folders, the last one last"
    )
    parser.add_argument(
        "--photos", nargs="+", type=Path, required=True, metavar="SOURCE",
        help="photos like those to be named, as many of each class: batch norm is measured on "
        f"{SAMPLE:,} of them, and how often each class is said on all",
    )  # fmt: skip
    parser.add_argument(
        "--val", nargs="+", type=Path, required=True, metavar="SOURCE",
        help="photos with classes, to score the mean on",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER",
        help="where model.safetensors is written, for alexnet-export",
    )  # fmt: skip
    arguments = parser.parse_args()
    try:
        merge(arguments.runs, arguments.photos, arguments.val, arguments.output)
    except (ValueError, OSError) as error:
        sys.exit(f"python -m training.merge: {error}")


def merge(runs: list[Path], photos: list[Path], val: list[Path], output: Path) -> None:
    """Writes `output`/model.safetensors. Raises ValueError, OSError."""
    model = load_model(runs[-1] / "model.safetensors")
    checkpoints = [Checkpoint.load(run / "last.safetensors") for run in runs]
    recipe = Recipe.from_json(checkpoints[-1].facts["recipe"])
    if model.image is not None:
        raise ValueError("runs that subtract a mean image cannot be merged")
    network = AlexNet(len(model.labels), recipe.arch, dropout=0.0)
    network.load_state_dict(mean([checkpoint.part("network") for checkpoint in checkpoints]))
    measure(network, views(photos, recipe, model))
    merged = replace(model, network=to_plain(network.eval()))
    even_out(merged, load(photos, model.preprocess, model.labels, classes=False).images)
    scored = evaluate(merged.predict, load(val, model.preprocess, model.labels))
    log.info("%s", scored.in_words(len(model.labels)))
    lineage = [*model.facts["lineage"], f"mean of the last {len(runs)} runs"]
    facts = {**model.facts, "lineage": lineage, "accuracy": scored._asdict()}
    tensors = {f"network.{name}": t for name, t in merged.network.state_dict().items()}
    output.mkdir(parents=True, exist_ok=True)
    Checkpoint(tensors, facts).save(output / "model.safetensors")


def mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Raises ValueError for networks that differ in shape."""
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    if any(each != shapes[0] for each in shapes):
        raise ValueError("the runs are not of the same network")
    return {
        name: torch.stack([state[name].float() for state in states]).mean(0).to(tensor.dtype)
        for name, tensor in states[0].items()
    }


@torch.no_grad()
def measure(network: AlexNet, x: Tensor) -> None:
    """Gives batch norms the statistics of `x`, (N, 3, side, side) normalised pixels."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    network.train()
    for batch in x.split(BATCH):
        network(batch)
    network.eval()


@torch.no_grad()
def even_out(model: TrainedModel, crops: NDArray[np.uint8]) -> None:
    """Takes from each class's bias the logarithm of how often it is said, by the mean of its
    probability in `crops` (N, side, side, 3), as they are served and of all classes alike."""
    said = torch.zeros(len(model.labels))
    for at in tqdm(range(0, len(crops), BATCH), unit="batch", disable=None):
        logits = torch.from_numpy(model.predict(crops[at : at + BATCH]))
        said += logits.softmax(1).sum(0)
    bias = model.network.layers[-1].bias
    assert bias is not None
    bias -= (said / said.mean()).log()


def views(photos: list[Path], recipe: Recipe, model: TrainedModel) -> Tensor:
    """(N, 3, crop, crop): a view of each of some of the photos, as in training."""
    packed = load_unlabelled(photos, Preprocess(recipe.store, recipe.store), SAMPLE)
    places = np.arange(len(packed))
    drawn = boxes(recipe.seed, places, np.zeros_like(places), recipe.store, recipe.view)
    cut = drawn.cut(torch.from_numpy(packed), torch.from_numpy(places), model.crop)
    average, scale = torch.tensor(model.mean), torch.tensor(model.std)
    return ((cut - average) / scale).permute(0, 3, 1, 2)


if __name__ == "__main__":
    main()
