"""A finished run, fitted to a task of one's own, without the data that it was trained on."""

import json
import pydoc
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

import innerloop
from innerloop.config import InputError
from innerloop.episode import Examples
from innerloop.runs.build import build_run
from innerloop.runs.experiment import load_run, run
from innerloop.runs.settings import load_config
from innerloop.tasks import readers
from innerloop.tasks.tables.tabular_csv import read_table
from innerloop.tasks.texts.text_csv import read_texts
from innerloop.training.evaluation import predict_queries
from innerloop.use.examples import read_examples
from tests.conftest import TINY, compose_run
from tests.tiny_data import image_files, table, texts, wav, wav_files, write_csv, write_tree

SMALL = ("task.ways=3", "task.shots=2", "task.queries=2")
CLASSIFIERS = ("maml", "fomaml", "anil", "boil", "metasgd", "reptile", "protonet", "centroid", "joint", "scratch", "nearest_mean")
CLASSIFIERS += ("ridge", "matching", "protomaml", "metacurvature", "learned_rates", "learned_loss", "mamlpp", "imaml")
CLASSIFIERS += ("alfa", "warp", "baseline", "baseline_pp", "metaoptnet", "in_context_examples")
TASKS = {
    "images": lambda d: [f"task.root={write_tree(d / 'data', image_files())}", "task.size=8", "model.pool=stride", "model.filters=4"],
    "text_csv": lambda d: [f"task.path={write_csv(d / 'data.csv', texts())}", "task.vocabulary=300", "model.width=8"],
    "tabular_csv": lambda d: [f"task.path={write_csv(d / 'data.csv', table())}", "task.ways=2"],
    "spoken": lambda d: [
        f"task.root={write_tree(d / 'data', wav_files())}", "task.seconds=0.1", "task.mels=16", "model.filters=4",
        "task.split={train: [ann, bob], val: [cem, dan], test: [eva, fay]}",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a kind and an algorithm, whose data are deleted."""
    made = {}

    def train(kind, algo="maml", *overrides):
        if (kind, algo, *overrides) not in made:
            directory = tmp_path_factory.mktemp("run")
            arguments = TASKS[kind](directory) if kind in TASKS else []
            small = SMALL if kind in TASKS or kind == "glyphs" else ()
            run(compose_run(*TINY, f"task={kind}", f"algo={algo}", *small, *arguments, *overrides), directory / "run")
            shutil.rmtree(directory / "data", ignore_errors=True)
            (directory / "data.csv").unlink(missing_ok=True)
            made[kind, algo, *overrides] = directory / "run"
        return made[kind, algo, *overrides]

    return train


def folder_of(root, counts, side=20):
    """Pictures by class: noise around a grey of its own."""
    rng = np.random.default_rng(0)
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            (root / name).mkdir(parents=True, exist_ok=True)
            pixels = np.clip(60 * number + 30 * rng.random((side, side + 5, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


@pytest.mark.parametrize("algo", CLASSIFIERS)
def test_it_answers_as_the_evaluation_does(trained, algo):
    """Each algorithm's adapted network gives what its own prediction does, under the support set's batch statistics."""
    directory = trained("glyphs", algo, "model.filters=4")
    built = load_run(directory)
    learner = innerloop.load(directory)
    for index in range(2):
        support, query = built.data.test_episodes.meta_batch([index])
        with torch.no_grad():
            *_, adapted = built.learner.algorithm.trajectory(support, 2)
            expected = predict_queries(built.learner.algorithm, adapted, built.data.test_episodes.meta_batch([index]), "support")[0]
        learner.fit(support.x[0], support.y[0])
        found, expected = (logits.log_softmax(-1) for logits in (learner.network(query.x[0]), expected))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
        assert learner.predict(query.x[0]).tolist() == expected.argmax(1).tolist()


@pytest.mark.parametrize("kind", TASKS)
def test_a_raw_input_becomes_what_it_was_in_training(kind, tmp_path):
    """File by file, row by row: the reader that a run keeps gives the task's own inputs."""
    arguments = TASKS[kind](tmp_path)
    tasks = build_run(compose_run(*TINY, f"task={kind}", *SMALL, *arguments)).data.tasks
    classes = tasks.classes("train")
    reader = readers.from_json(json.loads(json.dumps(readers.as_json(tasks.reader))))
    if kind == "images":
        names = sorted(path for path in (tmp_path / "data").rglob("*.png"))
        raw, inputs = [path.read_bytes() for path in names], tasks.images.astype(np.float32) / 255
    if kind == "text_csv":
        raw, inputs = [text for text, _ in read_texts(tmp_path / "data.csv", None)], tasks.tokens
    if kind == "tabular_csv":
        raw, inputs = list(read_table(tmp_path / "data.csv", None)[2]), tasks.rows
    if kind == "spoken":
        raw, inputs = [(tmp_path / "data" / recording.file).read_bytes() for recording in tasks.recordings], tasks.inputs
    assert len(raw) == len(inputs) and len(classes.inputs) == len(inputs)
    for one, expected in zip(raw, inputs, strict=True):
        np.testing.assert_allclose(reader.read(one, "it").numpy(), expected, atol=1e-6)


def test_other_engines_and_models_of_libraries(tmp_path):
    """A run of learn2learn's learners, and one of a transformers model whose weights began in a folder that is gone."""
    run(compose_run(*TINY, "task=tabular", "engine=learn2learn"), tmp_path / "l2l")
    x = np.random.default_rng(0).normal(size=(6, 10))
    assert innerloop.load(tmp_path / "l2l").fit(x, list("ababab")).predict(x).shape == (6,)
    table = write_csv(tmp_path / "texts.csv", texts())
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 300}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).save_pretrained(tmp_path / "base")
    model = ["model=hf", f"model.path={tmp_path / 'base'}", "model.head=classifier", "model.lora_rank=2", "algo.adapted=[*lora_*,*score*]"]
    settings = [*TINY, "task=text_csv", f"task.path={table}", "task.vocabulary=300", "task.length=8", *SMALL, *model, "algo=fomaml"]
    run(compose_run(*settings), tmp_path / "hf")
    table.unlink()
    shutil.rmtree(tmp_path / "base")
    learner = innerloop.load(tmp_path / "hf").fit(["cat sings", "my cat", "old tree"], list("aab"))
    assert learner.predict_proba(["a cat"]).shape == (1, 2)
    learner.save(tmp_path / "kept")
    np.testing.assert_array_equal(innerloop.load(tmp_path / "kept").predict_proba(["a cat"]), learner.predict_proba(["a cat"]))


