"""innerloop: gradient-based meta-learning on PyTorch Lightning and Hydra. Start reading at episode.py.

To use what was trained:

    learner = innerloop.load("outputs/.../RUN")   # a finished run, or a folder that `save` or `innerloop export` wrote
    learner.fit("support/")                       # a folder for each class; a CSV file, a data frame, or arrays: fit(x, y)
    learner.predict("new/")                       # a label for each input
    learner.predict_proba(x)                      # how likely each class is, calibrated, in the order of learner.classes_
    learner.score(x, y)
    learner.save("mine")                          # what was fitted; innerloop.load("mine") reads it

    policy = innerloop.load_policy("RUN")         # of a run on environments
    policy.fit(env).act(observation)              # adapted to an environment of gymnasium

help(innerloop.load("...")) says what each takes; docs/use_it.md has examples.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from innerloop.use.learner import Learner
    from innerloop.use.policy import AdaptivePolicy

__version__ = "0.2.0"
__all__ = ["load", "load_policy"]


def load(path: "str | Path", steps: int | None = None, trust: bool = False) -> "Learner":
    """A finished run, ready to be fitted to a task of your own; its training data need not be there.

    path: folder of the run, or of a saved learner. steps: of adaptation; None: as many as the run was scored after. trust: build also
    classes that neither innerloop nor your own project names. Raises InputError, one sentence, where that is impossible.
    """
    from innerloop.use.learner import Learner  # loads torch

    return Learner(path, steps, trust)


def load_policy(path: "str | Path", steps: int | None = None, trust: bool = False) -> "AdaptivePolicy":
    """A finished run on environments, ready to adapt to one of your own. The arguments are those of `load`."""
    from innerloop.use.policy import AdaptivePolicy

    return AdaptivePolicy(path, steps, trust)
