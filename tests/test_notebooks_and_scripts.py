"""Every notebook and script runs."""

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile

import nbformat
import numpy as np
import pytest
import torch

import notebooks  # scripts/
from innerloop.runs.build import build_run
from tests.conftest import DATA, ROOT, compose_run
from tests.tiny_data import write_tree

CONTROL = b"Package: manpages-fr\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: pages\n"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


SLOW = ("02_add_an_algorithm", "03_read_a_run", "04_language_model", "05_your_images", "06_policies")
LONG = [path for path in NOTEBOOKS if path.stem == "04_language_model"]  # trains for a minute


def execute(path, shorten=False):
    """Runs a notebook from its beginning; shorten: a tenth of the outer steps. What it had printed before and what it prints now, but for
    numbers, and what went to stderr."""
    notebook = nbformat.read(path, as_version=4)
    kept = notebooks.told(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells if shorten else []:
        cell.source = re.sub(r"(outer_steps|val_every)=(\d+)", lambda found: f"{found[1]}={int(found[2]) // 10 or 1}", cell.source)
        cell.source = cell.source.replace('val_every=2"', 'val_every=5"')  # of 50 and 25
    notebooks.executed(notebook, path.parent)
    return kept, notebooks.told(notebook), [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]


@pytest.mark.filterwarnings("default")  # Jupyter's own
@pytest.mark.parametrize("path", [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in SLOW), id=path.stem) for path in NOTEBOOKS])
def test_notebook_runs_and_keeps_what_it_prints(path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the kernel: tests run side by side
    kept, told, errors = execute(path, shorten=path in LONG)
    assert not errors and any(text for text, _ in kept) and told == kept, "run scripts/notebooks.py"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", LONG, ids=lambda path: path.stem)
def test_long_notebook_runs_as_it_is(path):
    kept, told, errors = execute(path)
    assert not errors and any(text for text, _ in kept) and told == kept, "run scripts/notebooks.py"


@pytest.mark.slow
def test_demo_trains_and_draws(tmp_path):
    """And its numbers are what the README claims of them, within loose bounds."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "demo.py")], capture_output=True, text=True, cwd=tmp_path, timeout=600, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    pages = ("picture: outputs/demo/sinusoid.png", "report:  outputs/demo/report.html", "use it:  innerloop.load('outputs/demo/maml')")
    for line in ("from scratch", "joint training", "MAML", *pages):
        assert line in done.stdout
    mse = {}
    for algo in ("scratch", "joint", "maml"):
        curve = json.loads((tmp_path / "outputs" / "demo" / algo / "results.json").read_text())["curve"]
        mse[algo] = {point["step"]: point["value"] for point in curve}
    assert mse["maml"][1] < 1.0 and mse["maml"][10] < 0.5
    assert mse["joint"][10] > 1.0 and mse["scratch"][1] > 3.0
    assert mse["maml"][1] < mse["joint"][1] < mse["scratch"][1]
    assert "better than" in (tmp_path / "outputs" / "demo" / "report.html").read_text()
    assert (tmp_path / "outputs" / "demo" / "sinusoid.png").stat().st_size > 20_000


def call_script(name, *arguments, cwd):
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / name), *arguments], capture_output=True, text=True, cwd=cwd, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_benchmark_compares_the_gradient_then_times(tmp_path):
    """Its ratio is that of its own two rows, learn2learn's being 1."""
    chosen = ["--workloads", "W1fo", "--contenders", "learn2learn;vmap", "--rounds", "1", "--output", "out.json"]
    printed = call_script("benchmark.py", *chosen, cwd=tmp_path)
    first, second = json.loads((tmp_path / "out.json").read_text())["workloads"]["W1fo"]["rows"]
    assert (first["contender"], first["ratio"]) == ("learn2learn", 1.0)
    assert second["gradient_error"] < 1e-12 and "| vmap |" in printed
    assert second["ratio"] == pytest.approx(second["tasks_per_second"] / first["tasks_per_second"])


@pytest.mark.parametrize("name", ["W1", "W1x5", "W1fo", "W2", "W2fo", "W3", "W4"])
def test_each_workload_of_the_benchmark_has_learn2learns_gradient(tmp_path, monkeypatch, name):
    """With fewer tasks and classes."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import benchmark
    import benchmark_contenders as contenders

    whole = contenders.WORKLOADS[name]
    small = whole._replace(tasks=2, steps=min(whole.steps, 2), ways=whole.ways and 2)
    for contender in ("learn2learn", "loop"):
        gradients = contenders.float64_gradient(*contenders.CONTENDERS[contender][0](small), small, "cpu")
        np.savez(tmp_path / f"{contender}.npz", *gradients)
    assert benchmark.gradient_error(tmp_path, "loop", "learn2learn") < benchmark.TOLERANCE
    assert set(contenders.WORKLOADS) == {"W1", "W1x5", "W1fo", "W2", "W2fo", "W3", "W4"}


def test_benchmark_leaves_out_who_is_wrong(tmp_path, monkeypatch):
    """A gradient that is off by a part in a million is not timed."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import benchmark

    for name, value in (("right", 1.0), ("wrong", 1.0 + 1e-6)):
        np.savez(tmp_path / f"{name}.npz", np.array([1.0, value]))
    assert benchmark.gradient_error(tmp_path, "right", "right") == 0
    assert benchmark.gradient_error(tmp_path, "wrong", "right") > benchmark.TOLERANCE


@pytest.mark.slow
def test_the_training_contender_stops_for_its_turns(tmp_path):
    """200 steps of train.py, then, at the end of its input, no more."""
    overrides = [f"hydra.run.dir={tmp_path / 'run'}", "outer_steps=1000", "val_every=1000", "steps_at_once=10", "~callbacks.checkpoint"]
    command = [sys.executable, str(ROOT / "scripts" / "benchmark_training.py"), *overrides]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=tmp_path)
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(answers) == 1 and answers[0]["seconds"] > 0, done.stderr