def test_pictures_in_folders(trained, tmp_path):
    """Any size, any and unequal numbers of each class; no answer depends on the other files."""
    learner = innerloop.load(trained("images"))
    assert learner.fit(folder_of(tmp_path / "support", {"dark": 4, "mid": 1, "bright": 2})) is learner
    assert learner.classes_.tolist() == ["bright", "dark", "mid"]
    new = folder_of(tmp_path / "new", {"x": 3, "y": 2}, side=33)
    files = sorted(new.rglob("*.png"))
    together = learner.predict_proba(new)
    alone = np.concatenate([learner.predict_proba([kind(path)]) for path, kind in zip(files, [str, Path, str, Path, str], strict=True)])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together.sum(1), 1)
    assert learner.predict(new).tolist() == learner.classes_[together.argmax(1)].tolist()
    images = [Image.open(path) for path in files]
    np.testing.assert_allclose(learner.predict_proba(images), together, atol=1e-6)
    np.testing.assert_allclose(learner.predict_proba([np.asarray(image) for image in images[::-1]]), together[::-1], atol=1e-6)
    assert 0 <= learner.score(tmp_path / "support") <= 1
    files = [path.relative_to(tmp_path) for path in sorted((tmp_path / "support").rglob("*.png"))]
    rows = [("file", "class"), *((path, path.parent.name) for path in files)]
    by_table = innerloop.load(trained("images")).fit(write_csv(tmp_path / "support.csv", rows))
    np.testing.assert_allclose(by_table.predict_proba(new), together, atol=1e-5)


def test_texts(trained, tmp_path):
    learner = innerloop.load(trained("text_csv", "protonet"))
    rows = [("text", "class"), *((f"the {animal} sings {i}", animal) for i in range(3) for animal in ("cat", "dog", "hen", "owl"))]
    learner.fit(write_csv(tmp_path / "support.csv", rows))  # four classes, and training had three
    strings = learner.predict_proba(["a red cat", "Dog!"])
    for name, text in (("a.txt", "a red cat"), ("b.txt", "Dog!")):
        write_tree(tmp_path / "texts", {name: text.encode()})
    np.testing.assert_allclose(learner.predict_proba(tmp_path / "texts"), strings, atol=1e-6)
    assert learner.predict([text for text, _ in rows[1:]]).tolist() == [animal for _, animal in rows[1:]]


