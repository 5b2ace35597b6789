"""Published numbers beside ours."""

import json
import math
import sys
from dataclasses import replace

import pytest
import yaml
from scipy.stats import t

from innerloop.config import InputError
from innerloop.reports.ledger import Cell, Row, columns, entry, markdown, read_cells, read_rows, short, told_of, unfilled, verdict
from tests.command_line import call
from tests.conftest import ROOT, TINY

CELL = Cell("Somebody 2020", "experiment=x", "quoted", 98.0, ci95=0.3, tasks=1000)
ORDER = replace(CELL, published=None, ci95=None, below="higher")
ROW = Row("cell", CELL, [97.9, 98.1, 98.0], [0.2, 0.2, 0.2], False, 1000, 2.0, 600, "a machine", ["abcdefg"])


def test_intervals_are_over_seeds_and_episodes():
    assert ROW.ci95 == pytest.approx(math.hypot(0.2, t.ppf(0.975, 2) * 0.1 / math.sqrt(3)))
    assert replace(ROW, values=[97.9], intervals=[0.2]).ci95 == 0.2
    assert replace(CELL, ci95=None, answers=10_000).interval == pytest.approx(196 * math.sqrt(0.98 * 0.02 / 10_000))
    assert replace(CELL, ci95=None).interval == 0


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ROW, "reproduced"),
        (replace(ROW, cell=replace(CELL, ours=True)), "reached"),
        (replace(ROW, tasks=999), "reached"),
        (replace(ROW, values=[96.0, 96.1, 95.9]), "open"),
        (replace(ROW, values=[99.0, 99.1, 98.9]), "above"),
        (replace(ROW, values=[96.0, 96.1, 95.9], cell=replace(CELL, explained_by="other")), "explained"),
        (replace(ROW, values=[96.0, 96.1, 95.9], cell=replace(CELL, explained_by="small")), "open"),
        (replace(ROW, values=[0.2, 0.2], intervals=[0.01], lower_is_better=True, cell=replace(CELL, published=0.4, ci95=0.0)), "above"),
        (replace(ROW, values=[0.2, 0.2], intervals=[0.01], lower_is_better=True, cell=replace(CELL, published=0.1, ci95=0.0)), "open"),
        (replace(ROW, cell=replace(ORDER, below="other")), "reproduced"),
        (replace(ROW, values=[98.2, 98.4], cell=replace(ORDER, below="other")), "open"),
        (replace(ROW, values=[98.8, 99.0], cell=replace(ORDER, below="other")), "open"),
        (replace(ROW, tasks=999, cell=replace(ORDER, below="other")), "reached"),
        (replace(ROW, cell=replace(ORDER, below="not run")), ""),
        (replace(ROW, cell=replace(ORDER, below=None)), ""),
    ],
)  # fmt: skip
def test_verdicts(row, expected):
    others = {"other": replace(ROW, values=[98.5]), "small": replace(ROW, values=[96.5]), "not run": None}
    assert verdict(row, others) == expected


def write(folder, cells, entries):
    folder.mkdir()
    (folder / "cells.yaml").write_text(yaml.safe_dump(cells))
    for name, content in entries.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))


def results(value, seed=0):
    kept = dict.fromkeys(("episodes_checksum", "transductive", "algo", "task", "ways", "shots", "queries", "versions"))
    curve = [{"step": step, "value": value + step / 100, "ci95": 0.01} for step in (0, 1, 5)]
    config = {"meta_batch_size": 4, "trainer": {}}
    about = {
        "metric": "accuracy",
        "lower_is_better": False,
        "episodes": 600,
        "train_seconds": 60.0,
        "eval_seconds": 30.0,
        "commit": "a" * 40,
    }
    return kept | about | {"outer_steps": 100, "hardware": "a processor, 2 cores", "seed": seed, "curve": curve, "config": config}


def test_rows_are_what_the_files_say(tmp_path):
    cells = {"first": {"article": "X", "published": 91, "run": "r", "source": "code", "step": 1}, "later": dict(CELL.__dict__)}
    files = {f"first/seed{seed}.json": entry(results(0.9, seed), "python train.py r") for seed in (0, 1)}
    write(tmp_path / "ledger", cells, files)
    rows = read_rows(tmp_path / "ledger")
    assert unfilled(rows) == ["later"]
    row = rows["first"]
    assert row.values == pytest.approx([91, 91]) and row.intervals == pytest.approx([1, 1])  # in percent, at the step of the cell
    assert (row.tasks, row.minutes, row.machine, row.commits) == (400, 1.5, "a processor", ["aaaaaaa"])
    assert "config" not in json.dumps(files) and columns(row, rows)[7] == "reproduced"
    assert markdown(rows, ["cell", "ours"]).splitlines()[2].startswith("| first | 91.00 ± ")
    out, _ = call("-m", "innerloop", "ledger", tmp_path / "ledger")
    assert "reproduced" in out and "not run yet: later" in out


