"""Every kind of task by every algorithm."""

import json

import numpy as np

from innerloop.reports.compare import Scored, scored_below
from innerloop.reports.gallery import by_kind, gallery
from innerloop.reports.jobs import Job
from innerloop.runs.evidence import Evidence
from tests.command_line import call
from tests.conftest import TINY
from tests.reports.test_report import report

TARGETS = {
    "reptile": "innerloop.algorithms.reptile.Reptile",
    "joint": "innerloop.algorithms.joint.Joint",
    "maml": "innerloop.algorithms.maml.MAML",
}


def scored(algo, task, mean, seed=0):
    """A finished run of 50 test episodes whose scores spread by 0.01."""
    scores = mean + 0.01 * np.random.default_rng(seed).standard_normal((50, 1))
    settings = {"algo._target_": TARGETS[algo], "task._target_": task, "seed": seed}
    results = {"algo": algo, "task": task, "metric": "accuracy", "lower_is_better": False, "ways": 5, "shots": 1, "seed": seed}
    results |= {"baseline": algo == "joint", "commit": "1a7535c", "versions": {}}
    job = Job(f"{algo}-{task}-{seed}", settings, results, "", set())
    return Scored(
        job,
        results | {"config": {"algo": {"_target_": TARGETS[algo]}}},
        Evidence([f"{task}{i}" for i in range(50)], [0], {"accuracy": scores}),
    )


def test_means_over_seeds_and_what_is_not_shown_to_beat_the_best_baseline():
    runs = [scored("maml", "texts", 0.7, seed) for seed in (0, 1)] + [scored("reptile", "texts", 0.5), scored("joint", "texts", 0.7)]
    runs += [scored("maml", "digits", 0.9), scored("joint", "digits", 0.7), scored("reptile", "digits", np.nan)]
    algorithms, (texts, digits) = by_kind(runs)
    assert algorithms == ["joint", "maml", "reptile"]
    assert texts.name == "texts, 5-way 1-shot, accuracy, %"
    assert texts.values["maml"].endswith(" †") and texts.values["reptile"].endswith(" †")
    mean = np.mean([run.evidence.measures["accuracy"] for run in runs[:2]])
    assert (
        texts.values["maml"].startswith(f"{100 * mean:.2f} ± 0.")
        and "†" not in texts.values["joint"]
        and texts.unbeaten[0].startswith("algo=joint")
    )
    assert digits.values["maml"][-1] != "†" and digits.values["reptile"] == "diverged †" and digits.unbeaten is None
    assert digits.best[0] == "algo=maml"


def test_the_gallery_is_kinds_by_algorithms(tmp_path):
    """Baselines first; and a sentence for each that the best of the others does not beat."""
    params = "hydra.sweeper.params={task:'tabular,glyphs',algo:'nearest_mean,gallery/maml,protonet'}"
    small = [*TINY, "val_every=2", "task.queries=2", "test_episodes=50"]
    stdout, stderr = call("train.py", "sweep=gallery", *small, params, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert stderr == "" and "6 finished, 0 failed" in stdout
    table, sentences = gallery(scored_below(tmp_path / "sweep"))
    assert [column.header for column in table.columns] == ["", "nearest_mean", "maml", "protonet"]
    assert list(table.columns[0].cells) == ["glyphs, 5-way 1-shot, accuracy, %", "tabular, 2-way 5-shot, accuracy, %"]
    results = json.loads(next(tmp_path.rglob("protonet-tabular-*/results.json")).read_text())
    shown = list(table.columns[3].cells)[1]
    assert shown.removesuffix(" †") == f"{100 * results['value']:.2f} ± {100 * results['ci95']:.2f}" and shown.removesuffix(" †") in stdout
    assert sentences and all("nothing is shown to beat the baseline algo=nearest_mean" in sentence for sentence in sentences)
    assert all(f"Note: {sentence}" in stdout for sentence in sentences)
    page = report(tmp_path / "sweep", output=tmp_path / "report.html")
    assert (
        page.count("<h2>Differences on ") == page.count("<h3>Adaptation on unseen tasks: ") == 2
        and f'<td class="lines">{shown}</td>' in page
    )
    assert page.count("<h3>To have it again</h3>") == 2  # the best of each kind
