"""One episode through a model of tokens, before training: what does not go together is said in a sentence."""

from typing import Any

import torch

from innerloop.algorithms.base import Algorithm, GradientBased
from innerloop.config import InputError
from innerloop.episode import Episode
from innerloop.objective import LANGUAGE


def check_model(algorithm: Algorithm[Any], episode: Episode, outputs: int) -> None:
    """Raises InputError where the model fails on a meta-batch of one episode, predicts something of another shape than the task asks for,
    or, a language model, sees what it is to predict. Draws no random numbers that training would."""
    name = type(algorithm.model).__name__
    support, query = episode
    training = algorithm.training
    try:
        with torch.no_grad(), torch.random.fork_rng():
            predictions = algorithm.eval().engine(algorithm.model, {}, query.x)
            if predictions.shape == (*query.y.shape, outputs) or not isinstance(algorithm, GradientBased):  # others may have no head
                predictions = algorithm.predict(algorithm.adapt(support), query.x)
    except Exception as error:  # of whatever library
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name} cannot take this task ({reason}); change its settings, try engine=loop, or use another model") from error
    finally:
        algorithm.train(training)
    if predictions.shape != (*query.y.shape, outputs):
        raise InputError(
            f"{name} gives {tuple(predictions.shape[1:])} numbers for an episode, and this task asks for {(*query.y.shape[1:], outputs)}; "
            "with model=hf set model.head, else use another model"
        )
    if algorithm.objective is LANGUAGE:
        check_causal(algorithm, episode, outputs)


def check_causal(algorithm: Algorithm[Any], episode: Episode, vocabulary: int) -> None:
    """Raises InputError where a prediction changes with a token that comes after it."""
    x = episode.query.x[:, :1]
    other = x.clone()
    other[..., -1] = (other[..., -1] + 1) % vocabulary
    training = algorithm.training
    with torch.no_grad(), torch.random.fork_rng():
        before, after = (algorithm.eval().engine(algorithm.model, {}, tokens)[..., :-1, :] for tokens in (x, other))
    algorithm.train(training)
    if not torch.allclose(before, after, atol=1e-5):
        raise InputError(f"{type(algorithm.model).__name__} sees the tokens that it is to predict; use a causal language model")