def test_recordings(trained, tmp_path):
    learner = innerloop.load(trained("spoken", "nearest_mean"))
    write_tree(tmp_path / "support", {f"{name}/{i}.wav": wav(pitch, i) for name, pitch in (("low", 300), ("high", 2000)) for i in range(3)})
    learner.fit(tmp_path / "support")
    assert learner.predict([tmp_path / "support" / name / "0.wav" for name in ("low", "high")]).tolist() == ["low", "high"]
    assert learner.predict([np.sin(np.arange(800) * 0.2)]).shape == (1,)


def test_rows_of_a_table(trained, tmp_path):
    """In any order of columns, scaled as in training; CSV files, data frames and arrays are one."""
    pandas = pytest.importorskip("pandas")
    learner = innerloop.load(trained("tabular_csv", "reptile"))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 3)), np.array(["sick", "well"])[np.arange(9) % 2]
    expected = learner.fit(x, y).predict_proba(x)
    frame = pandas.DataFrame({"f2": x[:, 2], "class": y, "f0": x[:, 0], "f1": x[:, 1]})
    np.testing.assert_allclose(learner.fit(frame).predict_proba(frame.drop(columns="class")), expected, atol=1e-6)
    of_functions = innerloop.load(trained("sinusoid"))
    numbered = of_functions.fit(pandas.DataFrame(np.arange(6.0)[:, None]), np.arange(6.0)).predict(pandas.DataFrame([[2.0]]))
    np.testing.assert_array_equal(numbered, of_functions.fit(np.arange(6.0), np.arange(6.0)).predict([2.0]))  # columns called 0, 1, ...
    frame.to_csv(tmp_path / "rows.csv", index=False)
    np.testing.assert_allclose(learner.fit(tmp_path / "rows.csv").predict_proba(tmp_path / "rows.csv"), expected, atol=1e-5)


def test_functions(trained, tmp_path):
    learner = innerloop.load(trained("sinusoid"))
    x = np.linspace(-5, 5, 10)
    learner.fit(x, np.sin(x))
    assert learner.predict(x).shape == (10,) and learner.predict(x[:, None]).shape == (10,)
    squares = ((learner.predict(x) - np.sin(x)) ** 2).sum(), ((np.sin(x) - np.sin(x).mean()) ** 2).sum()
    assert learner.score(x, np.sin(x)) == pytest.approx(1 - squares[0] / squares[1])
    by_table = innerloop.load(trained("sinusoid")).fit(write_csv(tmp_path / "f.csv", [("x", "y"), *zip(x, np.sin(x), strict=True)]))
    np.testing.assert_allclose(by_table.predict(x), learner.predict(x), atol=1e-5)
    assert learner.fit(x, np.sin(x)[:, None]).predict(x).shape == (10, 1)
    with pytest.raises(InputError, match="a run of functions has no classes"):
        learner.predict_proba(x)


SAVED = [("images", "maml"), ("images", "centroid"), ("text_csv", "protonet"), ("sinusoid", "metasgd")]
SAVED += [("images", "matching"), ("images", "in_context_examples"), ("sinusoid", "cnp")]  # whose networks hold the support set


@pytest.mark.parametrize(("kind", "algo"), SAVED)
def test_what_was_fitted_is_saved_and_read_again(trained, tmp_path, kind, algo):
    learner = innerloop.load(trained(kind, algo), steps=1)
    x = {
        "images": np.random.default_rng(0).integers(0, 256, (6, 9, 9, 3), dtype=np.uint8),
        "text_csv": list("abcdef"),
        "sinusoid": np.arange(6.0),
    }
    learner.fit(x[kind], np.arange(6) % 2 if kind != "sinusoid" else np.arange(6.0))
    learner.save(tmp_path / "mine")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"learner.json", "model.safetensors", "fitted.safetensors"}
    again = innerloop.load(tmp_path / "mine")
    answer = "predict" if kind == "sinusoid" else "predict_proba"
    np.testing.assert_array_equal(getattr(again, answer)(x[kind]), getattr(learner, answer)(x[kind]))
    np.testing.assert_array_equal(again.predict(x[kind]), learner.predict(x[kind]))
    with pytest.raises(InputError, match="no support set here, as a saved learner has none"):
        again.leave_one_out()
    again.save(tmp_path / "again")
    np.testing.assert_array_equal(innerloop.load(tmp_path / "again").predict(x[kind]), learner.predict(x[kind]))
    again.fit(x[kind], np.arange(6) % 3 if kind != "sinusoid" else np.arange(6.0))  # and can learn something else


