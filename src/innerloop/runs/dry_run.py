"""A few examples through a model, before training: what does not go together is said in a sentence."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from innerloop.algorithms.base import Algorithm, GradientBased
from innerloop.config import InputError
from innerloop.detection import DETECTION
from innerloop.engine.forward import loop, vmap
from innerloop.episode import Episode, Examples
from innerloop.objective import LANGUAGE
from innerloop.training.checkpoint import random_state, set_random_state

log = logging.getLogger(__name__)
FEW = 2  # examples: a batch norm wants two


def check_model(algorithm: Algorithm[Any], episode: Episode, outputs: int) -> None:
    """Takes the outer gradient and a prediction on a few examples of `episode`, a meta-batch of one; where the model does not run under
    engine=vmap and does under loop, says so and changes the algorithm's engine.

    Raises InputError where it fails, predicts something of another shape than the task asks for, or, a language model, sees what it is to
    predict. The weights, the model's state and the random numbers of training stay as they were.
    """
    algorithm.told(episode)
    whole = algorithm.objective.look or algorithm.varied  # whose labels say how many classes there are
    few = episode if whole else Episode(*(Examples(part.x[:, :FEW], part.y[:, :FEW]) for part in episode))
    with unchanged(algorithm):
        try:
            predictions, wanted = try_out(algorithm, few, outputs)
        except InputError:
            raise
        except Exception as error:  # of whatever library
            if algorithm.engine is not vmap:
                raise refusal(algorithm, error) from error
            algorithm.engine = loop
            try:
                predictions, wanted = try_out(algorithm, few, outputs)
            except InputError:
                raise
            except Exception as second:
                raise refusal(algorithm, second) from second
            log.info(f"engine=loop, since {type(algorithm.model).__name__} does not run under vmap ({first_line(error)})")
        check_shape(algorithm, predictions, wanted)
        if algorithm.objective is LANGUAGE:
            check_causal(algorithm, few, outputs)


def try_out(algorithm: Algorithm[Any], few: Episode, outputs: int) -> tuple[Tensor, torch.Size]:
    """Predictions (1, FEW, ...) as they are in evaluation, after the outer gradient was taken as in training; and the shape asked for."""
    few = algorithm.eval().recorded(few)
    wanted = shape_of(algorithm, few, algorithm.ways_at_hand or outputs if algorithm.varied else outputs)
    if isinstance(algorithm, GradientBased) and not algorithm.any_ways:
        with torch.no_grad():
            predictions = algorithm.eval().engine(algorithm.model, {}, few.query.x)
        if predictions.shape != wanted:
            return predictions, wanted
    if algorithm.learns and algorithm.trained():
        losses, _ = algorithm.train()(few)
        torch.autograd.grad(losses.sum(), algorithm.trained(), allow_unused=True)
    with torch.no_grad():
        return algorithm.eval().predict(algorithm.adapt(few.support), few.query.x), wanted


def shape_of(algorithm: Algorithm[Any], few: Episode, outputs: int) -> torch.Size:
    y = few.query.y
    several = algorithm.objective.look or algorithm.objective is DETECTION  # numbers of y for one answer: of a step in a rollout, of a cell
    of_each = y.shape[:-1] if several else y.shape
    return y.shape if y.is_floating_point() and not several else torch.Size((*of_each, outputs))


def check_shape(algorithm: Algorithm[Any], predictions: Tensor, wanted: torch.Size) -> None:
    """Raises InputError for another one, which might be broadcast to a loss without a word."""
    name = type(algorithm.model).__name__
    if predictions.shape != wanted:
        advice = "set model.head" if name == "HuggingFace" else "change its last layer"
        shapes = f"{tuple(predictions.shape[1:])} numbers for {wanted[1]} examples, and this task asks for {tuple(wanted[1:])}"
        raise InputError(f"{name} gives {shapes}; {advice}")


def refusal(algorithm: Algorithm[Any], error: Exception) -> InputError:
    """What a user can do about it."""
    advice = "change its settings, or use another model"
    if "derivative" in str(error) and getattr(algorithm, "first_order", True) is False:
        advice = "set algo.first_order=true (or algo=fomaml), or use another layer"
    return InputError(f"{type(algorithm.model).__name__} cannot take this task ({first_line(error)}); {advice}")


def first_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


@contextlib.contextmanager
def unchanged(algorithm: Algorithm[Any]) -> Iterator[None]:
    """Puts back random numbers, buffers and mode."""
    drawn, training = random_state(), algorithm.training
    buffers = {name: buffer.clone() for name, buffer in algorithm.named_buffers()}
    try:
        yield
    finally:
        set_random_state(drawn)
        algorithm.train(training)
        with torch.no_grad():
            for name, buffer in algorithm.named_buffers():
                buffer.copy_(buffers[name])


def check_causal(algorithm: Algorithm[Any], few: Episode, vocabulary: int) -> None:
    """Raises InputError where a prediction changes with a token that comes after it."""
    x = few.query.x[:, :1]
    other = x.clone()
    other[..., -1] = (other[..., -1] + 1) % vocabulary
    with torch.no_grad():
        before, after = (algorithm.eval().engine(algorithm.model, {}, tokens)[..., :-1, :] for tokens in (x, other))
    if not torch.allclose(before, after, atol=1e-5):
        raise InputError(f"{type(algorithm.model).__name__} sees the tokens that it is to predict; use a causal language model")
