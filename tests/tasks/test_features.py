"""Features of a frozen network in the place of images."""

import lite0  # of scripts/
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

import innerloop
from innerloop.config import InputError
from innerloop.models.eyes import Eyes
from innerloop.models.hf_eyes import HuggingFaceEyes
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from innerloop.tasks import features
from innerloop.use.export import export_learner, export_network
from tests.conftest import DATA, TINY, compose_run
from tests.tiny_data import image_files, texts, write_csv, write_tree

SMALL = ["task.ways=2", "task.queries=2", "task.shots=1", "task.size=16"]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def small_eyes(**changed):
    settings = {"library": "torchvision", "name": "resnet18", "weights": None, "size": 32, "mean": None, "std": None, "settings": {}}
    return Eyes(**settings | changed)


@pytest.fixture
def images(tmp_path):
    root = write_tree(tmp_path / "images", image_files())
    return [*TINY, "task=images", f"task.root={root}", *SMALL, "backbone=torchvision", "backbone.size=32", "model=adapter"]


def test_they_are_those_of_a_fresh_pass(images):
    data = build_run(compose_run(*images)).data
    plain = build_run(compose_run(*[o for o in images if not o.startswith(("backbone", "model"))])).data
    see = small_eyes()
    for ours, theirs in zip(data.test_episodes[3], plain.test_episodes[3], strict=True):
        expected = see((theirs.x * 255).round().to(torch.uint8).numpy())
        np.testing.assert_allclose(ours.x.numpy(), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(ours.y, theirs.y)


def test_the_second_time_nothing_is_looked_at(images, monkeypatch):
    first = build_run(compose_run(*images)).data.test_episodes[0]
    monkeypatch.setattr(Eyes, "__call__", None)
    again = build_run(compose_run(*images)).data.test_episodes[0]
    assert torch.equal(first.support.x, again.support.x)


def test_another_image_or_network_is_looked_at_anew(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (4, 3, 16, 16), dtype=np.uint8)
    seen = []

    class Counting:
        key, width, vocabulary = "a", 2, 0

        def __call__(self, images):
            seen.append(len(images))
            return images.reshape(len(images), -1)[:, :2].astype(np.float32)

    see, shown = Counting(), [(0, 0), (1, 0), (1, 1)]
    first = features.features_of(rows, shown, see)
    assert np.array_equal(first, features.features_of(rows, shown, see)) and seen == [3]
    assert np.array_equal(first[2], np.rot90(rows[1], 1, axes=(-2, -1)).reshape(-1)[:2])  # turned
    changed = rows.copy()
    changed[1, 0, 0, 0] ^= 1
    assert features.features_of(changed, shown, see)[1, 0] == changed[1, 0, 0, 0] and seen == [3, 3]
    see.key = "b"
    features.features_of(rows, shown, see)
    assert seen == [3, 3, 3]
    for file in (tmp_path / "cache").rglob("*.prepared"):
        file.write_bytes(file.read_bytes()[:-40] + b"0" * 40)
    assert np.array_equal(first, features.features_of(rows, shown, see)) and len(seen) == 4  # damaged


def test_statistics_and_weights_stay_as_they_are():
    see = small_eyes()
    before = {name: value.clone() for name, value in see.body.state_dict().items()}
    rows = np.random.default_rng(0).integers(0, 256, (6, 1, 16, 16), dtype=np.uint8)
    together = see(rows)
    np.testing.assert_allclose(together[:1], see(rows[:1]), rtol=1e-4, atol=1e-5)  # no batch statistics
    assert all(torch.equal(before[name], value) for name, value in see.body.state_dict().items())
    assert see.width == 512 and together.shape == (6, 512)


def test_the_key_names_all_that_changes_a_feature(tmp_path):
    torch.manual_seed(3)
    file = tmp_path / "weights.pth"
    torch.save(small_eyes().body.state_dict(), file)
    keys = [small_eyes(**changed).key for changed in ({}, {"size": 48}, {"mean": [0.5] * 3}, {"name": "resnet34"}, {"weights": str(file)})]
    assert len({*keys}) == 5 and small_eyes().key == keys[0]


@pytest.mark.parametrize("algo", ["nearest_mean", "protonet", "maml", "ridge", "joint", "baseline"])
def test_learners_run_on_features(algo, images, tmp_path):
    results = run(compose_run(*images, f"algo={algo}"), tmp_path / "run")
    assert results["value"] is not None and results["task"] == "images"


def test_what_was_trained_on_features_is_used_on_files(images, tmp_path):
    """Its learner sees what episodes have, as long as the backbone is what it was."""
    torch.manual_seed(3)
    file = tmp_path / "weights.pth"
    torch.save(small_eyes().body.state_dict(), file)
    settings = [*images, "algo=protonet", f"backbone.weights={file}"]
    run(compose_run(*settings), tmp_path / "run")
    learner = innerloop.load(tmp_path / "run")
    episodes = build_run(compose_run(*settings)).data.tasks.distribution("test")
    support = tmp_path / "support"
    for name, rows in list(zip(episodes.names, episodes.members, strict=True))[:2]:
        files = sorted((tmp_path / "images" / name).iterdir())
        for row, path in zip(rows, files, strict=True):
            np.testing.assert_allclose(learner.reader.read(path.read_bytes(), path.name), episodes.inputs[row], rtol=1e-4, atol=1e-4)
        (support / name).mkdir(parents=True)
        (support / name / files[0].name).write_bytes(files[0].read_bytes())
    learner.fit(support)
    assert set(learner.predict(tmp_path / "images" / episodes.names[0])) <= {*episodes.names[:2]}
    learner.save(tmp_path / "saved")
    assert innerloop.load(tmp_path / "saved").predict(support).tolist() == learner.predict(support).tolist()
    with pytest.raises(InputError, match="answers to features of a backbone, which no exported network holds; innerloop predict can"):
        export_network(tmp_path / "run", tmp_path / "network", str(support), None, False)
    export_learner(tmp_path / "run", tmp_path / "exported")
    assert "A frozen network sees them first" in (tmp_path / "exported" / "README.md").read_text()
    torch.save({name: value + 1 if value.is_floating_point() else value for name, value in small_eyes().body.state_dict().items()}, file)
    with pytest.raises(InputError, match="names has other weights now than when it was trained; put those back"):
        innerloop.load(tmp_path / "run")


@pytest.fixture
def vit(tmp_path):
    """A vision transformer in a folder, and what else transformers writes there."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.ViTModel(transformers.ViTConfig(image_size=32, patch_size=8, **sizes)).save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}')
    return tmp_path / "vit"


def test_a_network_of_transformers_sees_images(vit, images, tmp_path):
    """Its features are the class token of the library's own model; other weights have another key."""
    rows = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    see = HuggingFaceEyes(str(vit), None, None, None)
    library = transformers.ViTModel.from_pretrained(vit).eval()
    with torch.no_grad():
        expected = library(pixel_values=(torch.from_numpy(rows) / 255 - 0.5) / 0.25).last_hidden_state[:, 0]
    np.testing.assert_allclose(see(rows), expected, rtol=1e-4, atol=1e-5)
    settings = [o for o in images if not o.startswith("backbone")] + ["backbone=hf", f"backbone.path={vit}"]
    results = run(compose_run(*settings, "algo=nearest_mean"), tmp_path / "run")
    assert results["task"] == "images" and len(innerloop.load(tmp_path / "run").reader.read(rows[0].transpose(1, 2, 0), "x")) == 12
    next(library.parameters()).data += 1
    library.save_pretrained(vit)
    keys = {see.key, HuggingFaceEyes(str(vit), None, None, None).key, HuggingFaceEyes(str(vit), None, [0.1] * 3, None).key}
    assert len(keys) == 3


def test_without_a_class_token_it_is_the_mean_over_places(tmp_path):
    """Swin has none; what masks at random has no features; what takes both images and texts is no backbone."""
    torch.manual_seed(0)
    config = transformers.SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)
    library = transformers.SwinModel(config).eval()
    library.save_pretrained(tmp_path / "swin")
    rows = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    see = HuggingFaceEyes(str(tmp_path / "swin"), None, [0.5] * 3, [0.25] * 3)
    with torch.no_grad():
        expected = library(pixel_values=(torch.from_numpy(rows) / 255 - 0.5) / 0.25).last_hidden_state.mean(1)
    np.testing.assert_allclose(see(rows), expected, rtol=1e-4, atol=1e-5)
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    masked = transformers.ViTMAEConfig(image_size=32, patch_size=8, **sizes)
    transformers.ViTMAEModel(masked).save_pretrained(tmp_path / "mae")
    with pytest.raises(InputError, match="sees the same image otherwise each time, so that it has no features"):
        HuggingFaceEyes(str(tmp_path / "mae"), None, None, None)
    both = transformers.CLIPConfig(text_config={**sizes, "vocab_size": 9}, vision_config={**sizes, "image_size": 32, "patch_size": 8})
    transformers.CLIPModel(both).save_pretrained(tmp_path / "clip")
    with pytest.raises(InputError, match="takes neither images nor tokens alone .*; use a ViT, a BERT or the like"):
        HuggingFaceEyes(str(tmp_path / "clip"), None, None, None)


