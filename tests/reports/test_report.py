"""The report stands by itself, shows what the runs found, and can be read in a browser, narrow and wide."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from innerloop.config import InputError
from innerloop.reports import figures
from innerloop.reports.charts import adaptation_chart, calibration_chart, class_chart, difference_chart, group_of, heat_maps
from innerloop.reports.compare import Scored
from innerloop.reports.inspection import predictions_after
from innerloop.reports.jobs import Job
from innerloop.reports.report import for_people, write_report
from innerloop.reports.table import number
from innerloop.reports.verdicts import Contender, compare_contenders
from innerloop.runs.answers import Answers, read_answers
from innerloop.runs.evidence import Evidence, read_evidence
from innerloop.runs.experiment import load_run, run
from innerloop.runs.folder import read_results
from innerloop.sweeps.job import hint_of
from tests.command_line import call
from tests.conftest import TINY, compose_run

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
GLYPHS = ("task=glyphs", "task.queries=3", "model.filters=4", "engine=vmap")


def report(*paths, output):
    stdout, stderr = call("-m", "innerloop", "report", *map(str, paths), f"--output={output}")
    assert stderr == "" and f"report: {output}" in stdout
    return output.read_text()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Of one run on images, of a sweep of functions over two numbers and seeds, and of algorithms side by side."""
    root = tmp_path_factory.mktemp("reported")
    call("train.py", *TINY, *GLYPHS, f"hydra.run.dir={root / 'glyphs'}")
    numbers = ("algo=metasgd", "algo.inner_lr=0.01,0.05", "algo.adaptation_steps=1,2", "seed=0,1")
    call("train.py", "-m", *TINY, *numbers, f"hydra.sweep.dir={root / 'numbers'}")
    call("train.py", "-m", *TINY, "algo=joint,maml,sinusoid_oracle", f"hydra.sweep.dir={root / 'algos'}")
    return {name: report(root / name, output=root / f"{name}.html") for name in ("glyphs", "numbers", "algos")}, root


def test_one_run(pages):
    page, root = pages[0]["glyphs"], pages[1]
    results = json.loads((root / "glyphs" / "results.json").read_text())
    assert f"accuracy {100 * results['value']:.2f} ± {100 * results['ci95']:.2f} %" in page and html.escape(results["command"]) in page
    assert results["commit"] is None or results["commit"] in page
    episodes = [f"The {which} test episode" for which in ("worst", "median", "best")]
    for heading in ("Adaptation on unseen tasks", "Training", *episodes, "Accuracy by class", "Calibration", "Scores"):
        assert f"<h3>{heading}</h3>" in page
    assert page.count("<image") == 3 * 5 * (1 + 3)  # support and queries of five ways
    assert ">chance</text>" in page and "accuracy, %" in page
    assert "CYRILLIC" in page and "GEORGIAN" in page  # the scripts of the test split
    assert '<td><code>outer_steps</code></td><td class="any">2</td><td class="any">5000</td>' in page


def test_the_answers_are_those_that_the_run_gives(pages):
    """Written down at the test, of all episodes: their accuracy is the run's own, and their classes are those of the queries."""
    path = pages[1] / "glyphs"
    built, answers = load_run(path), read_answers(path / "answers.npz")
    results, evidence = json.loads((path / "results.json").read_text()), read_evidence(path / "evidence.csv")
    episodes = built.data.test_episodes.meta_batch(range(4))
    found = predictions_after(built, episodes, {0, 2})
    assert np.array_equal(answers.last, found[2].argmax(-1)) and np.array_equal(answers.first, found[0].argmax(-1))
    assert np.array_equal(answers.truth, episodes.query.y)
    right = (answers.last == answers.truth).mean(1)
    assert right.mean() == pytest.approx(results["value"], abs=1e-6)
    np.testing.assert_allclose(right, evidence.measures["accuracy"][:, -1], atol=1e-6)
    for row, ways in zip(answers.classes, answers.truth, strict=True):  # a class for each way, and no other
        assert len({*zip(row, ways, strict=True)}) == 5 == len({*row})
    chart = class_chart(answers)
    asked = [int(queries) for _, _, queries in chart.rows]
    assert sum(asked) == answers.truth.size
    mean = sum(float(accuracy) * count for (_, accuracy, _), count in zip(chart.rows, asked, strict=True)) / sum(asked)
    assert mean == pytest.approx(100 * results["value"], abs=0.05)
    assert group_of("Keble/character01/rot090") == "Keble" and group_of("LATIN SMALL LETTER A") == "LATIN"


