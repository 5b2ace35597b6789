"""evidence.csv: a row for each test episode and step, which episodes they were, and what is computed from it."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_f1_score, multiclass_recall

from innerloop.config import InputError
from innerloop.objective import CLASSIFICATION, REGRESSION
from innerloop.runs.build import build_run
from innerloop.runs.evidence import ids_and_targets, read_evidence, summary, time_to_target
from innerloop.runs.experiment import load_run, run
from innerloop.runs.rescore import rescore
from innerloop.training.data import EpisodeDataset
from innerloop.training.evaluation import Curve, adaptation_curve, mean_ci95
from tests.command_line import start
from tests.conftest import TINY, compose_run


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("glyphs")
    results = run(compose_run("task=glyphs", "model.filters=4", *TINY, "test_episodes=6", "eval_batch_size=4"), directory)
    return directory, results


def test_rows_are_the_episodes_after_each_step(glyphs):
    directory, results = glyphs
    with open(directory / "evidence.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["episode"]), int(row["step"])) for row in rows] == [(e, s) for e in range(6) for s in range(3)]
    measures = {"loss", "accuracy", "macro_f1", "recall", "calibration_error", "support_loss", "ms"}
    assert set(rows[0]) == {"episode", "id", "step"} | measures
    evidence = read_evidence(directory / "evidence.csv")
    for index, point in enumerate(results["curve"]):
        mean, ci95 = mean_ci95(torch.tensor(evidence.measures["accuracy"][:, index]))
        assert (mean, ci95) == pytest.approx((point["value"], point["ci95"]), rel=1e-5)
    assert np.allclose(evidence.measures["recall"], evidence.measures["accuracy"])  # all classes have as many queries
    assert (np.diff(evidence.measures["ms"]) > 0).all()
    assert evidence.measures["support_loss"][:, 2].mean() < evidence.measures["support_loss"][:, 0].mean()  # it fits what it adapts to


def test_measures_are_those_of_torchmetrics_for_each_episode():
    generator = torch.Generator().manual_seed(0)
    predictions, y = 3 * torch.randn(20, 30, 5, generator=generator), torch.randint(5, (20, 30), generator=generator)
    expected = {
        "macro_f1": lambda p, t: multiclass_f1_score(p, t, 5, average="macro"),
        "recall": lambda p, t: multiclass_recall(p, t, 5, average="macro"),
        "calibration_error": lambda p, t: multiclass_calibration_error(p.softmax(-1), t, 5, n_bins=15),
    }
    assert expected.keys() == CLASSIFICATION.more.keys()
    for name, measure in CLASSIFICATION.more.items():
        each = torch.stack([expected[name](p, t) for p, t in zip(predictions, y, strict=True)])
        torch.testing.assert_close(measure(predictions, y), each)


def test_ids_name_what_is_in_an_episode():
    def ids(*overrides, key=(2, 0), count=5):
        tasks = build_run(compose_run(*overrides)).data.tasks
        return ids_and_targets(EpisodeDataset(tasks.distribution("test"), count, key), count, at_once=2)[0]

    first = ids()
    assert len(set(first)) == 5 and first[:3] == ids(count=3)
    for other in (ids(key=(2, 1)), ids("task.phase=[0,6]"), ids("task=linear")):
        assert not set(first) & set(other)
    assert not set(ids("task=glyphs")) & set(ids("task=glyphs", "task.shots=2"))


def test_every_algorithm_and_seed_is_scored_on_the_same_episodes(glyphs, tmp_path):
    directory, results = glyphs
    other = run(compose_run("task=glyphs", "model.filters=4", "algo=protonet", "seed=3", *TINY, "test_episodes=6"), tmp_path)
    assert other["episodes_checksum"] == results["episodes_checksum"]
    assert read_evidence(tmp_path / "evidence.csv").ids == read_evidence(directory / "evidence.csv").ids
    again, path = rescore(directory, ["task.shots=2"])
    assert again["episodes_checksum"] != results["episodes_checksum"]
    assert read_evidence(path.with_suffix(".csv")).ids != read_evidence(directory / "evidence.csv").ids


def test_summary_of_a_curve():
    scores = torch.arange(40.0).unsqueeze(1) / 40 + torch.tensor([0.0, 1.0, 1.5])
    curve = Curve([0, 1, 2], {"accuracy": scores})
    mean = scores.mean(0)
    assert summary(curve, "accuracy", False) == pytest.approx({
        "auc": (mean[0] / 2 + mean[1] + mean[2] / 2).item() / 2, "worst5": scores[:2, 2].mean().item(),
    })  # fmt: skip
    assert summary(curve, "accuracy", True)["worst5"] == pytest.approx(scores[-2:, 2].mean().item())
    assert summary(Curve([0, 1, 3], curve.measures), "accuracy", False)["auc"] is None  # three points are no curve over three steps
    diverged = Curve([0], {"mse": torch.tensor([[1.0], [float("inf")]])})
    assert summary(diverged, "mse", True) == {"auc": None, "worst5": None}
    partly = Curve([0], {"accuracy": torch.tensor([[0.2], [0.4], [math.nan], [0.6]])})
    assert summary(partly, "accuracy", False)["worst5"] is None  # not the worst of what is left


def test_time_to_target_is_that_of_the_mean_curve():
    measures = {"accuracy": torch.tensor([[0.2, 0.5, 0.9], [0.4, 0.7, 0.7]]), "ms": torch.tensor([[0.0, 3.0, 6.0], [0.0, 5.0, 10.0]])}
    curve = Curve([0, 1, 5], measures)
    reached = {target: time_to_target(curve, CLASSIFICATION, target, {"examples": 25}) for target in (0.29, 0.59, 0.79, 0.81)}
    assert [reached[target]["steps"] for target in reached] == [0, 1, 5, None]
    assert reached[0.59] == {"target": 0.59, "steps": 1, "examples": 25, "ms": 4.0}
    falling = Curve([0, 1], {"mse": torch.tensor([[3.0, 1.0]]), "ms": torch.zeros(1, 2)})
    assert time_to_target(falling, REGRESSION, 2.0, {"examples": 10})["steps"] == 1


def test_a_run_says_when_it_reaches_its_target(tmp_path):
    results = run(compose_run(*TINY, "target=1e9"), tmp_path)
    assert results["time_to_target"] | {"ms": 0} == {"target": 1e9, "steps": 0, "examples": 10, "ms": 0}


def test_damaged_evidence_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\); `innerloop eval .*` scores the run again"):
        read_evidence(tmp_path / "evidence.csv")
    for content in ("", "episode,id,step,loss\n0,a,0,x\n", "episode,id,step,loss\n0,a,0,1\n0,a,1,2\n1,b,0,3\n"):
        (tmp_path / "evidence.csv").write_text(content)
        with pytest.raises(InputError, match="cannot be read"):
            read_evidence(tmp_path / "evidence.csv")


def test_debugging_writes_what_it_scored(tmp_path):
    """trainer=debug takes three batches of each split."""
    results = run(compose_run("trainer=debug"), tmp_path)
    assert results["episodes"] == 75 == len(read_evidence(tmp_path / "evidence.csv").ids)


@pytest.mark.slow
def test_two_devices_write_the_episodes_in_their_order(tmp_path):
    common = [*TINY, "meta_batch_size=4", "test_episodes=7", "trainer=ddp", "trainer.accelerator=cpu"]
    for devices in (1, 2):
        start("train.py", *common, f"trainer.devices={devices}", f"hydra.run.dir={tmp_path / str(devices)}")
    one, two = (read_evidence(tmp_path / name / "evidence.csv") for name in "12")
    assert one.ids == two.ids
    assert np.allclose(one.measures["mse"], two.measures["mse"], rtol=1e-4)
    checksums = {json.loads((tmp_path / name / "results.json").read_text())["episodes_checksum"] for name in "12"}
    assert len(checksums) == 1


def test_selection_by_the_adaptation_curve(tmp_path):
    """val/loss, which checkpoints and sweeps go by, is then the area under the loss curve; test results are the same."""
    by_curve = run(compose_run(*TINY, "select_by=curve"), tmp_path / "curve")
    by_last = run(compose_run(*TINY), tmp_path / "last")
    built = load_run(tmp_path / "curve")
    curve = adaptation_curve(built.learner.algorithm, built.data.val_episodes.meta_batch(range(2)), [0, 1, 2], True)
    losses = curve.measures["loss"].mean(0).tolist()
    assert by_curve["val_loss"] == pytest.approx((losses[0] / 2 + losses[1] + losses[2] / 2) / 2, rel=1e-5)
    assert by_last["val_loss"] == pytest.approx(losses[2], rel=1e-5)
    assert by_curve["curve"] == by_last["curve"]
    with pytest.raises(InputError, match="select_by must be one of last, curve, got 'auc'"):
        run(compose_run(*TINY, "select_by=auc"), tmp_path / "wrong")
