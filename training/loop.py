"""The training loop, top to bottom. Read this first."""

import json
import logging
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from alexnet.spec import PIXEL_SCALE, PIXEL_ZERO, Preprocess
from training.augment import colour_jitter, random_views, texture
from training.checkpoint import Checkpoint, CheckpointError
from training.data import Dataset, load
from training.evaluate import Accuracy, Predict, accuracy
from training.network import AlexNet, Deployable, fold_batch_norm
from training.optim import learning_rate, optimizer
from training.prune import INTERVAL, prune, sparsity_at
from training.recipe import Recipe

log = logging.getLogger(__name__)


class Training:
    """One run: a recipe, its data, and a folder that always holds a checkpoint to resume from."""

    def __init__(self, recipe: Recipe, train: Dataset, run: Path):
        self.recipe, self.data, self.run = recipe, train, run
        if len(train) < recipe.batch:
            raise ValueError(f"{len(train)} photos are fewer than one batch of {recipe.batch}")
        torch.manual_seed(recipe.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = AlexNet(len(train.labels), batch_norm=recipe.batch_norm, dropout=recipe.dropout)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = optimizer(self.network, recipe)
        self.targets = _soft_targets(train, recipe.label_smoothing).to(self.device)
        self.epoch = 0
        self.steps_per_epoch = len(train) // recipe.batch
        self.seconds = 0.0
        self.commit = _commit()  # now: by the end of the run the checkout may have moved on
        self.lineage = [recipe.name]
        """The recipes that these weights went through, this one last."""

    def fit(self, val_sources: list[Path]) -> Accuracy:
        """Trains the epochs that are left, scoring each on the validation photos."""
        recipe = self.recipe
        work = [recipe.size_at(e) ** 2 * self.steps_per_epoch for e in range(recipe.epochs)]
        val = load(val_sources, self._view(), self.data.labels)
        result: Accuracy | None = None
        with tqdm(
            total=sum(work),
            initial=sum(work[: self.epoch]),
            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {elapsed} < {remaining}{postfix}",
        ) as bar:
            while self.epoch < recipe.epochs:
                if val.images.shape[1] != self._view().crop:
                    val = load(val_sources, self._view(), self.data.labels)
                start = time.perf_counter()
                loss = self._train_epoch(bar)
                self.seconds += time.perf_counter() - start
                result = accuracy(self.predictor(), val)
                self.epoch += 1
                self._record(loss, result, time.perf_counter() - start)
                bar.write(f"epoch {self.epoch}/{recipe.epochs}: loss {loss:.3f}, {result}")
        if result is None:  # a finished run was resumed
            result = accuracy(self.predictor(), val)
        self.model(result).save(self.run / "model.safetensors")
        return result

    def _view(self) -> Preprocess:
        """How validation photos are seen in this epoch; after the last one, as in the last."""
        return Preprocess().at(self.recipe.size_at(self.epoch))

    def _train_epoch(self, bar: Any) -> float:
        recipe, px = self.recipe, self.recipe.size_at(self.epoch)
        # Everything random is drawn from the epoch's number: a resumed run is the same run.
        generator = torch.Generator().manual_seed(recipe.seed + self.epoch)
        torch.manual_seed(recipe.seed + self.epoch)
        order = torch.randperm(len(self.data), generator=generator)
        images, targets = torch.from_numpy(self.data.images), torch.from_numpy(self.data.targets)
        steps = self.steps_per_epoch * recipe.epochs
        total = torch.zeros((), device=self.device)
        self.network.train()
        for i in range(self.steps_per_epoch):
            start = time.perf_counter()
            step = self.epoch * self.steps_per_epoch + i
            batch = order[i * recipe.batch : (i + 1) * recipe.batch]
            x = images[batch].to(self.device)
            x = random_views(x, px, recipe.smallest_view, generator, recipe.filters)
            if recipe.sharpness or recipe.grain:
                x = texture(x, recipe.sharpness, recipe.grain, generator)
            x = colour_jitter(x, 0.2, generator).sub_(PIXEL_ZERO).div_(PIXEL_SCALE)
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step, steps)
            with self._autocast():
                outputs = self.network(x)
            loss = F.cross_entropy(outputs.float(), self.targets[targets[batch]])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if i % INTERVAL == 0 or i == self.steps_per_epoch - 1:
                prune(self.network, sparsity_at((step + 1) / steps, recipe))
                rate = recipe.batch / (time.perf_counter() - start)
                bar.set_description(f"epoch {self.epoch + 1}/{recipe.epochs}", refresh=False)
                bar.set_postfix_str(f"loss {loss.item():.3f}, {px} px, {rate:.0f} images/s")
            total += loss.detach()
            bar.update(px**2)
        mean = total.item() / self.steps_per_epoch
        if not torch.isfinite(total):
            raise FloatingPointError(f"the loss is {mean} in epoch {self.epoch + 1}: lower the lr")
        return mean

    def predictor(self) -> Predict:
        """uint8 crops -> logits with the network as it is now."""
        deployable = Deployable(self.network).to(self.device).eval()

        def predict(images: Any) -> Any:
            with torch.inference_mode(), self._autocast():
                return deployable(torch.from_numpy(images).to(self.device)).cpu().numpy()

        return predict

    def _autocast(self) -> torch.autocast:
        fast = self.device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return torch.autocast(self.device.type, torch.bfloat16, enabled=fast)

    def model(self, result: Accuracy) -> Checkpoint:
        """What export reads: the plain network and the facts about it, no optimiser."""
        facts = {
            "arch": "alexnet",
            "recipe": self.recipe.to_json(),
            "lineage": self.lineage,
            "labels": self.data.labels.to_tsv(),
            "known": self.data.known,
            "photos": len(self.data),
            "accuracy": result._asdict(),
            "mean": [PIXEL_ZERO] * 3,
            "std": [PIXEL_SCALE] * 3,
            "train_minutes": round(self.seconds / 60, 1),
            "commit": self.commit,
        }
        plain = fold_batch_norm(self.network)
        return Checkpoint({f"network.{k}": v for k, v in plain.state_dict().items()}, facts)

    def _record(self, loss: float, result: Accuracy, seconds: float) -> None:
        state = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            state[f"momentum.{name}"] = self.optimizer.state[parameter]["momentum_buffer"]
        facts = {
            "recipe": self.recipe.to_json(),
            "lineage": self.lineage,
            "epoch": self.epoch,
            "seconds": self.seconds,
        }
        Checkpoint(state, facts).save(self.run / "last.safetensors")
        row = {"epoch": self.epoch, "loss": loss, **result._asdict(), "seconds": seconds}
        with (self.run / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def init(self, path: Path) -> None:
        """Takes the weights of a `last.safetensors`, not its momentum; raises CheckpointError."""
        checkpoint = Checkpoint.load(path)
        try:
            self.network.load_state_dict(checkpoint.part("network"))
        except RuntimeError as error:
            raise CheckpointError(f"{path} does not fit this network: {error}") from None
        self.lineage = [*checkpoint.facts["lineage"], self.recipe.name]
        self.seconds = checkpoint.facts["seconds"]

    def resume(self) -> None:
        """Goes on from the run folder's checkpoint; raises CheckpointError, ValueError."""
        checkpoint = Checkpoint.load(self.run / "last.safetensors")
        if Recipe.from_json(checkpoint.facts["recipe"]) != self.recipe:
            raise ValueError(f"{self.run} holds a run of another recipe")
        try:
            self.network.load_state_dict(checkpoint.part("network"))
        except RuntimeError as error:
            raise ValueError(f"{self.run} holds a run on other classes") from error
        momentum: dict[str, Tensor] = checkpoint.part("momentum")
        for name, parameter in self.network.named_parameters():
            # In the parameter's own memory layout: the fused step goes through both as they lie.
            buffer = torch.empty_like(parameter, requires_grad=False).copy_(momentum[name])
            self.optimizer.state[parameter]["momentum_buffer"] = buffer
        facts = checkpoint.facts
        self.epoch, self.seconds, self.lineage = facts["epoch"], facts["seconds"], facts["lineage"]


def _soft_targets(data: Dataset, smoothing: float) -> Tensor:
    """(classes, classes): row i is the target for class i, smoothed over the known classes only.

    Classes without photos keep a target of zero, so the network learns that it does not know them.
    """
    classes = len(data.labels)
    table = torch.eye(classes) * (1 - smoothing)
    table[:, data.known] += smoothing / len(data.known)
    return table


def _commit() -> str:
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return git.stdout.strip() or "unknown"
