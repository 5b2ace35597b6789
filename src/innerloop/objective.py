"""What a task is trained on and scored by, one number for each task."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_recall

from innerloop.episode import Examples

PerTask = Callable[[Tensor, Tensor], Tensor]


def precise(predictions: Tensor) -> Tensor:
    """In float32 at least: a mean in 16 bits has two or three digits."""
    return predictions.to(torch.promote_types(predictions.dtype, torch.float32))


def cross_entropy(predictions: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of each task: logits (tasks, n, ways), labels (tasks, n) -> (tasks,)."""
    return F.cross_entropy(precise(predictions).flatten(0, -2), y.flatten(), reduction="none").view(y.shape).mean(-1)


def where_finite(scores: Tensor, predictions: Tensor) -> Tensor:
    """NaN for the tasks (tasks,) of which a prediction is no number: the largest of such logits would be class 0, a guess."""
    return scores.masked_fill(~predictions.isfinite().flatten(1).all(1), torch.nan)


def accuracy(predictions: Tensor, y: Tensor) -> Tensor:
    """Fraction of right answers of each task, NaN where it diverged: logits (tasks, n, ways), labels (tasks, n) -> (tasks,)."""
    right = (predictions.argmax(-1) == y).float().mean(-1)  # counted in float32, whatever the precision of the run
    return where_finite(right, predictions)


def macro_f1(predictions: Tensor, y: Tensor) -> Tensor:
    """F1 of each class, averaged over classes, of each task: logits (tasks, n, ways), labels (tasks, n) -> (tasks,)."""
    f1 = multiclass_f1_score(
        predictions.movedim(-1, 1), y, predictions.shape[-1], average="macro", multidim_average="samplewise", validate_args=False
    )
    return where_finite(f1, predictions)


def macro_recall(predictions: Tensor, y: Tensor) -> Tensor:
    """Recall of each class, averaged over classes, of each task; the accuracy where all classes have as many queries."""
    recall = multiclass_recall(
        predictions.movedim(-1, 1), y, predictions.shape[-1], average="macro", multidim_average="samplewise", validate_args=False
    )
    return where_finite(recall, predictions)


def calibration_error(predictions: Tensor, y: Tensor, bins: int = 15) -> Tensor:
    """Expected calibration error of each task (Guo et al. 2017, arXiv:1706.04599): the gap between confidence and accuracy in each of 15
    bins of confidence, weighted by its queries. logits (tasks, n, ways), labels (tasks, n) -> (tasks,)."""
    confidence, answers = predictions.float().softmax(-1).max(-1)
    gap = (answers == y).float() - confidence
    bin_of = (confidence * bins).ceil().long().clamp(1, bins) - 1
    summed = torch.zeros(len(y), bins, dtype=gap.dtype, device=y.device).scatter_add_(1, bin_of, gap)
    return where_finite(summed.abs().sum(1) / y.shape[1], predictions)


def auroc(predictions: Tensor, known: int) -> Tensor:
    """How well the largest logit tells the first `known` queries of each task from the others, which are of none of its classes: the chance
    that it is larger for one of the former than for one of the latter, half where they are equal, which is the area under the ROC curve
    (the maximum logit score of Vaze et al. 2022, arXiv 2110.06207). logits (tasks, n, ways) -> (tasks,)."""
    largest = precise(predictions).amax(-1)
    ours, others = largest[:, :known, None], largest[:, None, known:]
    return where_finite((ours > others).double().add((ours == others).double(), alpha=0.5).mean((1, 2)), predictions)


def token_cross_entropy(predictions: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of each task's tokens, in nats: logits (tasks, n, length, vocabulary), tokens (tasks, n, length) -> (tasks,)."""
    return F.cross_entropy(precise(predictions).flatten(0, -2), y.flatten(), reduction="none").view(len(y), -1).mean(-1)


def perplexity(predictions: Tensor, y: Tensor) -> Tensor:
    """The exponential of the above: among how many equally likely tokens each was found."""
    return token_cross_entropy(predictions, y).exp()


def mean_squared_error(predictions: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of each task: both (tasks, n, outputs) -> (tasks,)."""
    return (precise(predictions) - y).square().mean((-2, -1))


def psnr(predictions: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each task, in dB, of values from 0 to 1: both (tasks, n, outputs) -> (tasks,)."""
    return -10 * mean_squared_error(predictions, y).clamp(min=1e-12).log10()


def degrees_off(predictions: Tensor, y: Tensor) -> Tensor:
    """Mean angle between directions in the plane, in degrees, of each task: both (tasks, n, 2) -> (tasks,)."""
    (x, up), (true_x, true_up) = precise(predictions).unbind(-1), y.unbind(-1)
    off = torch.atan2(x * true_up - up * true_x, x * true_x + up * true_up).abs().rad2deg().mean(-1)
    return where_finite(off, predictions)


@dataclass(frozen=True)
class Objective:
    """The loss that both loops descend, and the metric that is reported under its name.

    lower_is_better: of the metric. more: what else evidence.csv has of the query set, by name. What is None is as in supervised learning:
    outer_loss, of the query sets in the outer loop; tested_loss, by which weights are selected; look(policy, part, at), which makes the
    examples of inner step `at` (None: of the query set) under the weights that they are for, where a learner makes its own;
    inner_terms(predictions, y, worth), what the examples of an inner step add to the outer loss, worth (tasks,) being the query's score;
    divergence, of what a policy would do from what it did.
    """

    metric: str
    loss: PerTask
    score: PerTask
    lower_is_better: bool
    more: dict[str, PerTask] = field(default_factory=dict)
    outer_loss: PerTask | None = None
    tested_loss: PerTask | None = None
    look: Callable[[Callable[[Tensor], Tensor], Examples, int | None], Examples] | None = None
    inner_terms: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    divergence: PerTask | None = None

    def __deepcopy__(self, memo: Any) -> "Objective":
        """Itself: the copies of an algorithm on other threads may ask `objective is CLASSIFICATION` too."""
        return self


CLASSIFICATION = Objective(
    "accuracy", cross_entropy, accuracy, False, {"macro_f1": macro_f1, "recall": macro_recall, "calibration_error": calibration_error}
)
LANGUAGE = Objective("perplexity", token_cross_entropy, perplexity, True)
REGRESSION = Objective("mse", mean_squared_error, mean_squared_error, True)
PICTURE = Objective("psnr", mean_squared_error, psnr, False)
POSE = Objective("degrees", mean_squared_error, degrees_off, True)