def test_a_report_names_the_rows_that_its_run_belongs_to(tmp_path):
    """Whatever the seed and the machine; not where a setting differs, and not where there is no ledger."""
    settings = [*TINY, "task=sinusoid", "algo=maml"]
    about = {"article": "X 2020", "published": 0.5, "source": "code", "run": " ".join(settings)}
    cells = {"tiny": about, "wide": dict(about, evaluate="task.shots=20"), "other": dict(about, run="task=sinusoid")}
    write(tmp_path / "ledger", cells, {"tiny/seed0.json": entry(results(0.9), "python train.py r")})
    command = " ".join(["python train.py", *settings, "seed=3", "threads=1"])
    assert told_of(command, tmp_path / "ledger") == [
        "tiny: X 2020; published 0.5, in the ledger 95.00 ± 1.00, above",
        "wide: X 2020; published 0.5, not in the ledger yet (after innerloop eval RUN task.shots=20)",
    ]
    assert told_of(f"{command} algo.inner_lr=1", tmp_path / "ledger") == told_of(command, tmp_path) == []
    call("train.py", *settings, "seed=3", f"hydra.run.dir={tmp_path / 'run'}", cwd=ROOT)
    call("-m", "innerloop", "report", tmp_path / "run", cwd=tmp_path)
    assert "<dt>ledger</dt><dd>tiny: X 2020" in (tmp_path / "run" / "report.html").read_text()


def test_edited_code_does_not_pass_for_its_commit():
    assert [short(c) for c in ("a" * 40, "a" * 40 + "+changes-12345678", None)] == ["aaaaaaa", "aaaaaaa+changes", "unknown"]


def test_what_does_not_fit_is_said(tmp_path):
    with pytest.raises(InputError, match="there is no .*cells.yaml; stand in a clone"):
        read_cells(tmp_path)
    write(tmp_path / "a", {"x": {"article": "X", "publishd": 1}}, {})
    with pytest.raises(InputError, match="cells.yaml, x: .*publishd"):
        read_cells(tmp_path / "a")
    write(tmp_path / "b", {"x": {"article": "X", "published": 1, "run": "r", "source": "a friend"}}, {})
    with pytest.raises(InputError, match="source must be one of code, quoted, memory"):
        read_cells(tmp_path / "b")
    write(tmp_path / "d", {"x": dict(ORDER.__dict__, below="y")}, {})
    with pytest.raises(InputError, match="x: below names no cell, y"):
        read_cells(tmp_path / "d")
    write(tmp_path / "c", {"x": dict(CELL.__dict__, step=3)}, {"x/seed0.json": entry(results(0.9), "")})
    with pytest.raises(InputError, match="has no step 3"):
        read_rows(tmp_path / "c")


def test_pages_are_fresh(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import ledger

    for path, text in ledger.pages().items():
        assert path.read_text() == text, f"{path.name} is not what ledger/ says; run `make docs`"


def test_every_cell_composes():
    from tests.conftest import compose_run

    for name, cell in read_cells(ROOT / "ledger").items():
        assert compose_run(*cell.run.split()).outer_steps > 0 or cell.run.startswith("algo=scratch"), name


def test_a_cell_is_run_and_entered(tmp_path, monkeypatch, capsys):
    """Trained where it is not there, scored as the cell says, and not trained again."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import reproduce

    about = {"article": "X", "published": 0.5, "source": "code", "run": " ".join([*TINY, "task=sinusoid", "algo=maml"])}
    write(tmp_path / "ledger", {"tiny": about, "wide": dict(about, evaluate="task.shots=20")}, {})
    monkeypatch.setattr(reproduce, "LEDGER", tmp_path / "ledger")
    monkeypatch.setattr(reproduce, "OUTPUTS", tmp_path / "outputs")
    for cell in ("tiny", "wide"):
        monkeypatch.setattr(sys, "argv", ["reproduce.py", cell, "--seeds", "0"])
        reproduce.main()
        (trained,) = (tmp_path / "outputs").glob("*/0/results.json")  # elsewhere, from other code
        content = json.loads(trained.read_text()) | {"hardware": "a GPU, 16 cores", "commit": "b" * 40}
        trained.write_text(json.dumps(content))
    tiny, wide = (json.loads((tmp_path / "ledger" / cell / "seed0.json").read_text()) for cell in ("tiny", "wide"))
    assert tiny["tasks"] == wide["tasks"] == 4 and tiny["curve"] != wide["curve"]
    assert wide["command"].endswith("innerloop eval RUN task.shots=20") and wide["train_seconds"] == tiny["train_seconds"]
    assert wide["commit"] == "b" * 40 and wide["hardware"] == f"a GPU, 16 cores, then {tiny['hardware']}"
    assert len([*(tmp_path / "outputs").glob("*/0/results.json")]) == 1
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "other"])
    with pytest.raises(InputError, match="there is no cell other; the ledger has tiny, wide"):
        reproduce.main()
