"""The training loop from top to bottom. Read this first."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from alexnet.spec import Preprocess
from training.augment import draw
from training.checkpoint import Checkpoint
from training.columns import Column
from training.data import Dataset, load
from training.evaluate import Predict, Score, evaluate
from training.loader import Loader, Order
from training.network import ARCHITECTURES, AlexNet, Deployable
from training.optim import optimizer, set_rates
from training.plain import to_plain
from training.prune import INTERVAL, prune, sparsity_at
from training.ranks import Ranks
from training.recipe import Recipe
from training.report import RunLog
from training.state import FILE, State
from training.stop import Stop


class Training:
    """One run: a recipe, its data, and a run folder with the checkpoint to resume from."""

    def __init__(
        self,
        recipe: Recipe,
        train: Dataset,
        run: Path,
        ranks: Ranks | None = None,
        *,
        columns: bool = False,
        bf16_gradients: bool = False,
    ):
        self.recipe, self.data, self.run = recipe, train, run
        self.ranks = ranks or Ranks(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        # Both columns get the whole batch; otherwise every process trains its part of it.
        self.part = (0, 1) if columns else (self.ranks.rank, self.ranks.count)
        self._check(bf16_gradients)
        torch.manual_seed(recipe.seed)
        torch.backends.cudnn.benchmark = True  # pays off: the size of the crops rarely changes
        whole = AlexNet(len(train.labels), recipe.arch, dropout=recipe.dropout)
        network = Column(whole, self.ranks) if columns else whole
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network
        self.forward: torch.nn.Module = network
        if self.part[1] > 1:
            self.forward = DistributedDataParallel(network)
            if bf16_gradients:
                self.forward.register_comm_hook(None, bf16_compress_hook)
        self.state = State(recipe, network, optimizer(network, recipe), lineage=[recipe.name])
        self.state.loss = torch.zeros((), device=self.device)
        self.loader = Loader(train, self.device)
        self.targets = _soft_targets(train, recipe.label_smoothing).to(self.device)
        self.steps_per_epoch = len(train) // recipe.batch
        self.steps = self.steps_per_epoch * recipe.epochs
        self._val: tuple[Preprocess, Dataset] | None = None
        self.commit = _git_commit()  # at the start: the checkout may change during the run

    def _check(self, bf16_gradients: bool) -> None:
        recipe, count = self.recipe, self.part[1]
        if len(self.data) < recipe.batch:
            raise ValueError(
                f"{len(self.data)} photos are fewer than one batch of {recipe.batch}: "
                "pass a smaller --batch"
            )
        if recipe.batch % count:
            raise ValueError(f"a batch of {recipe.batch} cannot be shared by {count} processes")
        if recipe.sparsity and count != self.ranks.count:
            raise ValueError("columns cannot be pruned: prune the network that they make")
        if bf16_gradients and (self.device.type != "cuda" or count == 1):
            raise ValueError("gradients travel in bf16 between several GPUs only (NCCL)")

    @property
    def device(self) -> torch.device:
        return self.ranks.device

    @property
    def epoch(self) -> int:
        """The current epoch, or between two epochs the next one; from 0."""
        return self.state.step // self.steps_per_epoch

    def fit(self, val_sources: list[Path], cache: Path | None = None) -> Score:
        """Trains the remaining epochs and scores each on the validation photos.

        After a signal it writes the checkpoint and raises KeyboardInterrupt.
        """
        recipe, state = self.recipe, self.state
        result: Score | None = None
        work = [recipe.size_at(s // self.steps_per_epoch) ** 2 for s in range(self.steps)]
        log = RunLog(self.run, recipe, active=self.ranks.first)
        with (
            log,
            Stop(self.ranks) as stop,
            tqdm(
                total=sum(work),
                initial=sum(work[: state.step]),
                disable=not self.ranks.first,
                bar_format="{desc} {percentage:3.0f}%|{bar:20}| {elapsed} < {remaining}{postfix}",
            ) as bar,
        ):
            while state.step < self.steps:
                epoch = self.epoch
                if state.dense is None and sparsity_at((epoch + 1) / recipe.epochs, recipe) > 0:
                    state.dense = (result or self._score(val_sources, cache))._asdict()
                start = time.perf_counter()
                loss, waited = self._train_epoch(bar, log, stop)
                seconds = time.perf_counter() - start
                result = self._score(val_sources, cache, epoch)
                self._save()
                row = {"epoch": epoch + 1, "loss": loss, **result._asdict()}
                row |= {"seconds": round(seconds, 2), "waited": round(waited, 2)}
                log.epoch(row, state.step)
                bar.write(f"epoch {epoch + 1}/{recipe.epochs}: loss {loss:.3f}, {result}")
                if state.step < self.steps and stop.is_due():
                    raise KeyboardInterrupt
        if result is None:  # a finished run was resumed
            result = self._score(val_sources, cache)
        model = self.model(result)
        if self.ranks.first:
            model.save(self.run / "model.safetensors")
            log.finish(model, state.step)
        return result

    def _train_epoch(self, bar: Any, log: RunLog, stop: Stop) -> tuple[float, float]:
        """Mean loss, and the seconds spent waiting for batches."""
        recipe, state, epoch = self.recipe, self.state, self.epoch
        self.forward.train()
        waited, began, photos = 0.0, time.perf_counter(), 0
        ready = time.perf_counter()
        for cut, targets, views in self.loader.batches(self._orders(epoch)):
            waited += time.perf_counter() - ready
            # All randomness is seeded by the step: a resumed run gives the same weights.
            torch.manual_seed(_derive_seed(recipe.seed, state.step) + self.part[0])
            lr = set_rates(state.optimizer, recipe, state.step, self.steps).weights
            x = views(cut, recipe)
            with self._autocast():
                outputs = self.forward(x)
            loss = F.cross_entropy(outputs.float(), self.targets[targets])
            state.optimizer.zero_grad()
            loss.backward()
            state.optimizer.step()
            state.loss += loss.detach()
            state.step += 1
            photos += recipe.batch
            last = state.step % self.steps_per_epoch == 0
            if state.step % INTERVAL == 0 or last:
                if isinstance(self.network, AlexNet):
                    prune(self.network, sparsity_at(state.step / self.steps, recipe))
                if not torch.isfinite(state.loss):
                    raise FloatingPointError(
                        f"the loss is {loss.item()} in epoch {epoch + 1}: lower the learning rate"
                    )
                top1 = (outputs.argmax(1) == targets).float().mean().item()
                rate = photos / (time.perf_counter() - began)
                log.step(state.step, loss.item(), top1, lr, rate)
                bar.set_description(f"epoch {epoch + 1}/{recipe.epochs}", refresh=False)
                bar.set_postfix_str(
                    f"loss {loss.item():.3f}, top-1 {top1:.0%}, {views.px} px, {rate:.0f} images/s"
                )
            bar.update(views.px**2)
            if (state.step % INTERVAL == 0 or self.ranks.count == 1) and not last and stop.is_due():
                state.seconds += time.perf_counter() - began
                self._save()
                raise KeyboardInterrupt
            ready = time.perf_counter()
        state.seconds += time.perf_counter() - began
        mean = self.ranks.total(state.loss.clone()).item() / self.ranks.count
        state.loss.zero_()
        return mean / self.steps_per_epoch, waited

    def _orders(self, epoch: int) -> Iterator[Order]:
        """The remaining batches of the epoch, for this process."""
        recipe = self.recipe
        shuffle = torch.Generator().manual_seed(
            _derive_seed(recipe.seed, -1 - epoch if recipe.reshuffle else -1)
        )
        order = torch.randperm(len(self.data), generator=shuffle)
        first = self.state.step - epoch * self.steps_per_epoch
        for i in range(first, self.steps_per_epoch):
            step = epoch * self.steps_per_epoch + i
            generator = torch.Generator().manual_seed(_derive_seed(recipe.seed, step))
            noise = recipe.colour_noise if step < recipe.noise_until * self.steps else 0.0
            side, px = self.data.images.shape[1], recipe.size_at(epoch)
            views = draw(recipe, recipe.batch, side, px, noise, generator)
            index = order[i * recipe.batch : (i + 1) * recipe.batch]
            yield Order(index[self.part[0] :: self.part[1]], views.part(*self.part))

    def _score(self, sources: list[Path], cache: Path | None, epoch: int | None = None) -> Score:
        """Scores the current network at the photo size of `epoch` (default: the current one)."""
        epoch = min(self.epoch if epoch is None else epoch, self.recipe.epochs - 1)
        spec = Preprocess().at(self.recipe.size_at(epoch))
        if self._val is None or self._val[0] != spec:  # reloaded only when the crop size changes
            with self.ranks.local_first():
                self._val = spec, load(sources, spec, self.data.labels, cache)
        val = self._val[1]
        for buffer in self.network.buffers():
            self.ranks.broadcast(buffer)  # batch norm statistics differ per process
        rank, count = self.part
        own = Dataset(val.images[rank::count], val.targets[rank::count], val.labels)
        if not len(own):
            raise ValueError(f"{len(val)} validation photos are fewer than {count} processes")
        result = evaluate(self.predictor(), own)
        sums = torch.tensor([result.top1 * len(own), result.top5 * len(own), len(own)])
        if count > 1:
            sums = self.ranks.total(sums.to(self.device)).cpu()
        top1, top5, photos = sums.double().tolist()
        return Score(top1 / photos, top5 / photos, round(photos))

    def predictor(self) -> Predict:
        """uint8 crops -> logits of the current network."""
        recipe = self.recipe
        deployable = Deployable(self.network, recipe.mean, recipe.std).to(self.device).eval()

        def predict(images: Any) -> Any:
            with torch.inference_mode(), self._autocast():
                return deployable(torch.from_numpy(images).to(self.device)).cpu().numpy()

        return predict

    def _autocast(self) -> torch.autocast:
        fast = self.device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        wanted = self.recipe.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=wanted and fast)

    def _save(self) -> None:
        checkpoint = self.state.checkpoint()
        if self.ranks.first:
            checkpoint.save(self.run / FILE)

    def model(self, result: Score) -> Checkpoint:
        """The checkpoint for export: the plain network and its facts, without the optimiser."""
        recipe, state = self.recipe, self.state
        network = AlexNet(len(self.data.labels), recipe.arch, dropout=recipe.dropout)
        network.load_state_dict(state.weights())
        finished = to_plain(network)
        facts = {
            "arch": finished.arch,
            "recipe": recipe.to_json(),
            "lineage": state.lineage,
            "labels": self.data.labels.to_tsv(),
            "known": self.data.known,
            "photos": len(self.data),
            "skipped": len(self.data.skipped),
            "accuracy": result._asdict(),
            "dense": state.dense,
            "mean": recipe.mean,
            "std": recipe.std,
            "crop": ARCHITECTURES[finished.arch].crop,
            "train_minutes": round(state.seconds / 60, 1),
            "commit": self.commit,
        }
        return Checkpoint({f"network.{k}": v for k, v in finished.state_dict().items()}, facts)


def _derive_seed(seed: int, step: int) -> int:
    return seed * 1_000_003 + step * 7919  # distinct for each step, with gaps for the ranks


def _soft_targets(data: Dataset, smoothing: float) -> Tensor:
    """(classes, classes): row i is the target for class i, smoothed over the known classes only.

    Classes without photos have a target of zero, so that the network learns not to predict them.
    """
    classes = len(data.labels)
    table = torch.eye(classes) * (1 - smoothing)
    table[:, data.known] += smoothing / len(data.known)
    return table


def _git_commit() -> str:
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return git.stdout.strip() or "unknown"
