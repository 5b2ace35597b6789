"""MAML that learns its inner loss."""

from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms.maml import MAML
from innerloop.config import InputError, check_count
from innerloop.engine.forward import Engine, Weights
from innerloop.episode import Examples
from innerloop.objective import CLASSIFICATION, LANGUAGE, Objective


class LearnedLoss(MAML):
    """MAML whose inner loop descends a learned loss beside the task's own (after ML3, Bechtle et al. 2021, arXiv 1906.05374).

    support loss + mean over examples of l(prediction, target, support loss), where l is a network of two hidden layers of `width`, shared
    by all tasks and trained by the outer loop. Its last layer starts at zero, so that the first steps are MAML's.
    """

    of_each_row = True
    acts = False

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, outputs: int, width: int, inner_lr: float, adaptation_steps: int,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine, inner_lr, adaptation_steps, **options)
        check_count("algo.width", width)
        if objective is LANGUAGE:
            raise InputError("algo=learned_loss reads predictions and targets of a few numbers, not of a vocabulary; use algo=maml")
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias).requires_grad_(False)  # a constant has no gradient
        self.outputs = outputs
        self.loss = nn.Sequential(nn.Linear(2 * outputs + 1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), last)

    def support_loss(self, weights: Weights, support: Examples) -> Tensor:
        predictions = self.predict_at_hand(weights, support.x)
        own = self.objective.loss(predictions, support.y)
        y = support.y
        if self.objective is CLASSIFICATION:
            y = (y.unsqueeze(-1) == torch.arange(self.outputs, device=y.device)).to(predictions.dtype)
        known = torch.cat([predictions, y, own[:, None, None].expand(*y.shape[:2], 1)], -1)
        return own + self.loss(known).mean((1, 2))