def test_minutes_are_counted_until_the_accuracy_is_there(monkeypatch):
    """Of what train.py prints, and of 20 outer steps of learn2learn's together; who stays below has no time."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import minutes_to_95

    ours = [
        "protonet on omniglot, 7000 outer steps of 4 tasks, into run",
        "outer step 50/7000: val/loss 0.3, val/accuracy 0.8123 ± 0.0100; fast",
    ]
    assert list(minutes_to_95.points(iter(ours))) == [(200, 0.8123)]
    theirs = [json.dumps({"tasks": 32 * step, "accuracy": step / 20}) for step in range(1, 22)]
    assert list(minutes_to_95.points(iter(theirs))) == [(640, pytest.approx(0.525)), (672, pytest.approx(0.575))]
    command = [sys.executable, "-c", f"print(*{ours!r}, sep='\\n')"]
    seconds, tasks, reached = minutes_to_95.time_to(0.8, command)
    assert 0 < seconds < 30 and (tasks, reached) == (200, 0.8123)
    with pytest.raises(RuntimeError, match="ended below 0.9"):
        minutes_to_95.time_to(0.9, command)


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "omniglot").is_dir(), reason="no data; set INNERLOOP_DATA")
def test_minutes_of_all_contenders(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_DATA", str(DATA))
    printed = call_script("minutes_to_95.py", "--accuracy", "0.3", cwd=tmp_path)
    assert printed.count("| innerloop, ") == 3 and printed.count("| learn2learn's example |") == 1


@pytest.mark.slow
def test_cost_measures_and_draws(tmp_path):
    printed = call_script("cost.py", "--quick", "--output", "cost.png", cwd=tmp_path)
    rows = json.loads((tmp_path / "cost.json").read_text())
    assert len(rows) == 10 and all(row["seconds"] > 0 and row["mb"] > 0 for row in rows)
    assert "picture: cost.png" in printed and (tmp_path / "cost.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_outer_gradient_is_timed_launched_and_compiled(tmp_path):
    printed = call_script("cuda_graphs.py", "--device", "cpu", "--seconds", "0.1", "task=sinusoid algo=maml", cwd=tmp_path)
    row = next(line for line in printed.splitlines() if "│ task=sinusoid" in line)
    launched, graph, ratio = (float(number) for number in re.findall(r"\d+\.\d+", row))
    assert launched > 0 and launched / graph == pytest.approx(ratio, rel=0.2)


@pytest.mark.slow
def test_large_models_are_measured_beside_their_estimates(tmp_path):
    printed = call_script("large_models.py", "--quick", "--output", "rows.json", cwd=tmp_path)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == 4 and printed.count("| 1 M |") == 4
    for row in rows:
        assert row["tokens_per_second"] > 0 and row["peak_mb"] == pytest.approx(row["estimate_mb"], rel=0.25)


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")
def test_manual_pages_become_text(tmp_path, monkeypatch):
    """Of a package as Debian's are, and links to other pages are passed over."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import manpages

    page = '.\\" licence\n.TH LS 1 "mai 2024"\n.SH NOM\n.B ls\n\\- afficher \\fIle contenu\\fR de r\u00e9pertoires\n'
    files = {"usr/share/man/fr/man1/ls.1.gz": page, "usr/share/man/fr/man1/dir.1.gz": ".so man1/ls.1", "usr/share/man/man1/ls.1.gz": "ls"}
    tree = {name: gzip.compress(text.encode()) for name, text in files.items()}
    tree |= {"usr/share/doc/manpages-fr/copyright": b"GPL-3+", "DEBIAN/control": CONTROL}
    subprocess.run(["dpkg-deb", "-b", str(write_tree(tmp_path / "tree", tree)), str(tmp_path / "fr.deb")], check=True, capture_output=True)
    manpages.unpack(tmp_path / "fr.deb", tmp_path / "text")
    found = {str(path.relative_to(tmp_path / "text")): path.read_text() for path in (tmp_path / "text").rglob("*") if path.is_file()}
    assert found == {
        "fr/ls.1.txt": 'LS 1 "mai 2024"\nNOM\nls\n- afficher le contenu de r\u00e9pertoires\n',
        "en/ls.1.txt": "ls\n",
        ".copyright/manpages-fr": "GPL-3+",
    }