def test_leaving_one_out_is_a_fit_without_it(trained):
    learner = innerloop.load(trained("tabular_csv", "reptile"))
    x, y = np.random.default_rng(0).normal(size=(13, 3)), np.array(list("abbabababbaab"))
    left = learner.fit(x, y).leave_one_out()
    assert sorted(int(answer.name) for answer in left) == list(range(13))
    for answer in left[:4]:
        row = int(answer.name)
        others = [i for i in range(13) if i != row]
        expected = innerloop.load(trained("tabular_csv", "reptile")).fit(x[others], y[others])
        assert answer.value == expected.predict(x[[row]])[0] and answer.label == y[row]
        assert answer.confidence == pytest.approx(expected.predict_proba(x[[row]]).max(), abs=1e-5)
    assert learner.fit(x[:3], list("aab")).leave_one_out() == []


def test_as_a_scikit_learn_estimator(trained):
    """cross_val_score, clone, GridSearchCV over its parameters. Of check_estimator what fits tables of any width, more classes
    than the network has, and arguments that are looked at by fit alone does not apply: a learner looks at its run at once."""
    pytest.importorskip("sklearn")
    from sklearn.base import clone, is_classifier, is_regressor
    from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
    from sklearn.utils.estimator_checks import check_get_params_invariance
    from sklearn.utils.validation import check_is_fitted

    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = rng.normal(size=(40, 3)) + 2 * y[:, None]
    learner = innerloop.load(trained("tabular_csv", "reptile"))
    assert is_classifier(learner) and is_regressor(innerloop.load(trained("sinusoid")))
    assert cross_val_score(learner, x, y, cv=4).shape == (4,)
    assert cross_val_predict(learner, x, y, cv=4, method="predict_proba").shape == (40, 2)
    search = GridSearchCV(learner, {"steps": [0, 2]}, cv=2).fit(x, y)
    assert search.best_params_["steps"] in (0, 2)
    copy = clone(learner.set_params(steps=1))
    assert copy.get_params() == learner.get_params() and copy.network is None
    with pytest.raises(InputError, match="call fit"):
        copy.predict(x)
    check_is_fitted(copy.fit(x, y))
    assert cross_val_score(
        innerloop.load(trained("sinusoid")), np.linspace(-5, 5, 20)[:, None], np.sin(np.linspace(-5, 5, 20)), cv=4
    ).shape == (4,)
    check_get_params_invariance("Learner", learner)


def test_the_temperature_is_of_answers_as_they_are_scored(tmp_path, monkeypatch):
    """Of the ways and the shots of evaluation, not of training."""
    answers = []
    monkeypatch.setattr("innerloop.runs.learner_file.fit_temperature", lambda logits, labels: answers.extend(logits) or 2.0)
    run(compose_run(*TINY, "task=glyphs", "algo=ridge", *SMALL, "task.train_ways=5", "model.filters=4"), tmp_path)
    assert json.loads((tmp_path / "learner.json").read_text())["temperature"] == 2
    assert [tuple(logits.shape) for logits in answers] == [(6, 3)] * 2


def test_the_temperature_divides_the_logits(trained):
    learner = innerloop.load(trained("tabular_csv", "reptile"))
    x, y = np.random.default_rng(0).normal(size=(8, 3)), np.arange(8) % 2
    before = np.log(learner.fit(x, y).predict_proba(x))
    learner.about["temperature"] *= 2
    after = np.log(learner.predict_proba(x))
    np.testing.assert_allclose(2 * (after[:, 0] - after[:, 1]), before[:, 0] - before[:, 1], atol=1e-5)


def test_the_temperature_makes_it_as_sure_as_it_is_right():
    from innerloop.training.temperature import fit_temperature

    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(400, 50, 5, generator=generator)
    y = torch.multinomial(logits.softmax(-1).flatten(0, 1), 1, generator=generator).view(400, 50)
    assert fit_temperature(3 * logits, y) == pytest.approx(3, rel=0.05) and fit_temperature(logits / 2, y) == pytest.approx(0.5, rel=0.05)
    assert fit_temperature(logits, y) == 1 == fit_temperature(1.1 * logits[:3], y[:3])  # what may be chance changes nothing
    assert fit_temperature(torch.full((3, 4, 2), torch.nan), torch.zeros(3, 4, dtype=torch.long)) == 1


