"""On the command line: label new files, and take the learner, or the network, away."""

import csv
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

import innerloop
from innerloop.config import InputError
from innerloop.runs.experiment import run
from innerloop.use.export import export_network
from tests.command_line import call
from tests.conftest import TINY, compose_run
from tests.tiny_data import picture, texts, write_csv, write_tree
from tests.use.test_learner import CLASSIFIERS, SMALL, folder_of


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("glyphs")
    run(compose_run(*TINY, "task=glyphs", *SMALL, "model.filters=4"), directory)
    return directory


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """support and new."""
    root = tmp_path_factory.mktemp("photos")
    folder_of(root / "support", {"dark": 3, "bright": 4})
    folder_of(root / "new", {"dark": 12, "bright": 13})
    write_tree(root / "new", {"broken.png": b"nothing", "notes.md": b"no picture"})
    return root


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_file(glyphs, photos, tmp_path):
    stdout, stderr = call("-m", "innerloop", "predict", glyphs, photos / "support", photos / "new", "--csv", tmp_path / "o.csv")
    rows = {row["file"]: row for row in rows_of(tmp_path / "o.csv")}
    assert len(rows) == 26 and stderr == ""
    assert rows["broken.png"] == {
        "file": "broken.png", "label": "", "confidence": "", "reason": "broken.png cannot be read as an image; replace it or leave it out"
    }  # fmt: skip
    learner = innerloop.load(glyphs).fit(photos / "support")
    (photos / "new" / "broken.png").rename(tmp_path / "broken.png")
    for name, label, sure in zip(
        sorted(rows.keys() - {"broken.png"}), learner.predict(photos / "new"), learner.predict_proba(photos / "new").max(1), strict=True
    ):
        assert rows[name]["label"] == label and float(rows[name]["confidence"]) == pytest.approx(sure, abs=1e-4)
    (tmp_path / "broken.png").rename(photos / "new" / "broken.png")
    right = sum(row["label"] == name.partition("/")[0] for name, row in rows.items() if row["label"])
    assert "fitted to 7 examples of 2 classes: 4 bright, 3 dark" in stdout and "left out one by one, " in stdout
    assert "1 of 26 could not be read" in stdout and f"{right} of 25 agree with their folder" in stdout
    assert "and 6 more; --csv FILE writes all" in stdout


def test_abstaining_leaves_the_least_sure_out(glyphs, photos, tmp_path):
    common = ["-m", "innerloop", "predict", glyphs, photos / "support", photos / "new", "--steps", "1", "--csv"]
    call(*common, tmp_path / "all.csv")
    call(*common, tmp_path / "some.csv", "--abstain", "0.6")
    everything, some = (rows_of(tmp_path / name) for name in ("all.csv", "some.csv"))
    silent = [row for row in some if row["reason"] == "among the least sure 40 %"]
    assert len(silent) == 10 and all(not row["label"] and row["confidence"] for row in silent)
    least = min(float(row["confidence"]) for row in some if row["label"])
    assert all(float(row["confidence"]) <= least for row in silent)
    assert [row["confidence"] for row in everything] == [row["confidence"] for row in some]
    assert call(*common, tmp_path / "x.csv", "--abstain", "1.5", code=1)[1].startswith("Error: --abstain must be a share from 0 to 1")


def test_the_folder_that_a_zip_holds_is_no_part_of_a_label(glyphs, photos, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "support"), "zip", photos, "support")
    stdout, _ = call("-m", "innerloop", "predict", glyphs, archive, photos / "new")
    assert "fitted to 7 examples of 2 classes: 4 bright, 3 dark" in stdout and "of 25 agree with their folder" in stdout


def test_a_name_that_is_not_utf8_is_said(glyphs, photos, tmp_path):
    shutil.copytree(photos / "new", tmp_path / "new")
    (tmp_path / "new" / "caf\udce9.png").write_bytes(picture(0))
    _, stderr = call("-m", "innerloop", "predict", glyphs, photos / "support", tmp_path / "new", code=1)
    assert "has a file whose name is not UTF-8, 'caf\\udce9.png'; rename it" in stderr


def test_hostile_names_are_names(glyphs, tmp_path):
    """Of classes and files: no markup on the screen or in the card, no path out of the folder."""
    names = ["[red]a", "<script>alert(1)<_script>"]
    folder_of(tmp_path / "support", dict.fromkeys(names, 2))
    stdout, stderr = call("-m", "innerloop", "predict", glyphs, tmp_path / "support", tmp_path / "support")
    assert stderr == "" and "[red]a/0.png" in stdout and "<script>alert(1)<_script>/1.png" in stdout
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("../evil/a.png", picture(0))
    _, stderr = call("-m", "innerloop", "predict", glyphs, tmp_path / "support", tmp_path / "out.zip", code=1)
    assert "has a member that points outside of it" in stderr