def test_a_network_of_transformers_sees_texts(tmp_path):
    torch.manual_seed(0)
    words = sorted({word for text, _ in texts()[1:] for word in text.split()})
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["[PAD]", "[UNK]", *words])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 16}
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=3000, **sizes)).eval()
    bert.save_pretrained(tmp_path / "bert")
    made.save(str(tmp_path / "bert" / "tokenizer.json"))
    path = write_csv(tmp_path / "texts.csv", texts())
    settings = [
        *TINY, "task=text_csv", f"task.path={path}", f"task.tokenizer={tmp_path / 'bert'}", "task.length=12", *SMALL[:3],
        "backbone=hf", f"backbone.path={tmp_path / 'bert'}", "model=adapter",
    ]  # fmt: skip
    run(compose_run(*settings, "algo=protonet"), tmp_path / "run")
    with torch.no_grad():
        text = texts()[1][0]
        tokens = torch.tensor([made.encode(text).ids[:12]])
        expected = bert(tokens).last_hidden_state.mean(1)[0]
    np.testing.assert_allclose(innerloop.load(tmp_path / "run").reader.read(text, "a text"), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="has tokens of its own; set task.tokenizer to the folder that has its tokenizer.json"):
        build_run(compose_run(*[o for o in settings if not o.startswith("task.tokenizer")]))
    with pytest.raises(InputError, match="the backbone takes texts of 16 tokens at most, got 20; lower task.length"):
        build_run(compose_run(*settings, "task.length=20"))
    with pytest.raises(InputError, match="this backbone sees texts of classes, and this task has none"):
        build_run(compose_run(*[o for o in settings if not o.startswith("task")], "task=glyphs"))
    with pytest.raises(InputError, match=r"backbone.path=None has no config.json; name the folder of a model"):
        build_run(compose_run(*TINY, "task=glyphs", "backbone=hf"))