def bad_inputs(directory):
    """What is asked for, and the sentence."""
    pixels = np.zeros((2, 9, 9, 3), np.uint8)
    (directory / "empty" / "a").mkdir(parents=True)
    write_tree(directory / "one", {"a/x.png": b""})
    write_tree(directory / "notes", {"a/x.md": b"x"})
    write_csv(directory / "bare.csv", [("image", "class"), ("a.png", "a")])
    write_csv(directory / "gone.csv", [("file", "class"), ("a.png", "a")])
    return [
        (lambda learner: learner.fit(directory / "nowhere"), "nowhere is not there; name a folder, a zip of one, a CSV file"),
        (lambda learner: learner.fit(directory / "empty"), "empty has no file of pictures"),
        (lambda learner: learner.fit(directory / "notes"), "notes has no file of pictures"),
        (lambda learner: learner.fit(directory / "notes" / "a" / "x.md"), "x.md is no file of pictures"),
        (lambda learner: learner.fit(directory / "one"), "a/x.png cannot be read as an image"),
        (lambda learner: learner.fit(directory / "bare.csv"), "the table has no column file; it has image, class"),
        (lambda learner: learner.fit(directory / "gone.csv"), "a.png cannot be read .No such file"),
        (lambda learner: learner.fit(pixels), "the support set needs a class for each example"),
        (lambda learner: learner.fit(pixels, ["a"]), "there are 2 examples and 1 labels"),
        (lambda learner: learner.fit(pixels, ["a", "a"]), "the support set has one class, a; it takes two or more"),
        (lambda learner: learner.fit([], []), "the support set has no examples"),
        (
            lambda learner: learner.fit(pixels[[0, 0, 1, 1]], list("abcd")),
            "has 4 classes, and this run's network has 3 outputs;",
        ),
        (lambda learner: learner.fit(np.zeros((2, 5, 9, 9), np.uint8), list("ab")), "0 is uint8 of shape .5, 9, 9."),
        (lambda learner: learner.fit(np.zeros((2, 1, 8, 8)), list("ab")), "0 is of shape .1, 8, 8.; floats must be .3, 8, 8., from 0 to 1"),
        (lambda learner: learner.fit(np.full((2, 3, 8, 8), 9.0), list("ab")), "0 is of shape .3, 8, 8.; floats must be .* from 0 to 1"),
        (lambda learner: learner.fit(["a text", "b"], list("ab")), "a text cannot be read .No such file"),
        (lambda learner: learner.fit(3, [1]), "a int is no list of examples"),
        (lambda learner: learner.fit(directory / "one", ["a"]), "has its labels itself; leave y out"),
        (lambda learner: learner.predict(pixels), "this learner has seen no examples yet; call fit"),
        (lambda learner: learner.fit(pixels, list("ab")).score(pixels), "to score, each input needs its label"),
        (lambda learner: learner.fit(pixels, list("ab")).save(directory), "is there already; name an empty folder"),
        (lambda learner: learner.set_params(steps=-1), "steps must be a whole number >= 0, got -1"),
    ]


def test_bad_input_is_one_sentence(trained, tmp_path):
    for ask, sentence in bad_inputs(tmp_path):
        with pytest.raises(InputError, match=sentence) as error:
            ask(innerloop.load(trained("images")))
        assert "\n" not in str(error.value)