def iconify_package(path, name, drawings, categories):
    """As npm packs a set of Iconify's."""
    content = {
        "icons": {"width": 10, "height": 10, "icons": {icon: {"body": body} for icon, body in drawings.items()}},
        "metadata": {"categories": categories},
        "info": {"name": name, "author": {"name": "Somebody"}, "license": {"title": "MIT", "spdx": "MIT"}},
    }
    with tarfile.open(path, "w:gz") as tar:
        for file, about in content.items():
            text = json.dumps(about).encode()
            member = tarfile.TarInfo(f"package/{file}.json")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))


def test_emoji_become_classes_of_several_artists(tmp_path, monkeypatch):
    """The first set's categories split them; what too few have, or has a skin tone, is left out; task=emoji reads the file."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import emoji

    names = ["tiger", "cat", "pie", "ball", "kite", "car", "bus", "hand"]
    groups = {
        "Animals & Nature": ["tiger", "cat"],
        "Food & Drink": ["pie"],
        "Activities": ["ball", "kite"],
        "Travel": ["car", "bus"],
    }
    for number in range(3):
        drawings = {name: f'<rect width="{number}"/>' for name in names if (name, number) != ("hand", 0)} | {"hand-dark-skin-tone": "<a/>"}
        iconify_package(tmp_path / f"{number}.tgz", f"set {number}", drawings, groups if number == 0 else {"Food & Drink": names})
    packs = [emoji.read_pack(tmp_path / f"{number}.tgz") for number in range(3)]
    assert packs[1].drawings["car"].startswith("<svg") and 'viewBox="0 0 10 10"><rect width="1"/>' in packs[1].drawings["car"]
    expected = {"tiger": "test", "cat": "test", "pie": "test", "ball": "val", "kite": "val", "car": "train", "bus": "train"}
    assert emoji.classes_of(packs, 3) == expected
    assert emoji.classes_of(packs, 2)["hand"] == "test"  # the first set lacks it, and the second one's category counts
    monkeypatch.setattr(emoji, "draw", lambda text, size: np.full((size, size, 3), 80 * int(text.split('width="')[1][0]), np.uint8))
    emoji.write(tmp_path / "emoji.npz", packs, 8, 3)
    assert (tmp_path / "emoji.npz.licences.txt").read_text().startswith("set 0 by Somebody, MIT")
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path))
    tasks = build_run(compose_run("task=emoji", "task.ways=2", "task.queries=1", "task.size=16")).data.tasks
    assert {name: split for split, names in tasks.parts.items() for name in names} == expected
    support, query = tasks.distribution("test").sample(np.random.default_rng(0))
    assert all(not torch.equal(a, b) for a in support.x for b in query.x[query.y == 0])  # two artists


def test_emoji_ask_for_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import emoji

    monkeypatch.setattr(sys, "argv", ["emoji.py", str(tmp_path / "emoji.zip")])
    with pytest.raises(SystemExit, match="name it .*emoji.npz"):
        emoji.main()
    monkeypatch.setattr(emoji.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="install Node.js"):
        emoji.download(str(tmp_path), [])


@pytest.mark.slow
def test_policies_are_timed():
    printed = call_script("benchmark_policies.py", "--rounds", "1", "--steps", "1", "2", cwd=ROOT)
    assert re.search(r"round 0: PPO, 5 epochs \S+ CPU s, trust region \S+ CPU s", printed)


@pytest.mark.slow
def test_shapes_are_timed():
    printed = call_script("benchmark_shapes.py", "--rounds", "1", "--steps", "1", "6", "model.filters=4", cwd=ROOT)
    assert re.search(r"any shape / one shape: \d+\.\d+ ", printed)


@pytest.mark.slow
def test_lite0_is_written(tmp_path):
    printed = call_script("lite0.py", str(tmp_path / "lite0.pth"), cwd=ROOT)
    assert "written" in printed and (tmp_path / "lite0.pth").stat().st_size > 10**7


@pytest.mark.slow
def test_survive_kills_and_compares():
    printed = call_script("survive.py", "--kills", "2", "--runs", "maml", cwd=ROOT)
    assert "2 kills in" in printed and "differs" not in printed


def test_verdicts_are_counted(tmp_path):
    printed = call_script("verdicts.py", "--repetitions", "5", cwd=tmp_path)
    assert len(printed.splitlines()) == 2 + 13 and "| 10 | 0.2 |" in printed
