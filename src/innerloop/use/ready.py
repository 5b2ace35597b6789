"""A run of an earlier version, made ready to be used."""

from pathlib import Path

from innerloop.config import InputError
from innerloop.runs.experiment import load_run
from innerloop.runs.folder import check_finished
from innerloop.runs.learner_file import FILE, write_learner


def make_ready(folder: Path, trust: bool) -> None:
    """Writes learner.json where a finished run has none yet: one of an earlier version, whose data are needed for it once."""
    if (folder / FILE).is_file():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is not there; name the folder of a finished run, or of a saved learner")
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder} has no {FILE}, so it is neither a finished run nor a saved learner; name one")
    check_finished(folder)
    run = load_run(folder, trust)
    write_learner(folder, run)
    if run.data.tasks.places:
        raise InputError(f"{folder} finds objects in scenes, which a learner does not do; innerloop eval and report can read it")
    if run.data.tasks.objective.look:
        raise InputError(f"{folder} holds a policy, which is not fitted by examples; use innerloop.load_policy")
    if not (folder / FILE).is_file():
        raise InputError(f"{folder} holds a language model, which is not fitted by examples and labels; see docs/large_models.md")
