"""The LightningModule of the outer loop."""

import contextlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn.functional import pad
from torch.optim import Optimizer
from torchmetrics import CatMetric

from innerloop.algorithms.base import Algorithm
from innerloop.config import Diverged, InputError, check_choice, check_count
from innerloop.engine.forward import learn2learn
from innerloop.episode import Episode, Examples
from innerloop.training.batch_statistics import Statistics, batch_norms, statistics_known, statistics_of_training
from innerloop.training.data import EpisodicDataModule
from innerloop.training.evaluation import (
    Curve,
    Transductive,
    adaptation_curve,
    area_under,
    mean_ci95,
    one_at_a_time,
    reported_steps,
)
from innerloop.training.shares import Execution, TaskShares

STATISTICS_EPISODES = 100  # of training, whose batch statistics are averaged for transductive=training


class MetaLearner(LightningModule):
    """Trains the parameters of an algorithm on the mean outer loss of a meta-batch, and evaluates it by the protocol of evaluation.py.

    optimizer(params=...) makes the outer optimizer, scheduler(optimizer=...) its learning-rate scheduler, stepped once an outer step.
    steps_at_once: meta-batches that come as one, for as many outer steps: the same numbers, less of Lightning. reuse: steps of the
    optimizer on each meta-batch, which are one outer step.
    trust_region: the optimizer is a TrustRegion, which takes one step on each meta-batch.
    select_by: "last", val/loss is that after the last adaptation step; "curve", averaged over the adaptation curve.
    scored_steps: adaptation steps after which the test's query sets are scored, besides the last; None for those of `reported_steps`, or
    for no other where each query takes a forward pass of its own.
    After `trainer.test`, `curve` holds the measures of all test episodes, in their order.
    """

    def __init__(
        self, algorithm: Algorithm[Any], execution: Execution, threads: int, optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Any], eval_adaptation_steps: int, transductive: Transductive, steps_at_once: int = 1,
        select_by: str = "last", scored_steps: list[int] | None = None, reuse: int = 1, trust_region: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        check_count("eval_adaptation_steps", eval_adaptation_steps, least=0)
        check_choice("select_by", select_by, ("last", "curve"))
        check_transductive(transductive, algorithm, execution)
        self.algorithm, self.optimizer, self.scheduler = algorithm, optimizer, scheduler
        check_count("reuse", reuse)
        self.reuse, self.trust_region = reuse, trust_region
        self.take_at_once(steps_at_once)
        self.shares = TaskShares(algorithm, execution, threads)
        self.eval_adaptation_steps, self.transductive, self.select_by = eval_adaptation_steps, transductive, select_by
        self.statistics: Statistics | None = None
        self.scored_steps = None if scored_steps is None else check_steps(scored_steps, eval_adaptation_steps)
        # gathered over devices: (episodes, steps, measures) and (episodes, queries, 3)
        self.measured, self.answers = CatMetric(nan_strategy="disable"), CatMetric(nan_strategy="disable")
        self.most_queries = 0  # of an episode, where they are not always as many
        self.curve: Curve | None = None
        self._steps: list[int] = []
        self._measures: list[str] = []

    def take_at_once(self, steps: int) -> None:
        """From now on so many meta-batches come as one."""
        self.steps_at_once = steps
        self.automatic_optimization = steps == self.reuse == 1 and not self.trust_region

    def beside_weights(self, episodes: Episode) -> Episode:
        """On the device and in the precision of the weights, as Lightning has it in its own loops."""
        moved = self.transfer_batch_to_device(episodes, self.device, 0)
        kinds = {parameter.dtype for parameter in self.algorithm.parameters()}
        if len(kinds) != 1:
            return moved  # type: ignore[no-any-return]
        (dtype,) = kinds
        return Episode(*(Examples(*(v.to(dtype) if v.is_floating_point() else v for v in part)) for part in moved))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["obstacle"], checkpoint["steps_at_once"] = self.shares.obstacle, self.steps_at_once
        if self.device_mesh is None:
            checkpoint["frozen"] = {name: crc32_of(checkpoint["state_dict"].pop(name)) for name in self._frozen()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.add_frozen(checkpoint)
        self.shares.obstacle = checkpoint["obstacle"]  # or the first meta-batch would be taken on one thread again, and round differently

    def add_frozen(self, checkpoint: dict[str, Any]) -> None:
        """Checkpoints hold what was learned; what was not is this model's own. Raises InputError where it was another's."""
        if self.device_mesh is not None or "frozen" not in checkpoint:
            return
        frozen = self._frozen()
        kinds = {weight.dtype for weight in checkpoint["state_dict"].values() if weight.is_floating_point()}
        for name, weight in frozen.items():
            of_run = weight.to(*kinds) if len(kinds) == 1 and weight.is_floating_point() else weight  # trainer.precision may be another now
            if not self.algorithm.only_trains(name.removeprefix("algorithm.")) and checkpoint["frozen"].get(name) != crc32_of(of_run):
                raise InputError(
                    f"the checkpoint was trained with another frozen {name}; take the model, the patterns and the seed as they were"
                )
        checkpoint["state_dict"] |= frozen

    def _frozen(self) -> dict[str, Tensor]:
        named = self.algorithm.named_parameters(remove_duplicate=False)  # tied weights have two names in a checkpoint
        return {f"algorithm.{name}": p.detach() for name, p in named if not p.requires_grad}

    @classmethod
    def load_from_checkpoint(cls, *_: Any, **__: Any) -> Any:
        """Weights belong to a run, which says what to build: innerloop.runs.experiment.load_run(DIRECTORY).learner."""
        raise InputError("a checkpoint is loaded with its run: innerloop.runs.experiment.load_run(DIRECTORY).learner")

    def forward(self, support: Examples, x: Tensor) -> Tensor:
        """Adapts to the support sets, and predicts x (tasks, n, ...) -> (tasks, n, outputs)."""
        self.algorithm.told(Episode(support, support))
        return self.algorithm.predict(self.algorithm.adapt(support), x)

    def predict_step(self, episodes: Episode, batch_index: int) -> Tensor:
        """Of `trainer.predict`: predictions on the query sets (tasks, n, outputs)."""
        with all_weights(self.algorithm):
            return self(episodes.support, episodes.query.x)

    def configure_model(self) -> None:
        """Shares the weights out over the mesh of devices of trainer=fsdp. Raises InputError where `engine` does not go with it."""
        if self.device_mesh is None or hasattr(self.algorithm, "unshard"):
            return
        from torch.distributed.fsdp import fully_shard

        self.shares.take_whole()
        if single := [name for name, weight in self.algorithm.named_parameters() if not weight.ndim]:
            raise InputError(f"trainer=fsdp shares weights out, and {single[0]} is a single number; use trainer=ddp")
        fully_shard(self.algorithm, mesh=self.device_mesh)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(params=self.algorithm.trained())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.scheduler(optimizer=optimizer), "interval": "step"}}

    def training_step(self, episodes: Episode, batch_index: int) -> Tensor | None:
        if not self.automatic_optimization:
            self._several_steps(episodes, batch_index)
            return None
        self._anneal(batch_index)
        with all_weights(self.algorithm):
            episodes = self.algorithm.recorded(episodes)
        loss, predictions = self.shares.outer_loss(episodes)
        self._check(loss)
        self._log_training(loss, predictions, episodes, batch_index)
        return loss

    def _several_steps(self, meta_batches: Episode, batch_index: int) -> None:
        """What Lightning's own optimization does for one meta-batch, without its cost for each of several."""
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        size = len(meta_batches.support.x) // self.steps_at_once
        for start in range(0, size * self.steps_at_once, size):
            episodes = Episode(*(Examples(*(v[start : start + size] for v in part)) for part in meta_batches))
            self._anneal(batch_index * self.steps_at_once + start // size)
            episodes = self.algorithm.recorded(episodes)
            take = self._within_region if self.trust_region else self._again_and_again
            loss, predictions = take(optimizer, episodes)
            scheduler.step()  # type: ignore[union-attr, call-arg]
        self._log_training(loss, predictions, episodes, batch_index)

    def _again_and_again(self, optimizer: Any, episodes: Episode) -> tuple[Tensor, Tensor]:
        """`reuse` steps on one meta-batch; loss and predictions before the last."""
        for left in reversed(range(self.reuse)):
            loss, predictions = self.shares.take_gradients(episodes)
            self._check(loss)
            (optimizer.optimizer if left else optimizer).step()  # Lightning counts its own
        return loss, predictions

    def _within_region(self, optimizer: Any, episodes: Episode) -> tuple[Tensor, Tensor]:
        """A step of TrustRegion on recorded rollouts; loss and predictions before it."""
        divergence, found = self.algorithm.objective.divergence, []
        assert divergence

        def closure() -> tuple[Tensor, Tensor]:
            losses, predictions = self.algorithm(episodes)
            found.append((losses.mean().detach(), predictions.detach()))
            self._check(found[0][0])
            return losses.mean(), divergence(predictions, episodes.query.y).mean()

        with torch.backends.cudnn.flags(enabled=False):  # its recurrent networks have no second derivative
            optimizer.step(closure)
        return found[0]

    def _anneal(self, meta_batch: int) -> None:
        self.algorithm.anneal(meta_batch / (self.trainer.num_training_batches * self.steps_at_once))

    def _check(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise Diverged(self._divergence(loss))

    def _log_training(self, loss: Tensor, predictions: Tensor, episodes: Episode, batch_index: int) -> None:
        """Only when it is going to be written: self.log takes as long as a step of a small network."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not every or (batch_index + 1) % every:
            return
        objective, tasks = self.algorithm.objective, len(predictions)
        self.log("train/loss", loss, prog_bar=True, batch_size=tasks)
        score = objective.score(predictions.detach(), episodes.query.y).mean()
        self.log(f"train/{objective.metric}", score, prog_bar=True, batch_size=tasks)
        for name, value in self.algorithm.notes().items():
            self.log(f"train/{name}", value, batch_size=tasks)
        self._log_step(self.global_step - 1)

    def _log_step(self, step: int) -> None:
        """The outer step is the x-axis of the loggers, which would count batches."""
        if not self.automatic_optimization:
            self.log("step", float(step), batch_size=1)

    def _divergence(self, loss: Tensor) -> str:
        rates = f"optimizer.lr={self.trainer.optimizers[0].param_groups[0]['lr']:g}"
        if hasattr(self.algorithm, "inner_lr"):
            rates = f"algo.inner_lr={self.algorithm.inner_lr:g} and {rates}"
        written = (c.best_weights for c in self.trainer.checkpoint_callbacks if hasattr(c, "best_weights") and c.best_weights.exists())
        best = next(written, "none was written yet")
        where = f"{loss.item()} at outer step {self.global_step} with {rates}"
        return f"the loss is {where}; lower one of them (last good checkpoint: {best})"

    def on_train_end(self) -> None:
        self.shares.forget_compiled()

    def on_validation_epoch_start(self) -> None:
        self.take_statistics(self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_test_epoch_start(self) -> None:
        self.take_statistics(self.trainer.datamodule)  # type: ignore[attr-defined]

    def take_statistics(self, data: EpisodicDataModule | None) -> None:
        """With transductive=training: what batch norm normalises by from now on, at the weights of now."""
        if self.transductive != "training" or not batch_norms(self.algorithm):
            return
        if data is None:
            raise InputError("transductive=training takes statistics of training episodes; give the trainer datamodule=, not data loaders")
        train = data.train_episodes
        count = min(STATISTICS_EPISODES, len(train))
        meta_batches = (self.beside_weights(train.meta_batch(range(i, i + 1))) for i in range(count))
        with all_weights(self.algorithm):
            self.statistics = statistics_of_training(self.algorithm, meta_batches)

    def validation_step(self, episodes: Episode, batch_index: int) -> None:
        last = [self.eval_adaptation_steps]
        self._evaluate(episodes, last if self.select_by == "last" else reported_steps(*last), evidence=False)

    def on_validation_epoch_end(self) -> None:
        self._summarise("val")

    def test_step(self, episodes: Episode, batch_index: int) -> None:
        self._evaluate(episodes, self.tested_steps(), evidence=True)

    def on_test_epoch_end(self) -> None:
        self.curve = self._summarise("test")

    def tested_steps(self) -> list[int]:
        """After how many adaptation steps the test episodes are scored."""
        last = self.eval_adaptation_steps
        if self.scored_steps is None and not one_at_a_time(self.algorithm, self.transductive):
            return reported_steps(last)
        return sorted({*(self.scored_steps or []), last})

    def _evaluate(self, episodes: Episode, reported: list[int], evidence: bool) -> None:
        def curve(algorithm: Algorithm[Any], share: Episode) -> Curve:
            with statistics_known(algorithm, self.statistics):
                return adaptation_curve(algorithm, share, reported, self.transductive, evidence)

        with all_weights(self.algorithm):
            curves = self.shares.map(curve, episodes)
        for steps, measures, answers in curves:
            self._steps, self._measures = steps, list(measures)
            self.measured.update(torch.stack([values.float() for values in measures.values()], -1))
            if answers is not None:
                self.answers.update(pad(answers, (0, 0, 0, max(0, self.most_queries - answers.shape[1])), value=torch.nan))

    def _in_order(self, gathered: CatMetric) -> Tensor:
        """Of all devices, in the order of the episodes; forgets them."""
        of_ranks, world = gathered.compute(), self.trainer.world_size
        gathered.reset()
        came_as = [episode for rank in range(world) for episode in range(rank, len(of_ranks), world)]  # data.py shares them so
        return of_ranks[torch.tensor(came_as, device=of_ranks.device).argsort()]

    def _summarise(self, split: str) -> Curve:
        measured = self._in_order(self.measured)
        answers = self._in_order(self.answers) if self.answers.update_called else None
        curve = Curve(self._steps, dict(zip(self._measures, measured.unbind(-1), strict=True)), answers)
        metric = self.algorithm.objective.metric
        mean, ci95 = mean_ci95(curve.measures[metric][:, -1])
        over_curve = split == "val" and self.select_by == "curve"
        loss = area_under(curve, "loss") if over_curve else curve.measures["loss"][:, -1].mean().item()
        summary = {f"{split}/loss": loss, f"{split}/{metric}": mean, f"{split}/{metric}_ci95": ci95}
        for name, value in summary.items():
            self.log(name, value, prog_bar=name == f"{split}/{metric}", sync_dist=True)  # equal on all devices already
        self._log_step(self.global_step - (split == "val"))
        return curve


def check_transductive(transductive: Any, algorithm: Algorithm[Any], execution: Execution) -> None:
    """Raises InputError for what is none of the four ways, or no way for this learner."""
    if not isinstance(transductive, bool) and transductive not in ("support", "training"):
        raise InputError(f"transductive must be true, false, support or training, got {transductive!r}")
    if isinstance(transductive, str) and execution.forward is learn2learn:  # its clones have batch norms of their own
        raise InputError(f"transductive={transductive} does not go with engine=learn2learn; use engine=loop")
    if transductive == "training" and algorithm.adapts_body and batch_norms(algorithm):
        raise InputError(
            f"transductive=training is for what adapts a head at most, and {type(algorithm).__name__} gives each task a body of its own, "
            "which statistics of training do not fit; use true, support or false"
        )


def check_steps(scored_steps: Any, last: int) -> list[int]:
    """Raises InputError for what is no list of adaptation steps."""
    whole = isinstance(scored_steps, Sequence) and all(isinstance(step, int) and 0 <= step <= last for step in scored_steps)
    if not whole or not scored_steps:
        raise InputError(f"scored_steps must be a list of numbers from 0 to eval_adaptation_steps={last}, got {scored_steps!r}")
    return list(scored_steps)


def crc32_of(tensor: Tensor) -> int:
    """The checksum of its bytes."""
    return zlib.crc32(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)


@contextlib.contextmanager
def all_weights(algorithm: Algorithm[Any]) -> Iterator[None]:
    """Gives each device all weights for methods other than forward, where they are shared out."""
    if not hasattr(algorithm, "unshard"):
        yield
        return
    algorithm.unshard()  # type: ignore[operator]
    try:
        yield
    finally:
        algorithm.reshard()  # type: ignore[operator]
