"""Schedules of the outer learning rate that torch has in parts."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from innerloop.config import InputError, check_choice, check_count


def warmup(optimizer: Optimizer, warmup_steps: int, then: str, total_steps: int) -> SequentialLR:
    """Rises linearly over `warmup_steps`, and from there falls to 0 at `total_steps` along a cosine or a line, or stays (constant)."""
    check_choice("scheduler.then", then, ("cosine", "linear", "constant"))
    check_count("scheduler.warmup_steps", warmup_steps)
    if warmup_steps >= total_steps:
        raise InputError(f"scheduler.warmup_steps={warmup_steps} leaves nothing of {total_steps} outer steps; lower it")
    rest = total_steps - warmup_steps
    after: LRScheduler = ConstantLR(optimizer, factor=1.0)
    if then == "cosine":
        after = CosineAnnealingLR(optimizer, rest)
    if then == "linear":
        after = LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=rest)
    rising = LinearLR(optimizer, start_factor=1 / warmup_steps, total_iters=warmup_steps)
    return SequentialLR(optimizer, [rising, after], milestones=[warmup_steps])