def test_calibration_is_of_all_answers(pages):
    chart = calibration_chart(read_answers(pages[1] / "glyphs" / "answers.npz"))
    assert sum(int(count) for _, _, count in chart.rows) == 4 * 5 * 3
    sure = Answers(np.zeros((1, 4)), *[np.array([[0, 0, 0, 1]])] * 2, np.array([[0.95, 0.95, 0.35, np.nan]]), np.zeros((1, 4)), [])
    assert calibration_chart(sure).rows == [["35.0", "100.0", "1"], ["95.0", "100.0", "2"]]


def test_where_inputs_have_no_picture_the_answers_are_told(pages, tmp_path):
    call("train.py", *TINY, "task=tabular", f"hydra.run.dir={tmp_path / 'run'}")
    page = report(tmp_path / "run", output=tmp_path / "page.html")
    assert page.count("<th>taken for</th>") == 3 and "queries right." in page


def test_a_sweep(pages):
    page = pages[0]["numbers"]
    assert page.count("<h3>Sweep</h3>") == 1 and "Learned inner learning rates" in page
    assert "mean ± std over seeds" in page and "<td>0, 1</td>" in page
    assert "Validation during training" in page and "Validation by time" in page and "Spread over test episodes" in page
    assert "metasgd, inner_lr 0.01" not in page and "inner_lr 0.01, adaptation_steps 1" in page  # what they have in common is not said


def test_algorithms_beside_the_first_that_is_no_baseline(pages):
    page = pages[0]["algos"]
    assert "Beside maml" in page and "Differences from maml" in page and "algo=joint" not in page.partition("<code>")[0]
    assert "baseline sinusoid_oracle" not in page
    assert page.count("<h3>Unseen functions</h3>") == 3
    forest = page.partition("<h3>Differences from maml</h3>")[2].partition("</section>")[0]
    assert "<td>joint</td>" in forest and "<td>sinusoid_oracle</td>" in forest and "diverged" not in forest


def group(*means, metric="mse"):
    """A run with scores around these means, after 0, 1, ... steps."""
    scores = np.random.default_rng(0).normal(means, 0.01, (50, len(means)))
    results = {"metric": metric, "algo": "x", "baseline": False, "seed": 0, "lower_is_better": metric == "mse"}
    return {0: Scored(Job("x", {}, None, "", set()), results, Evidence([], [*range(len(means))], {metric: scores}))}


def test_differences_leave_out_what_diverged_and_nothing_else():
    """A baseline that is twenty times worse than a good learner has not diverged: it ends where all begin."""
    groups = {"maml": group(4.0, 0.2), "scratch": group(4.0, 4.1), "wild": group(4.0, 1e9)}
    contenders = [Contender(name, "x", False, [0], of[0].evidence.measures["mse"][None, :, -1], 1, "mse") for name, of in groups.items()]
    chart = difference_chart(compare_contenders(contenders[0], contenders[1:], lower_is_better=True), groups)
    assert [row[0] for row in chart.rows] == ["scratch"] and chart.note.endswith("Not drawn, since diverged: wild.")
    beside_nan = compare_contenders(contenders[0]._replace(scores=contenders[0].scores * np.nan), contenders[1:2], lower_is_better=True)
    assert difference_chart(beside_nan, groups) is None  # and not a difference of 0