def test_functions_and_texts(tmp_path):
    run(compose_run(*TINY), tmp_path / "sinusoid")
    points = write_csv(tmp_path / "points.csv", [("x", "y"), *((x, 2 * x) for x in range(6))])
    stdout, _ = call("-m", "innerloop", "predict", tmp_path / "sinusoid", points, points, "--csv", tmp_path / "o.csv")
    assert "fitted to 6 points; left out one by one: mean squared error " in stdout
    assert [row["file"] for row in rows_of(tmp_path / "o.csv")] == [f"line {line}" for line in range(2, 8)]
    table = write_csv(tmp_path / "texts.csv", texts())
    run(compose_run(*TINY, "task=text_csv", f"task.path={table}", "task.vocabulary=300", "model.width=8", *SMALL), tmp_path / "texts")
    support = write_csv(tmp_path / "support.csv", [("text", "class"), ("cat sings", "a"), ("my cat", "a"), ("old tree", "b")])
    stdout, _ = call("-m", "innerloop", "predict", tmp_path / "texts", support, support)
    assert "no estimate of accuracy: a class has but one example" in stdout and "of 3 agree with" in stdout


QUICK = ("maml", "protonet", "ridge")  # kinds of networks; each takes seconds


@pytest.mark.parametrize("algo", [pytest.param(a, marks=[] if a in QUICK else [pytest.mark.slow]) for a in CLASSIFIERS])
def test_the_network_taken_away_is_the_learner(algo, photos, tmp_path):
    """torch.export and ONNX answer as it does, for 1, 7 and 64 inputs, without innerloop."""
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run(compose_run(*TINY, "task=glyphs", f"algo={algo}", *SMALL, "model.filters=4"), tmp_path / "run")
    stdout, stderr = call("-m", "innerloop", "export", tmp_path / "run", tmp_path / "net", photos / "support", "--onnx")
    assert stderr == "" and f"network: {tmp_path / 'net'}" in stdout
    network = innerloop.load(tmp_path / "run").fit(photos / "support").network
    session = ort.InferenceSession(str(tmp_path / "net" / "network.onnx"), providers=["CPUExecutionProvider"])
    exported = torch.export.load(tmp_path / "net" / "network.pt2").module()
    for count in (1, 7, 64):
        x = torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            expected = network(x)
            found = exported(x), torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
        for logits in found:
            assert logits.shape == (count, 2) and (logits - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())
    assert json.loads((tmp_path / "net" / "network.json").read_text())["classes"] == ["bright", "dark"]
    assert "bright, dark" in (tmp_path / "net" / "README.md").read_text()


def test_the_network_needs_no_innerloop(glyphs, photos, tmp_path):
    export_network(glyphs, tmp_path / "net", str(photos / "support"), None, onnx=False)
    assert not (tmp_path / "net" / "network.onnx").exists()
    code = "import sys, torch; y = torch.export.load('network.pt2').module()(torch.zeros(3, 1, 28, 28))\n"
    code += "assert y.shape == (3, 2) and not any(name.startswith('innerloop') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "net", check=True)


def test_a_learner_taken_away(glyphs, photos, tmp_path):
    stdout, _ = call("-m", "innerloop", "export", glyphs, tmp_path / "mine")
    assert "learner: " in stdout and {path.name for path in (tmp_path / "mine").iterdir()} == {
        "README.md",
        "learner.json",
        "model.safetensors",
    }
    card = (tmp_path / "mine" / "README.md").read_text()
    results = json.loads((glyphs / "results.json").read_text())
    assert card.startswith("---\nlibrary_name: innerloop") and f"{100 * results['value']:.4g} ±" in card and results["command"] in card
    x = np.random.default_rng(0).integers(0, 256, (4, 30, 20), dtype=np.uint8)
    both = [innerloop.load(path).fit(x, list("abab")).predict_proba(x) for path in (glyphs, tmp_path / "mine")]
    np.testing.assert_array_equal(*both)
    call("-m", "innerloop", "export", tmp_path / "mine", tmp_path / "again")  # and away again


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["predict", "nowhere", "s", "n"], "nowhere is not there; name the folder of a run"),
        (["predict", "{run}", "nowhere", "{new}"], "nowhere is not there; name a folder"),
        (["predict", "{run}", "{support}", "nowhere"], "nowhere is not there; name a folder"),
        (["predict", "{run}", "{support}", "{new}", "--steps", "-1"], "steps must be a whole number >= 0"),
        (["predict", "{run}", "{support}", "{new}", "--csv", "/proc/x.csv"], "cannot write /proc/x.csv: "),
        (["export", "{run}", "{support}"], "is there already; name an empty folder, or a new one"),
        (["export", "{run}", "x", "--onnx"], "--onnx and --steps are of a network that was fitted"),
        (["export", "{run}", "x", "{new}"], "broken.png cannot be read as an image"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, sentence, glyphs, photos):
    places = {"run": glyphs, "support": photos / "support", "new": photos / "new"}
    _, stderr = call("-m", "innerloop", *(text.format(**places) for text in arguments), code=1)
    assert stderr.startswith("Error: ") and sentence in stderr and stderr.count("\n") == 1


def test_a_network_that_answers_otherwise_is_refused(glyphs, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("innerloop.use.export.TOLERANCE", -1)
    with pytest.raises(InputError, match="network.pt2 answers otherwise"):
        export_network(glyphs, tmp_path / "net", str(photos / "support"), None, onnx=False)
