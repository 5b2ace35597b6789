"""Inference on frozen features from all queries together."""

from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms.centroid import Centroid
from innerloop.config import InputError, check_choice
from innerloop.engine.forward import Engine
from innerloop.episode import Episode, Examples
from innerloop.objective import Objective

Known = tuple[Tensor, Tensor]  # embedded support examples (tasks, n, d) of length 1, and of which class each is (tasks, n, ways), 0 or 1


class Transductive(Centroid):
    """Centroid's features, centred by the training examples' mean and scaled to length 1 (SimpleShot, Wang et al. 2019, arXiv 1911.04623),
    then one of these, which all but the first look at all queries of an episode:

    simpleshot: nearest class mean. bd_cspn: class means of examples and of queries that are surely of the class (Liu et al. 2020, arXiv
    1911.10713). laplacian_shot: near queries get near answers (Ziko et al. 2020, arXiv 2006.15486). pt_map: optimal transport of queries
    to class means (Hu et al. 2021, arXiv 2006.03806). tim: class vectors that make answers sure one by one and even in all (Boudiaf et
    al. 2020, arXiv 2008.11297). alpha_tim: tim with entropies that allow uneven answers (Veilleux et al. 2021, arXiv 2204.11181).

    bd_cspn, pt_map and tim use that a test set has as many queries of each class: look at task.balanced=false too. The scores are
    transductive, with or without batch norm; transductive=false asks one query at a time. Steps and strengths are constants at the top of
    each function.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, ways: int, train_ways: int, train_classes: int | None, method: str
    ) -> None:
        check_choice("algo.method", method, tuple(METHODS))
        super().__init__(model, objective, engine, ways, train_ways, train_classes)
        self.method, self.answers_jointly = method, method != "simpleshot"  # type: ignore[misc]
        self.centre = nn.Parameter(torch.zeros(self.classifier.in_features))

    def embed(self, x: Tensor) -> Tensor:
        found = self.features(x)
        if self.method == "pt_map":  # its power transform, for features of either sign
            return nn.functional.normalize(found.sign() * (found.abs() + 1e-6).sqrt(), dim=-1)
        return nn.functional.normalize(found - self.centre, dim=-1)

    def adapt(self, support: Examples) -> Known:  # type: ignore[override]
        return self.embed(support.x), self.members(support.y, self.centre)

    def predict(self, adapted: Known, x: Tensor) -> Tensor:  # type: ignore[override]
        return METHODS[self.method](*adapted, self.embed(x))

    def network(self, adapted: Any) -> nn.Sequential:
        raise InputError("algo=transductive answers a whole test set, and has no network of its own after adaptation; use algo=centroid")

    def forward(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        """Centroid's; the outer loop finds the mean of the training features too, as what is nearest to them in squares."""
        (support_x, support_y), (query_x, query_y) = episodes
        found = self.features(torch.cat([support_x, query_x], 1))
        predictions = self.classifier(found)
        distance = (found.detach() - self.centre).square().sum(-1).mean(-1) / 2
        loss = self.objective.loss(predictions, torch.cat([support_y, query_y], 1))
        return loss + distance, predictions[:, support_x.shape[1] :]


def means(members: Tensor, features: Tensor) -> Tensor:
    """Of each class (tasks, ways, d), each example counted as much as `members` (tasks, n, ways) says."""
    return (members / members.sum(1, keepdim=True)).mT @ features


def squares(features: Tensor, centres: Tensor) -> Tensor:
    """Squared distances (tasks, n, ways)."""
    return features.square().sum(-1, keepdim=True) - 2 * features @ centres.mT + centres.square().sum(-1).unsqueeze(1)


def simpleshot(support: Tensor, members: Tensor, query: Tensor) -> Tensor:
    return -10 * squares(query, means(members, support))


def bd_cspn(support: Tensor, members: Tensor, query: Tensor) -> Tensor:
    temperature, unit = 10.0, nn.functional.normalize
    query = unit(query + support.mean(1, keepdim=True) - query.mean(1, keepdim=True), dim=-1)  # both sets around one mean
    centres, known = unit(means(members, support), dim=-1), torch.cat([support, query], 1)
    pseudo = (query @ centres.mT).argmax(-1, keepdim=True) == torch.arange(members.shape[-1], device=query.device)
    weights = torch.cat([members, pseudo.to(members.dtype)], 1) * (temperature * known @ centres.mT).exp()
    return temperature * query @ unit(means(weights, known), dim=-1).mT


def laplacian_shot(support: Tensor, members: Tensor, query: Tensor) -> Tensor:
    steps, strength, neighbours = 20, 1.0, min(3, query.shape[1] - 1)
    cost, distances = squares(query, means(members, support)), squares(query, query)
    distances = distances + torch.diag_embed(torch.full_like(distances[..., 0], torch.inf))  # nobody is its own neighbour
    near = torch.zeros_like(distances).scatter(-1, distances.topk(neighbours, largest=False).indices, 1.0) if neighbours else 0 * distances
    near = torch.where(distances.isinf(), 0.0, near)
    logits = -cost
    for _ in range(steps):
        logits = strength * near @ logits.softmax(-1) - cost
    return logits


def pt_map(support: Tensor, members: Tensor, query: Tensor) -> Tensor:
    steps, rate, sharpness, rounds = 20, 0.2, 10.0, 50
    everything = torch.cat([support, query], 1)
    everything = nn.functional.normalize(everything - everything.mean(1, keepdim=True), dim=-1)
    support, query = everything[:, : support.shape[1]], everything[:, support.shape[1] :]
    centres = means(members, support)

    def plan() -> Tensor:
        """Of which class each query is: rows sum to 1, columns to the same number."""
        logs = -sharpness * squares(query, centres)
        for _ in range(rounds):
            logs = logs - logs.logsumexp(1, keepdim=True)
            logs = logs - logs.logsumexp(2, keepdim=True)
        return logs

    for _ in range(steps):
        found = means(torch.cat([members, plan().exp()], 1), everything)
        centres = centres + rate * (found - centres)
    return plan()


def shannon(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum(-1)


def tsallis(p: Tensor, alpha: float = 2.0) -> Tensor:
    return (1 - p.pow(alpha).sum(-1)) / (alpha - 1)


def tim(support: Tensor, members: Tensor, query: Tensor) -> Tensor:
    return most_informative(support, members, query, shannon, 0.1, 0.1)


def alpha_tim(support: Tensor, members: Tensor, query: Tensor) -> Tensor:
    return most_informative(support, members, query, tsallis, 1.0, 1.0)


@torch.enable_grad()
def most_informative(support: Tensor, members: Tensor, query: Tensor, entropy: Any, of_support: float, of_each: float) -> Tensor:
    """Descends of_support * cross-entropy of the examples - entropy of the mean answer + of_each * mean entropy of an answer."""
    steps, temperature, rate = 200, 15.0, 1e-3
    centres = means(members, support).detach().requires_grad_()
    optimizer = torch.optim.Adam([centres], lr=rate)

    def logits(features: Tensor) -> Tensor:
        return -temperature / 2 * squares(features.detach(), centres)

    for _ in range(steps):
        answers = logits(query).softmax(-1)
        fit = -(members * logits(support).log_softmax(-1)).sum(-1).mean(-1)
        loss = of_support * fit - entropy(answers.mean(1)) + of_each * entropy(answers).mean(-1)
        (centres.grad,) = torch.autograd.grad(loss.sum(), centres)
        optimizer.step()
    return logits(query).detach()


METHODS = {method.__name__: method for method in (simpleshot, bd_cspn, laplacian_shot, pt_map, tim, alpha_tim)}