def test_what_rises_far_has_not_diverged():
    """AP50, or an accuracy of many ways, begins near 0."""
    groups = {"maml": group(0.01, 0.9, metric="ap50"), "joint": group(0.01, 0.02, metric="ap50")}
    contenders = [Contender(name, "x", False, [0], of[0].evidence.measures["ap50"][None, :, -1], 1, "ap50") for name, of in groups.items()]
    assert "diverged" not in adaptation_chart(groups).svg
    chart = difference_chart(compare_contenders(contenders[1], contenders[:1], lower_is_better=False), groups)
    assert [row[0] for row in chart.rows] == ["maml"] and "diverged" not in chart.note


def test_a_run_of_two_test_episodes(tmp_path):
    call("train.py", *TINY, "test_episodes=2", f"hydra.run.dir={tmp_path / 'run'}")
    assert "Unseen functions" in report(tmp_path / "run", output=tmp_path / "report.html")


def test_it_stands_by_itself_and_is_the_same_again(pages, tmp_path):
    for page in pages[0].values():
        links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)|url\(([^)]+)\)""", page)
        assert all(link.startswith(("#", "data:")) for pair in links for link in pair if link) and "<script" not in page
    assert report(pages[1] / "algos", output=tmp_path / "again.html") == pages[0]["algos"]


def test_what_cannot_be_reported(pages, tmp_path):
    root = pages[1]
    stdout, stderr = call("-m", "innerloop", "report", str(tmp_path), code=1)
    assert stderr.startswith("Error: there is no run below ") and stderr.count("\n") == 1
    mixed = report(root / "glyphs", root / "algos", output=tmp_path / "mixed.html")
    assert "<h2>Differences on sinusoid, 10-shot, mse</h2>" in mixed and "<h2>Differences on glyphs" not in mixed
    call("-m", "innerloop", "eval", str(root / "glyphs"), "task.shots=2")
    evaluation = report(*(root / "glyphs" / "evaluations").glob("*.json"), output=tmp_path / "evaluation.html")
    assert "No pictures of episodes: " in evaluation
    for curve in (None, [], [{"step": 0}]):
        damaged = json.loads((root / "glyphs" / "results.json").read_text()) | {"curve": curve}
        (tmp_path / "results.json").write_text(json.dumps(damaged))
        with pytest.raises(InputError, match="results.json is damaged"):
            read_results(tmp_path / "results.json")


def test_heat_maps_leave_out_what_diverged_and_name_the_rest():
    def job(rate, steps, outer, value):
        settings = {"algo.inner_lr": rate, "algo.adaptation_steps": steps, "optimizer.lr": outer}
        return Job("x", settings, {"metric": "mse", "value": value, "lower_is_better": True}, "", set(settings))

    found = heat_maps([job(r, s, o, None if o == 0.5 or r == s == 1 else r + s) for r in (1, 2) for s in (1, 2) for o in (0.001, 0.5)])
    assert [chart.title for chart in found] == ["Sweep: optimizer.lr=0.001"]
    assert ">4</text>" in found[0].svg and ">–</text>" in found[0].svg
    assert heat_maps([job(1, 1, 1.0, 2.0), job(2, 2, 2.0, 2.0)]) == []  # single cells are no maps


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", ["glyphs", "numbers", "algos"])
def test_in_a_browser(pages, tmp_path, name, width):
    """No errors, nothing wider than the window, no empty picture."""
    measure = """
      const page = document.querySelector('iframe').contentDocument, seen = page.documentElement
      const shapes = [...page.querySelectorAll('section > svg')].map(svg => svg.getBoundingClientRect())
      document.body.setAttribute('data-found', JSON.stringify({width: seen.scrollWidth, charts: shapes.length,
        widest: Math.max(...shapes.map(s => s.width)), smallest: Math.min(...shapes.map(s => Math.min(s.width, s.height)))}))"""
    frame = f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{html.escape(pages[0][name])}"></iframe>'
    path = tmp_path / "frame.html"
    path.write_text(f"<!doctype html><body>{frame}<script>onload = () => {{ {measure} }}</script></body>")
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    done = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr
    found = json.loads(html.unescape(re.search(r'data-found="([^"]+)"', done.stdout)[1]))
    assert found["width"] <= width and found["charts"] >= 3 and found["widest"] <= width and found["smallest"] > 50


def test_names_that_are_no_names_are_shown_as_they_are(tmp_path):
    """Formulas, colours and control characters in the names of classes."""
    names = [r"x $\frac$ y", "price $5 or $6", "#0f0e0d", "bell\x07", "<b>", "fill"]
    of = {name: (value, value - 5, value + 5) for name, value in zip(names, np.linspace(20, 70, 6), strict=True)}
    drawn = figures.bars("classes", "accuracy, %", of, 50)
    assert all(html.escape(name, quote=False) in drawn for name in names)
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 12, 12), dtype=np.uint8)
    np.savez(tmp_path / "odd.npz", images=images, class_names=names, split=["train"] * 2 + ["val"] * 2 + ["test"] * 2)
    task = ["task=images", f"task.root={tmp_path / 'odd.npz'}", "task.size=12", "task.ways=2", "task.shots=1", "task.queries=2"]
    run(compose_run(*TINY, *task, "model.filters=4", "model.pool=stride"), tmp_path / "run")
    write_report([tmp_path / "run"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;" in page and "\x07" not in page


def test_what_diverged_leaves_the_others_to_be_seen():
    """The axis is theirs, and the legend says which one left it."""
    steps = [0, 1, 2]
    of = {
        "good": (steps, [4.0, 1.0, 0.5], [0.1] * 3),
        "exploded": (steps, [4.0, 1e9, 1e16], [1e9] * 3),
        "nan": (steps, [4.0, np.nan, np.nan], None),
    }
    drawn = figures.lines("title", "steps", "mse", of)
    assert "exploded (diverged)" in drawn and "nan (diverged)" in drawn and "good (diverged)" not in drawn
    assert "1e16" not in drawn and not re.search(r">1e\d", drawn)


def test_names_for_people():
    assert for_people("algo=maml algo.inner_lr=0.01") == "maml, inner_lr 0.01"
    assert for_people("task.phase=[0, 6] after 10 steps") == "phase [0, 6] after 10 steps" and for_people("runs/old") == "runs/old"


def test_numbers_that_exploded_are_short():
    assert [number(value) for value in (None, 0.12345, -99999.0, 5.7055e26)] == ["", "0.1235", "-99999.0000", "5.7e+26"]


@pytest.mark.parametrize(
    "trained, curve, hint",
    [
        (
            1,
            [(0, 4.0), (10, None)],
            "it was trained for 1 inner step and scored after 10, by when it has diverged; lower algo.inner_lr, or set eval_",
        ),
        (5, [(0, 4.0), (10, 1e9)], "trained for 5 inner steps and scored after 10, .*eval_adaptation_steps=5"),
        (10, [(0, 4.0), (10, None)], "it diverges within the adaptation steps; lower algo.inner_lr"),
        (1, [(0, 4.0), (10, 0.3)], None),
        (None, [(0, 4.0)], None),
    ],
)
def test_a_run_that_exploded_says_what_to_change(trained, curve, hint):
    points = [{"step": step, "value": value} for step, value in curve]
    found = hint_of({"curve": points, "lower_is_better": True, "config": {"algo": {"adaptation_steps": trained}}})
    assert found is None if hint is None else re.search(hint, found)


def test_a_rollout_is_drawn_as_a_film(tmp_path):
    call("train.py", *TINY, "task=cartpole", "task.horizon=12", "task.shots=2", "task.queries=2", f"hydra.run.dir={tmp_path / 'run'}")
    page = report(tmp_path / "run", output=tmp_path / "page.html")
    assert "A rollout on an unseen task" in page and "after 2 steps" in page
