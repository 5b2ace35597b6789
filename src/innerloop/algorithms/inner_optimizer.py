"""What the inner loop steps along: the gradient, or what an optimizer makes of it."""

import torch
from torch import Tensor, nn

from innerloop.engine.forward import Weights

State = dict[str, list[Tensor]]
MOMENTUM, BETA2 = 0.9, 0.999
EPSILON = 1e-8  # under the root: the outer gradient runs through it, and the derivative of a root at 0 is infinite


class InnerOptimizer(nn.Module):
    """Turns each task's gradients into directions. Its state begins anew in each episode (but for Reptile's KeptSquares), and is part
    of the graph: the outer gradient runs through it. sgd: the gradient as it is."""

    def begin(self, weights: Weights) -> State:
        return {}

    def forward(self, gradients: Weights, state: State, at: int) -> tuple[Weights, State]:
        """Of step number `at` (0, 1, ...): the directions, and the state after it."""
        return gradients, state


class Momentum(InnerOptimizer):
    """velocity <- 0.9 velocity + gradient."""

    def begin(self, weights: Weights) -> State:
        return {name: [torch.zeros_like(weight)] for name, weight in weights.items()}

    def forward(self, gradients: Weights, state: State, at: int) -> tuple[Weights, State]:
        velocity = {name: MOMENTUM * state[name][0] + gradient for name, gradient in gradients.items()}
        return velocity, {name: [v] for name, v in velocity.items()}


class Adam(InnerOptimizer):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980): mean / sqrt(mean square + epsilon), both corrected for their beginning. beta1=0 is
    RMSprop with that correction, and Reptile's Adam."""

    def __init__(self, beta1: float = MOMENTUM, epsilon: float = EPSILON) -> None:
        super().__init__()
        self.beta1, self.epsilon = beta1, epsilon

    def begin(self, weights: Weights) -> State:
        return {name: [torch.zeros_like(weight), torch.zeros_like(weight)] for name, weight in weights.items()}

    def forward(self, gradients: Weights, state: State, at: int) -> tuple[Weights, State]:
        directions, after = {}, {}
        for name, gradient in gradients.items():
            mean, square = state[name]
            square = torch.addcmul(BETA2 * square, gradient, gradient, value=1 - BETA2)
            if self.beta1:
                mean = torch.lerp(gradient, mean, self.beta1)
            after[name] = [mean, square]
            corrected = mean / (1 - self.beta1 ** (at + 1)) if self.beta1 else gradient
            directions[name] = self.direction(gradient, corrected, square / self.weight(at), at)
        return directions, after

    def weight(self, at: int) -> float | Tensor:
        """How much of a mean square is seen gradients after step `at`; the rest is the zero that it began at."""
        return 1.0 - BETA2 ** (at + 1)

    def direction(self, gradient: Tensor, mean: Tensor, square: Tensor, at: int) -> Tensor:
        return mean / (square + self.epsilon).sqrt()


class LearnedOptimizer(Adam):
    """A small network, the same for every weight, says what to add to the gradient (after Andrychowicz et al. 2016, arXiv 1606.04474).

    direction = gradient + size * network(gradient / size, mean / size, log size, step), where size is Adam's root of the mean square. The
    network's last layer starts at zero: the first steps are those of sgd.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), last)

    def direction(self, gradient: Tensor, mean: Tensor, square: Tensor, at: int) -> Tensor:
        size = (square + self.epsilon).sqrt()
        known = [gradient / size, mean / size, size.log() / 10, torch.full_like(size, at / (at + 1))]
        return gradient + size * self.network(torch.stack(known, -1)).squeeze(-1)


FIXED: tuple[str, ...] = ("sgd", "momentum", "adam", "rmsprop")
LEARNED = (*FIXED, "learned")


def inner_optimizer_of(name: str) -> InnerOptimizer:
    """One of LEARNED."""
    if name == "rmsprop":
        return Adam(beta1=0.0)
    made: dict[str, type[InnerOptimizer]] = {"sgd": InnerOptimizer, "momentum": Momentum, "adam": Adam, "learned": LearnedOptimizer}
    return made[name]()