def test_published_weights_are_those_of_the_network(tmp_path):
    """Of the script that writes them, and that another network refuses."""
    torch.save(lite0.weights(), tmp_path / "lite0.pth")
    see = small_eyes(library="timm", name="tf_efficientnet_lite0", weights=str(tmp_path / "lite0.pth"))
    assert see.width == 1280 and see.mean.flatten().tolist() == pytest.approx(see.body.pretrained_cfg["mean"])
    rows = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 40), dtype=np.uint8)
    assert see(rows).shape == (2, 1280) and np.isfinite(see(rows)).all()
    with pytest.raises(InputError, match="do not fit this network"):
        small_eyes(library="timm", name="resnet18", weights=str(tmp_path / "lite0.pth"))


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "caltech101").is_dir(), reason="no data; set INNERLOOP_DATA")
def test_they_tell_photographs_apart_that_they_were_not_trained_on(tmp_path, monkeypatch):
    """Caltech-101 shown at 128 pixels, nearest mean by cosine; the second time no image is looked at."""
    torch.save(lite0.weights(), tmp_path / "lite0.pth")
    settings = [
        "task=caltech101", f"task.root={DATA / 'caltech101'}", "task.size=84", "backbone=timm",
        f"backbone.weights={tmp_path / 'lite0.pth'}", "model=adapter", "algo=nearest_mean", "algo.metric=cosine",
    ]  # fmt: skip
    first = run(compose_run(*settings), tmp_path / "first")
    assert first["episodes"] == 600 and first["value"] == pytest.approx(0.826, abs=0.015)
    monkeypatch.setattr(Eyes, "__call__", None)
    again = run(compose_run(*settings, "task.shots=5"), tmp_path / "again")
    assert again["value"] == pytest.approx(0.938, abs=0.01)


def test_an_adapter_begins_as_it_is(images):
    euclidean, nearest = (build_run(compose_run(*images, f"algo={algo}")) for algo in ("protonet", "nearest_mean"))
    episodes = euclidean.data.test_episodes.meta_batch(range(2))
    ours, theirs = (r.learner.eval()(episodes.support, episodes.query.x) for r in (euclidean, nearest))
    torch.testing.assert_close(ours, theirs)


def test_by_cosine_no_length_counts(images):
    algorithm = build_run(compose_run(*images, "algo=nearest_mean", "algo.metric=cosine")).learner.algorithm.eval()
    episodes = build_run(compose_run(*images)).data.test_episodes.meta_batch(range(2))
    scaled = 3 * episodes.query.x
    adapted = algorithm.adapt(episodes.support)
    torch.testing.assert_close(algorithm.predict(adapted, scaled), algorithm.predict(adapted, episodes.query.x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        ([*TINY, "backbone=torchvision"], "this backbone sees images of classes, and this task has none"),
        ([*TINY, "task=tabular", "backbone=torchvision"], "this backbone sees images of classes, and this task has none"),
        ([*TINY, "task=glyphs", "model=adapter"], r"model=adapter takes features, and inputs here are \(1, 28, 28\)"),
        ([*TINY, "task=glyphs", "backbone=torchvision", "backbone.weights=nowhere.pth"], "weights=nowhere.pth cannot be read"),
        ([*TINY, "task=glyphs", "backbone=torchvision", "backbone.mean=[1,2]"], "backbone.mean and backbone.std must be three numbers"),
        ([*TINY, "task=glyphs", "backbone=torchvision", "backbone.name=resnet"], "name=resnet is no network of torchvision"),
    ],
)
def test_what_does_not_fit_is_said(overrides, sentence):
    with pytest.raises(InputError, match=sentence):
        build_run(compose_run(*overrides))
