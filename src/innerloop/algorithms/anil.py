"""Almost no inner loop."""

from innerloop.algorithms.maml import MAML


class ANIL(MAML):
    """ANIL (Raghu et al. 2020, arXiv 1909.09157): MAML that adapts the last layer only; the features are shared by all tasks.

    head <- head - inner_lr * grad_head L_support(body, head); the outer loop trains body and head through these steps.
    """

    adapted = "head.*"
