"""Texts become tokens that only the training classes decide, and a model of them works in every engine."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from innerloop.algorithms.learn2learn import learn2learn_class
from innerloop.algorithms.maml import MAML
from innerloop.config import InputError
from innerloop.engine import forward as engines
from innerloop.models.text_encoder import TextEncoder
from innerloop.objective import CLASSIFICATION
from innerloop.runs.experiment import run
from innerloop.tasks.texts import clinc150
from innerloop.tasks.texts.clinc150 import Clinc150
from innerloop.tasks.texts.text_csv import TextCsv
from tests.conftest import DATA, ROOT, TINY, classification_episodes, compose_run
from tests.tiny_data import texts, write_csv

COUNTS = {"ways": 2, "shots": 1, "queries": 2, "train_ways": 2, "train_shots": 1, "train_queries": 2}
CLINC = DATA / "clinc150"


def tasks_of(path, **changes):
    return TextCsv(
        str(path),
        **{"columns": None, "split": None, "split_seed": 0, "tokenizer": None, "vocabulary": 300, "length": 12} | COUNTS | changes,
    )


@pytest.fixture
def path(tmp_path):
    return write_csv(tmp_path / "texts.csv", texts())


def test_tokens_say_the_text_and_padding_is_zero(path):
    tasks = tasks_of(path, length=40)
    rows = texts()[1:]
    assert tasks.tokens.dtype == np.int64 and tasks.tokens.shape == (len(rows), 40)
    for (text, _), ids in zip(rows[:20], tasks.tokens, strict=False):
        kept = ids[ids != 0]
        assert (ids[len(kept) :] == 0).all() and tasks.tokenizer.decode(kept.tolist()).strip() == text.lower()
    assert tasks_of(path, length=3).tokens.shape == (len(rows), 3)
    assert tasks.tokenizer.decode(tasks.tokenizer.encode("ÄÖÜ 漢字!").ids).strip() == "äöü 漢字!"  # nothing is unknown


def test_only_training_texts_decide_the_tokens(path, tmp_path):
    """Other texts in the test classes: the same tokens for the training classes."""
    before = tasks_of(path)
    rows = [(f"{text} zyzzyva zyzzyva" if name in before.parts["test"] else text, name) for text, name in texts()]
    after = tasks_of(write_csv(tmp_path / "texts.csv", rows))
    assert after.parts == before.parts and after.tokenizer.get_vocab() == before.tokenizer.get_vocab()
    trained = np.concatenate([before.rows[name] for name in before.parts["train"]])
    assert np.array_equal(before.tokens[trained], after.tokens[trained])


def test_the_same_tokens_in_another_process(path):
    code = f"from tests.tasks.test_texts import tasks_of; print(int((tasks_of({str(path)!r}).tokens * range(1, 13)).sum()))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert other.stdout.strip() == str(int((tasks_of(path).tokens * range(1, 13)).sum()))


def test_bags_of_tokens_have_length_one_and_no_order(path):
    tasks = tasks_of(path)
    x = torch.from_numpy(tasks.tokens[:5])
    bags = tasks.as_vectors(x)
    assert bags.shape == (5, 300) and torch.allclose(bags.norm(dim=1), torch.ones(5)) and (bags[:, 0] == 0).all()
    assert torch.equal(bags, tasks.as_vectors(x.flip(1)))
    assert (tasks.as_vectors(torch.zeros(1, 12, dtype=torch.int64)) == 0).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("layers", [0, 2])
def test_engines_agree_on_the_outer_gradient(layers):
    """Second order, through three inner steps."""
    episodes = classification_episodes(3, (6,))
    tokens = [part._replace(x=(part.x * 20).long()) for part in episodes]
    episodes = type(episodes)(*tokens)
    gradients = []
    for engine in (engines.loop, engines.vmap, engines.learn2learn):
        torch.manual_seed(0)
        model = TextEncoder((6,), 3, vocabulary=20, width=8, heads=2, layers=layers)
        for parameter in model.parameters():  # nothing at zero, or the blocks would have no part in it
            torch.nn.init.normal_(parameter, std=0.3)
        kind = learn2learn_class(MAML) if engine is engines.learn2learn else MAML
        algorithm = kind(model, CLASSIFICATION, engine, inner_lr=0.2, adaptation_steps=3, first_order=False)
        losses, _ = algorithm(episodes)
        gradients.append(torch.autograd.grad(losses.sum(), algorithm.trained()))
    for others in gradients[1:]:
        assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(gradients[0], others, strict=True))
    assert all(g.abs().max() > 0 for g in gradients[0])


def test_padding_changes_nothing():
    torch.manual_seed(0)
    model = TextEncoder((8,), 3, vocabulary=20, width=8, heads=2, layers=2)
    for parameter in model.body.blocks.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.tensor([[3, 4, 5, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        model.body.tokens.weight[0] = 100
        expected = model(x)
        model.body.tokens.weight[0] = -7
        assert torch.allclose(model(x), expected, atol=1e-6) and torch.isfinite(model(torch.zeros(1, 8, dtype=torch.int64))).all()
        assert not torch.allclose(model(torch.tensor([[3, 4, 6, 0, 0, 0, 0, 0]])), expected)


ALGORITHMS = ["anil", "metasgd", "reptile", "protonet", "joint", "centroid", "nearest_mean", "scratch"]


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_algorithm_takes_texts(algo, path, tmp_path):
    cfg = compose_run("task=text_csv", f"task.path={path}", f"algo={algo}", "task.ways=2", "task.queries=2", "model.layers=1", *TINY)
    cfg.val_every = cfg.outer_steps = 2
    results = run(cfg, tmp_path / "run")
    assert results["task"] == "text_csv" and 0 <= results["value"] <= 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("text", "label"), ("a", "b")], "must have the columns text and class"),
        ([], "must have the columns text and class"),
        ([*texts()[:5], ("  ", "class01")], "line 6 of .*texts.csv has no text; fill it in or delete it"),
        ([*texts()[:5], ("hello", "")], "the class in line 6 of .*texts.csv has no text"),
        ([*texts(), ("only one", "class99")], "class 'class99' has 1 examples but an episode needs"),
    ],
)
def test_bad_files(rows, message, tmp_path):
    with pytest.raises(InputError, match=message) as refused:
        tasks = tasks_of(write_csv(tmp_path / "texts.csv", rows))
        for split in ("train", "val", "test"):
            tasks.distribution(split)
    assert "\n" not in str(refused.value)


def test_other_bad_input(path, tmp_path):
    with pytest.raises(InputError, match="no data of its own; set task.path to a CSV file"):
        TextCsv(None, None, None, 0, None, 300, 12, **COUNTS)
    (tmp_path / "latin.csv").write_bytes("text,class\ngrün,a\n".encode("latin-1"))
    with pytest.raises(InputError, match="latin.csv cannot be read as a CSV file in UTF-8"):
        tasks_of(tmp_path / "latin.csv")
    (tmp_path / "excel.csv").write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # the mark that Excel begins a file with
    assert tasks_of(tmp_path / "excel.csv").tokens.shape == tasks_of(path).tokens.shape
    with pytest.raises(InputError, match="task.vocabulary must be a whole number >= 257, got 100"):
        tasks_of(path, vocabulary=100)
    with pytest.raises(InputError, match="model=text_encoder takes tokens"):
        TextEncoder((1, 28, 28), 5, None, 8, 2, 1)
    with pytest.raises(InputError, match="model.width=9 is no multiple of model.heads=2"):
        TextEncoder((8,), 5, 300, 9, 2, 1)


def clinc(root, **changes):
    split = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}
    return Clinc150(str(root), **{"split": split, "tokenizer": None, "vocabulary": 300, "length": 12} | COUNTS | changes)


def write_clinc(root, **changes):
    data = {"train": [[f"do {d}{i} number {n}", f"{d}{i}"] for d in "abcd" for i in range(2) for n in range(2)]}
    data |= {"val": data["train"], "test": data["train"], "oos_train": [["what", "oos"]]} | changes
    (root / "data_full.json").write_text(json.dumps(data))
    (root / "domains.json").write_text(json.dumps({d: [f"{d}0", f"{d}1"] for d in "abcd"}))
    return root


def test_domains_are_held_out(tmp_path, monkeypatch):
    tasks = clinc(write_clinc(tmp_path))
    assert tasks.parts == {"train": ["a0", "a1", "b0", "b1"], "val": ["c0", "c1"], "test": ["d0", "d1"]}
    assert [len(rows) for rows in tasks.classes("test").members] == [6, 6]
    with pytest.raises(InputError, match="task.split names 'e', not to be found in"):
        clinc(tmp_path, split={"train": ["a"], "val": ["e"], "test": ["d"]})
    with pytest.raises(InputError, match="utterance 0 of .*data_full.json has no text"):
        clinc(write_clinc(tmp_path, train=[["", "a0"]]))
    with pytest.raises(InputError, match="does not hold CLINC150's files; delete them there"):
        clinc(write_clinc(tmp_path, train=["no pair"]))
    (tmp_path / "data_full.json").write_text('{"train": [')
    with pytest.raises(InputError, match="data_full.json is damaged; delete it and start again"):
        clinc(tmp_path)
    (tmp_path / "data_full.json").unlink()
    monkeypatch.setattr(clinc150, "BASE_URL", "http://127.0.0.1:9/")  # nothing listens there
    with pytest.raises(InputError, match="could not download http://127.0.0.1:9/data_full.json .ConnectionError.; put data_full.json and"):
        clinc(tmp_path)


@pytest.mark.skipif(not CLINC.is_dir(), reason=f"no CLINC150 at {CLINC}; set INNERLOOP_DATA")
def test_nearest_mean_on_clinc150(tmp_path):
    """Far above the 20 % of chance: intents and utterances belong together."""
    results = run(compose_run("task=clinc150", f"task.root={CLINC}", "algo=nearest_mean", *TINY, "test_episodes=100"), tmp_path)
    assert results["value"] == pytest.approx(0.71, abs=0.04)


def test_columns_may_have_names_of_their_own(path, tmp_path):
    """As those of a well-known public set of intents."""
    other = tmp_path / "theirs.csv"
    other.write_text(path.read_text().replace("text,class", "text,category", 1))
    assert tasks_of(other, columns={"text": "text", "class": "category"}).parts == tasks_of(path).parts
    with pytest.raises(
        InputError, match="must have the columns text and class, .*; it has text, category, and task.columns says what they are"
    ):
        tasks_of(other)


def test_padding_has_no_part_in_the_mean_of_a_text():
    """Of the tokens by hand, each with its weight; more room for padding changes nothing."""
    torch.manual_seed(0)
    model = TextEncoder((6,), 3, 20, 8, 2, 0)
    nn.init.normal_(model.body.importance.weight)
    nn.init.normal_(model.body.tokens.weight)
    x = torch.tensor([[5, 7, 9, 0, 0, 0]])
    y = model.body.tokens(x[:, :3]) + model.body.places[:3]
    weights = model.body.importance(x[:, :3]).softmax(1)
    torch.testing.assert_close(model.body(x), model.body.norm((weights * y).sum(1)))
