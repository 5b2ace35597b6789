"""What a run says on the terminal while it trains."""

import math
import sys
import time
from datetime import timedelta
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.progress import ProgressColumn, Task
from rich.text import Text

from innerloop.console import say
from innerloop.training.evaluation import adaptation_curve, one_at_a_time


class ProgressBar(RichProgressBar):
    """Lightning's Rich bar, in outer steps and tasks per second, less the version numbers of the loggers and the number of the only epoch;
    and a line after each validation, which is all there is where the output is no terminal (a batch job's log)."""

    def __init__(self, refresh_rate: int) -> None:
        super().__init__(refresh_rate=refresh_rate if sys.stdout.isatty() else 0)
        self._started, self._first_step = 0.0, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._started, self._first_step = time.perf_counter(), trainer.global_step

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_test_start(trainer, pl_module)
        if trainer.is_global_zero and one_at_a_time(pl_module.algorithm, pl_module.transductive):  # type: ignore[arg-type]
            say_price(trainer, pl_module)

    def on_test_batch_start(self, trainer: Trainer, pl_module: LightningModule, *others: Any) -> None:
        super().on_test_batch_start(trainer, pl_module, *others)
        if others[1] == 0:
            self._started = time.perf_counter()

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *others: Any) -> None:
        super().on_test_batch_end(trainer, pl_module, *others)
        done, batches = others[2] + 1, trainer.num_test_batches[0]  # type: ignore[attr-defined]
        left = (time.perf_counter() - self._started) / done * (batches - done)
        if self.is_disabled and trainer.is_global_zero and done == 1 and left > 3:
            say(f"testing: batch {done} of {batches}, {as_time(left)} left")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == "fit" and trainer.is_global_zero and trainer.global_step > self._first_step:
            say(self._line(trainer, pl_module))

    def _line(self, trainer: Any, learner: Any) -> str:
        """Where training is, how good, how fast (validation counted in), and how long it will take."""
        data, found, metric = trainer.datamodule, trainer.callback_metrics, f"val/{learner.algorithm.objective.metric}"
        tasks = data.meta_batch_size * trainer.accumulate_grad_batches
        steps, total = trainer.global_step, int(self.total_train_batches)
        seconds_a_step = (time.perf_counter() - self._started) / (steps - self._first_step)
        score = f"{metric} {found[metric]:.4f} ± {found[f'{metric}_ci95']:.4f}"
        if found["val/loss"] != found[metric]:
            score = f"val/loss {found['val/loss']:.4f}, {score}"
        if not math.isfinite(found[metric]) or abs(found[metric]) > 1e5:
            score = f"{metric} diverged within the adaptation steps"
        left = f", {as_time(seconds_a_step * (total - steps))} left" if self.is_disabled else ""  # which a bar says
        return f"outer step {steps}/{total}: {score}; {speed(tasks / seconds_a_step)}{left}"

    @property
    def total_train_batches(self) -> int | float:
        return super().total_train_batches * self._data.steps_at_once // self._accumulated

    def _update(self, progress_bar_id: Any, current: int, visible: bool = True, hard: bool = False) -> None:
        training = progress_bar_id == self.train_progress_bar_id
        super()._update(progress_bar_id, current * self._data.steps_at_once // self._accumulated if training else current, visible, hard)

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        return [*super().configure_columns(trainer)[:-1], TasksPerSecond(self)]

    def tasks_of(self, bar: int) -> int:
        """In a unit of a bar: in an outer step, or in a batch of episodes to evaluate."""
        if bar == self.train_progress_bar_id:
            return self._data.meta_batch_size * self._accumulated
        return self._data.eval_batch_size

    @property
    def _accumulated(self) -> int:
        return self.trainer.accumulate_grad_batches  # type: ignore[attr-defined]

    @property
    def _data(self) -> Any:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training  "  # as wide as "Validation"

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, int | str | float | dict[str, float]]:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class TasksPerSecond(ProgressColumn):
    """What stands at the end of a bar."""

    def __init__(self, bars: ProgressBar) -> None:
        super().__init__()
        self.bars = bars

    def render(self, task: Task) -> Text:
        return Text(speed((task.speed or 0) * self.bars.tasks_of(task.id)))


def speed(tasks: float) -> str:
    """Tasks in a second, in two digits at least."""
    return f"{tasks:.0f} tasks/s" if tasks >= 10 or not tasks else f"{tasks:.2g} tasks/s"


def as_time(seconds: float) -> str:
    """0:01:30."""
    return str(timedelta(seconds=round(seconds)))


def say_price(trainer: Any, learner: Any) -> None:
    """What it takes to answer each query in a forward pass of its own: a few episodes are timed, an hour is not begun without a word.

    Not of a model that draws random numbers or changes its own state: the timing would change its numbers.
    """
    data, shares, steps = trainer.datamodule, learner.shares, learner.tested_steps()
    episodes = len(data.test_episodes)
    sample = data.test_episodes.meta_batch(range(min(shares.threads, episodes)))
    queries, price = sample.query.x.shape[1], ""
    if shares.obstacle is None:
        sample = learner.beside_weights(sample)
        started = time.perf_counter()
        shares.map(lambda algorithm, share: adaptation_curve(algorithm, share, steps, learner.transductive), sample)
        price = f": about {as_time((time.perf_counter() - started) * episodes / len(sample.query.x) / trainer.world_size)}"
    say(
        f"transductive={str(learner.transductive).lower()} answers each of {episodes} x {queries} queries in a forward pass of its own, "
        f"after {' and '.join(map(str, steps))} adaptation steps{price}"
    )
