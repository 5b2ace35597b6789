"""innerloop: gradient-based meta-learning on PyTorch Lightning and Hydra. Start reading at episode.py.

To use what was trained:

    learner = innerloop.load("outputs/.../RUN")   # a finished run, or a folder that `save` or `innerloop export` wrote
    learner.fit("support/")                       # a folder for each class; a CSV file, a data frame, or arrays: fit(x, y)
    learner.predict("new/")                       # a label for each input
    learner.predict_proba(x)                      # how likely each class is, calibrated, in the order of learner.classes_
    learner.score(x, y)
    learner.save("mine")                          # what was fitted; innerloop.load("mine") reads it

help(innerloop.load("...")) says what each takes; docs/use_it.md has examples.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from innerloop.use.learner import Learner

__version__ = "0.2.0"
__all__ = ["load"]


def load(path: "str | Path", steps: int | None = None, trust: bool = False) -> "Learner":
    """A finished run, ready to be fitted to a task of your own; its training data need not be there.

    path: folder of the run, or of a saved learner. steps: of adaptation; None: as many as the run was scored after. trust: build also
    classes that neither innerloop nor your own project names. Raises InputError, one sentence, where that is impossible.
    """
    from innerloop.use.learner import Learner  # loads torch

    return Learner(path, steps, trust)
