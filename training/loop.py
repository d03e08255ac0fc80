"""The training loop from top to bottom. Read this first."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from training.best import Best
from training.checkpoint import Checkpoint
from training.columns import Column
from training.data import Dataset
from training.divergence import check_loss, is_worse_than_guessing, lower_rate
from training.evaluate import Predict, Score
from training.finished import finished
from training.loader import Order, Part, PoolLoader
from training.loss import Goal, Loss, class_rows
from training.mixing import draw_mix
from training.network import AlexNet, Deployable
from training.optim import freeze, optimizer, set_rates
from training.photos import Photos
from training.pixels import Pixels, measure
from training.plan import Plan
from training.pools import Pool, taught
from training.prune import INTERVAL, prune, sparsity_at
from training.ranks import Ranks
from training.recipe import Recipe
from training.report import RunLog, git_commit, progress_bar
from training.state import FILE, State
from training.stop import Stop
from training.validation import Outcome, Validation

SAVE_S = 30.0  # between two checkpoints of one process: on small data an epoch takes a second


class Training:
    """One run: a recipe, its data, and a run folder with the checkpoint to resume from."""

    def __init__(
        self,
        recipe: Recipe,
        train: Dataset,
        run: Path,
        ranks: Ranks | None = None,
        *,
        pools: Sequence[Pool] = (),
        columns: bool = False,
        bf16_gradients: bool = False,
    ):
        """`train` has the photos with classes; `pools` are what batches are drawn from, if that is
        more than these."""
        self.recipe, self.data, self.run = recipe, train, run
        self.ranks = ranks or Ranks(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        # Both columns get the whole batch; otherwise every process trains its part of it.
        self.part = (0, 1) if columns else (self.ranks.rank, self.ranks.count)
        pools = pools or [Pool(train)]
        self.plan = Plan(recipe, pools, self.part)
        self.batches, self.steps = self.plan.batches, self.plan.steps
        self._check(bf16_gradients)
        torch.manual_seed(recipe.seed)
        torch.backends.cudnn.benchmark = True  # pays off: the size of the crops rarely changes
        if recipe.precision == "fp32":  # TF32 has float32's range, but only 10 bits of mantissa
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        whole = AlexNet(len(train.labels), recipe.arch, dropout=recipe.dropout)
        network = Column(whole, self.ranks) if columns else whole
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network
        self.forward: torch.nn.Module = network
        if self.part[1] > 1:
            self.forward = DistributedDataParallel(network)
            if bf16_gradients:
                self.forward.register_comm_hook(None, bf16_compress_hook)
        sgd = optimizer(network, recipe)
        self.state = State(recipe, network, sgd, train, pools[0].data, lineage=[recipe.name])
        self.state.loss = torch.zeros((), device=self.device)
        self.taught = taught(pools)
        if self.taught or len(pools) > 1:
            sources = [[soft.sha256 for soft in pool.soft] for pool in pools]
            self.state.pools = [list(pair) for pair in zip(sources, self.plan.shares, strict=True)]
        self.loader = PoolLoader(pools, self.device)
        self.known = sorted({*train.known, *(self.taught or {}).get("classes", ())})
        """The classes that the network learns, from photos or from a teacher."""
        rows = class_rows(len(train.labels), self.known, recipe.label_smoothing)
        self.loss = Loss(recipe, rows.to(self.device))
        self.best = Best(run, None)
        self.outcome: Outcome | None = None
        """Of the model, once `fit` has made it."""
        self._saved = 0.0
        self.commit = git_commit()  # at the start: the checkout may change during the run

    def _check(self, bf16_gradients: bool) -> None:
        recipe, count = self.recipe, self.part[1]
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
    def pixels(self) -> Pixels:
        """Of the first pool; measured when first needed, unless they came with the checkpoint."""
        if self.state.pixels is None:
            data, apart = self.plan.pools[0].data, self.part[1] > 1
            self.state.pixels = measure(self.recipe, data, self.ranks, apart=apart)
        return self.state.pixels

    @property
    def epoch(self) -> int:
        """The current epoch, or between two epochs the next one; from 0."""
        return self.state.step // len(self.batches)

    def fit(
        self,
        val_sources: list[Path] | Photos,
        cache: Path | None = None,
        *,
        patience: int | None = None,
    ) -> Score:
        """Trains the remaining epochs and scores each on the validation photos. The model is that
        of the last epoch; with `patience` that of the best, and so many epochs without a better
        one end the run.

        After a signal it writes the checkpoint and raises KeyboardInterrupt.
        """
        recipe, state, best = self.recipe, self.state, Best(self.run, patience)
        outcome: Outcome | None = None
        validation = Validation(
            val_sources, self.data.labels, self.loss.rows, self.ranks, self.part, cache
        )
        photos = validation.load(recipe.size_at(min(self.epoch, recipe.epochs - 1)))  # fails now
        self.best, self._saved = best, time.perf_counter()
        if state.step:
            best.resume(photos.digest())
        counts = self.batches.counts
        work = [recipe.size_at(epoch) ** 2 * n for epoch in range(recipe.epochs) for n in counts]
        log = RunLog(self.run, recipe, active=self.ranks.first)
        with (
            log,
            Stop(self.ranks) as stop,
            progress_bar(sum(work), sum(work[: state.step]), active=self.ranks.first) as bar,
        ):
            while state.step < self.steps and not best.is_over(self.epoch):
                epoch = self.epoch
                sparsity = sparsity_at((epoch + 1) / recipe.epochs, recipe)
                if state.dense is None and sparsity > 0:
                    state.dense = (outcome or self._score(validation)).score._asdict()
                start = time.perf_counter()
                loss, waited = self._train_epoch(bar, log, stop)
                seconds = time.perf_counter() - start
                outcome = self._score(validation, epoch)
                if sparsity == recipe.sparsity and recipe.size_at(epoch) == recipe.sizes[-1][1]:
                    best.offer(epoch + 1, outcome, self._scored)
                stopping = state.step < self.steps and stop.is_due()
                last = state.step == self.steps or best.is_over(epoch + 1)
                self._save(now=stopping or last)
                row = {"epoch": epoch + 1, "loss": loss, "val_loss": outcome.loss}
                row |= outcome.score._asdict()
                row |= {"seconds": round(seconds, 2), "waited": round(waited, 2)}
                log.epoch(row, state.step)
                told = outcome.score.in_words(len(self.known))
                bar.write(f"epoch {epoch + 1}/{recipe.epochs}: loss {loss:.3f}, {told}")
                if not self.taught and is_worse_than_guessing(loss, len(self.known)):
                    bar.write(f"the loss is far above that of guessing: {lower_rate(recipe)}")
                if stopping:
                    raise KeyboardInterrupt
        if patience is not None and best.outcome and best.epoch < self.epoch:
            model, outcome = best.load(), best.outcome
        else:  # without an outcome a finished run was resumed
            outcome = outcome or self._score(validation)
            model = self.model(outcome.score)
        self.outcome = outcome
        if self.ranks.first:
            model.save(self.run / "model.safetensors")
            log.finish(model, state.step, outcome)
        return outcome.score

    def _train_epoch(self, bar: Any, log: RunLog, stop: Stop) -> tuple[float, float]:
        """Mean loss, and the seconds spent waiting for batches."""
        recipe, state, epoch, batches = self.recipe, self.state, self.epoch, self.batches
        self.forward.train()
        is_frozen = epoch < recipe.frozen * recipe.epochs
        frozen = freeze(self.network, recipe, is_frozen, alone=self.part[1] == 1)
        waited, began, photos = 0.0, time.perf_counter(), 0
        ready = time.perf_counter()
        px = recipe.size_at(epoch)
        for parts in self.loader.batches(self._orders(epoch)):
            waited += time.perf_counter() - ready
            # All randomness is seeded by the step: a resumed run gives the same weights.
            torch.manual_seed(recipe.seed_at(state.step) + self.part[0])
            lr = set_rates(state.optimizer, recipe, state.step, self.steps).weights
            x, goal = self._lesson(parts, px)
            with self._autocast():
                outputs = self.forward(x)
            loss = self.loss(outputs.float(), goal)
            count = batches.count(state.step % len(batches))
            if len(x) * self.part[1] != count:  # an uneven batch: each photo counts the same
                loss = loss * (len(x) * self.part[1] / count)
            state.optimizer.zero_grad()
            loss.backward()
            for parameter in frozen:
                parameter.grad = None
            state.optimizer.step()
            state.loss.add_(loss.detach(), alpha=count / recipe.batch)
            state.advance()
            photos += count
            last = state.step % len(batches) == 0
            if state.step % INTERVAL == 0 or last:
                for network in state.networks:
                    if isinstance(network, AlexNet):
                        prune(network, sparsity_at(state.step / self.steps, recipe))
                check_loss(loss.item(), state.loss.item(), epoch, recipe)
                top1 = (outputs.argmax(1) == goal.first).float().mean().item()
                rate = photos / (time.perf_counter() - began)
                log.step(state.step, loss.item(), top1, lr, rate)
                bar.set_description(f"epoch {epoch + 1}/{recipe.epochs}", refresh=False)
                bar.set_postfix_str(
                    f"loss {loss.item():.3f}, top-1 {top1:.0%}, {px} px, {rate:.0f} images/s"
                )
            bar.update(px**2 * count)
            if (state.step % INTERVAL == 0 or self.ranks.count == 1) and not last and stop.is_due():
                state.seconds += time.perf_counter() - began
                self._save()
                raise KeyboardInterrupt
            ready = time.perf_counter()
        state.seconds += time.perf_counter() - began
        mean = self.ranks.total(state.loss.clone()).item() / self.ranks.count
        state.loss.zero_()
        return mean * recipe.batch / batches.photos, waited

    def _orders(self, epoch: int) -> Iterator[Sequence[Order]]:
        """The remaining batches of the epoch, for this process."""
        first = self.state.step - epoch * len(self.batches)
        yield from self.plan.orders(epoch, first, self.pixels)

    def _lesson(self, parts: list[Part], px: int) -> tuple[Tensor, Goal]:
        """What the network sees of a batch, (N, 3, px, px), and what it should answer."""
        mean = self.pixels.mean(px, self.device)
        seen = [part.views(part.cut, self.recipe, mean) for part in parts]
        x, goal = seen[0] if len(seen) == 1 else torch.cat(seen), self.loss.goal(parts)
        mix = draw_mix(self.recipe, self.state.step, len(x), px)
        return (x, goal) if mix is None else (mix.photos(x), mix.goal(goal))

    def _score(self, validation: Validation, epoch: int | None = None) -> Outcome:
        """Scores the current network at the photo size of `epoch` (default: the current one)."""
        epoch = min(self.epoch if epoch is None else epoch, self.recipe.epochs - 1)
        for network in self.state.networks:
            for buffer in network.buffers():
                self.ranks.broadcast(buffer)  # batch norm statistics differ per process
        px = self.recipe.size_at(epoch)
        return validation(self.predictor(px), px)

    def predictor(self, px: int) -> Predict:
        """uint8 crops of `px` px -> logits of the current network, or of the average of its past
        weights."""
        image, recipe = self.pixels.mean(px), self.recipe
        mean = recipe.mean if image is None else image
        deployable = Deployable(self.state.scored, mean, recipe.std).to(self.device).eval()

        def predict(images: Any) -> Any:
            with torch.inference_mode(), self._autocast():
                return deployable(torch.from_numpy(images).to(self.device)).cpu().numpy()

        return predict

    def _autocast(self) -> torch.autocast:
        fast = self.device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        wanted = self.recipe.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=wanted and fast)

    def _save(self, *, now: bool = True) -> None:
        """Writes the checkpoint, and before it the best network: between the two a run can go on
        from either. Unless it must be `now`, only if the last is SAVE_S old."""
        if not now and self.ranks.count == 1 and time.perf_counter() < self._saved + SAVE_S:
            return
        best, checkpoint = self.best, self.state.checkpoint()
        if self.ranks.first:
            if best.weights and best.outcome:
                best.save(self.model(best.outcome.score, best.weights))
            checkpoint.save(self.run / FILE)
        self._saved = time.perf_counter()

    def model(self, result: Score, weights: dict[str, Tensor] | None = None) -> Checkpoint:
        """For export: of the scored weights unless others are given."""
        weights = weights or self._scored()
        facts = {"accuracy": result._asdict(), "taught": self.taught, "commit": self.commit}
        return finished(self.state, weights, facts)

    def _scored(self) -> dict[str, Tensor]:
        return self.state.weights(self.state.scored)
