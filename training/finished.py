"""The finished model: the plain network and the facts of its run, for export."""

from typing import Any

import torch
from torch import Tensor

from training.checkpoint import Checkpoint
from training.importers.base import channel_means
from training.network import AlexNet
from training.plain import to_plain
from training.state import State


def finished(state: State, weights: dict[str, Tensor], facts: dict[str, Any]) -> Checkpoint:
    """`weights` are those of the whole network in training; `facts` are added to the state's."""
    recipe, data = state.recipe, state.data
    with torch.device("meta"):  # initial values are not needed
        network = AlexNet(len(data.labels), recipe.arch, dropout=recipe.dropout)
    network.load_state_dict({name: t.cpu() for name, t in weights.items()}, assign=True)
    plain = to_plain(network)
    crop = recipe.size_at(recipe.epochs - 1)
    image = state.pixels.mean(crop) if state.pixels else None
    facts = {
        "arch": plain.arch,
        "recipe": recipe.to_json(),
        "lineage": state.lineage,
        "labels": data.labels.to_tsv(),
        "known": data.known,
        "photos": len(data),
        "skipped": len(data.skipped),
        "dense": state.dense,
        "mean": recipe.mean if image is None else channel_means(image),
        "std": recipe.std,
        "crop": crop,
        "train_minutes": round(state.seconds / 60, 1),
        "run_minutes": round((state.seconds - state.before_s) / 60, 1),
        **facts,
    }
    tensors = {f"network.{k}": v for k, v in plain.state_dict().items()}
    return Checkpoint(tensors if image is None else {**tensors, "mean": image}, facts)
