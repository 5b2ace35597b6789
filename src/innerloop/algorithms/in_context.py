"""Learning without gradients, from what stands before."""

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.config import InputError
from innerloop.engine.forward import Engine
from innerloop.episode import Examples
from innerloop.objective import LANGUAGE, Objective


class InContext(Algorithm[Tensor]):
    """Meta-trained in-context learning (MetaICL, Min et al. 2022, arXiv 2110.15943): the support windows stand before each query in one
    sequence; the outer loop trains the model to predict the query from both. Nothing is adapted; each query reads the support set anew.
    """

    def __init__(self, model: nn.Module, objective: Objective, engine: Engine) -> None:
        super().__init__(model, objective, engine)
        if objective is not LANGUAGE:
            raise InputError("algo=in_context reads its examples as text, and this task has none; use task=grammars or task=text_folder")

    def adapt(self, support: Examples) -> Tensor:
        """The support windows one after the other, (tasks, shots * length)."""
        return support.x.flatten(1)

    def predict(self, adapted: Tensor, x: Tensor) -> Tensor:
        context = adapted[:, None, :].expand(-1, x.shape[1], -1)
        return self.engine(self.model, {}, torch.cat([context, x], -1))[:, :, adapted.shape[1] :]