def test_what_is_no_learner(trained, tmp_path):
    for path, sentence in (("nowhere", "is not there"), (".", "neither a finished run nor a saved learner")):
        with pytest.raises(InputError, match=sentence):
            innerloop.load(tmp_path / path)
    unfinished = shutil.copytree(trained("images"), tmp_path / "unfinished")
    for name in ("learner.json", "results.json"):
        (unfinished / name).unlink()
    with pytest.raises(InputError, match="is not finished; give its command again"):
        innerloop.load(unfinished)
    language = tmp_path / "language"
    run(compose_run(*TINY, "task=grammars", "model.width=8", "model.heads=2", "model.layers=1", "task.length=8"), language)
    with pytest.raises(InputError, match="holds a language model"):
        innerloop.load(language)
    about = json.loads((trained("images") / "learner.json").read_text())
    damages = {
        "{": "is damaged",
        json.dumps(about | {"format": 99}): "it is of no format that innerloop",
        json.dumps(about | {"reader": {"kind": "smells"}}): "its reader is of no kind that there is",
        json.dumps({key: value for key, value in about.items() if key != "steps"}): "is damaged.*'steps'",
        json.dumps(about | {"outputs": 4}): "does not have the weights of learner.json: model.head",
        json.dumps(about | {"algo": {"_target_": "os.system", "_args_": ["touch owned"]}}): "asks for os.system .* add --trust",
        json.dumps(about | {"model": {"_target_": "innerloop.files.write_whole"}}): "asks for innerloop.files.write_whole",
    }
    for number, (content, sentence) in enumerate(damages.items()):
        folder = shutil.copytree(trained("images"), tmp_path / str(number))
        (folder / "learner.json").write_text(content)
        with pytest.raises(InputError, match=sentence):
            innerloop.load(folder)
    (folder / "learner.json").write_text(json.dumps(about))
    for damage in (b"", b"x" * 99, (folder / "model.safetensors").read_bytes()[:-5]):
        (folder / "model.safetensors").write_bytes(damage)
        with pytest.raises(InputError, match="is damaged, or what lies beside it"):
            innerloop.load(folder)


def test_a_run_of_an_earlier_version_gets_its_file_from_its_data(tmp_path):
    run(compose_run(*TINY, "task=glyphs", *SMALL, "model.filters=4"), tmp_path)
    expected = (tmp_path / "learner.json").read_text()
    (tmp_path / "learner.json").unlink()
    innerloop.load(tmp_path)
    assert (tmp_path / "learner.json").read_text() == expected


def test_sixteen_bits_and_transparency(trained, tmp_path):
    """As in training: 12-bit pictures are as bright as 8-bit ones, what is transparent is white."""
    reader = innerloop.load(trained("images")).reader
    eight = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    eight[0, 0] = 255
    Image.fromarray(eight).save(tmp_path / "8.png")
    Image.fromarray(eight.astype(np.uint16) * 16 + 15).save(tmp_path / "12.png")
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    twelve, other, clear = (example.x for example in read_examples(reader, tmp_path))
    assert (twelve - other).abs().max() < 0.005 and clear.min() == 1


def test_sixteen_bits_are_those_of_the_training_set(tmp_path):
    """An image that is darker than the brightest of them stays darker."""
    rng = np.random.default_rng(0)
    for name, deep in {f"class{c}/{i}.png": rng.integers(0, 5000, (8, 8)) for c in range(15) for i in range(4)}.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.append(deep.flat[1:], [65535 if name == "class0/0.png" else 0]).reshape(8, 8).astype(np.uint16)).save(
            tmp_path / "data" / name
        )
    run(
        compose_run(*TINY, "task=images", "task.ways=2", "task.shots=2", "task.queries=2", f"task.root={tmp_path / 'data'}",
                    "task.size=8", "task.channels=1", "model.pool=stride", "model.filters=4"), tmp_path / "run",
    )  # fmt: skip
    reader, data = innerloop.load(tmp_path / "run").reader, build_run(load_config(tmp_path / "run")).data.tasks
    shown = next(read_examples(reader, tmp_path / "data" / "class1" / "0.png")).x
    assert reader.bits == 16 and shown.max() < 0.1
    twelve = replace(reader, bits=12)  # white stays white where an image is brighter than all that was seen
    assert twelve.read(Image.fromarray(np.full((8, 8), 5000, np.uint16)), "it").min() == 1
    np.testing.assert_array_equal((255 * shown).round().numpy(), data.images[data.rows["class1"][0]])


def test_texts_that_are_cut_off_end_as_in_training(tmp_path):
    words = Tokenizer(WordLevel({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3}, unk_token="[PAD]"))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    assert readers.Texts(words.to_str(), 4).read("a a a a", "it").tolist() == [1, 3, 3, 2]
    assert readers.Texts(words.to_str(), 4).read("a", "it").tolist() == [1, 3, 2, 0]


def test_help_shows_the_door_and_nothing_of_the_inside():
    text = pydoc.plaintext.document(innerloop)
    for word in ("load(", "fit(", "predict(", "predict_proba(", "save("):
        assert word in text
    assert "GradientBased" not in text and "Hydra" in text
    assert Examples.__name__ not in text
