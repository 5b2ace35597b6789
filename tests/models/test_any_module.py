"""Any module of torch's trains under every algorithm, to the numbers of the definition, or is refused before training."""

import any_model as script  # of scripts/
import pytest
import torch
from torch import nn
from torch.func import functional_call

from innerloop.algorithms.maml import MAML
from innerloop.config import InputError
from innerloop.engine import forward as engines
from innerloop.engine.forward import output_of
from innerloop.episode import Episode, Examples
from innerloop.models.any_module import make_ready
from innerloop.models.backbone import Backbone
from innerloop.models.timm_models import Timm
from innerloop.models.torchvision_models import Torchvision
from innerloop.objective import CLASSIFICATION
from innerloop.runs.build import build_run
from innerloop.runs.experiment import load_run, run
from innerloop.training.evaluation import adaptation_curve
from tests.conftest import ROOT, TINY, compose_run

LARGE = [name for name in script.MODELS if "torchvision" in name or "timm" in name]
RANDOM = "dropout"
REFUSED = {
    ("`nn.EmbeddingBag`", "MAML"): "derivative for '_embedding_bag_backward' is not implemented.*set algo.first_order=true",
    (
        "the old `weight_norm`",
        "MAML",
    ): "body.1 of Network has the old weight_norm of torch.nn.utils, which cannot be copied; use torch.nn.utils.p",
    ("`spectral_norm`", "MAML"): "body.1 of Network has spectral_norm, which changes its own state at each forward pass",
    ("no `body` and `head`", "ProtoNet"): "replaces the last layer, `head`, and Mute has none; name it so",
    ("no `body` and `head`", "joint"): "needs a model whose last layer is linear and called `head`; Mute has none",
    (
        "a last axis too few",
        "MAML",
    ): r"Squeezed gives \(2,\) numbers for 2 examples, and this task asks for \(2, 3\); change its last layer",
}
LOOP_ALONE = ("`nn.LSTM`", "`nn.GRU`")


def oracle(algorithm, episodes):
    """The outer gradient of MAML by its definition, one task after the other."""
    model, slow = algorithm.model, dict(algorithm.model.named_parameters())
    losses = []
    for x, y, query_x, query_y in zip(*episodes.support, *episodes.query, strict=True):
        fast = slow
        for _ in range(algorithm.adaptation_steps):
            loss = nn.functional.cross_entropy(output_of(functional_call(model, fast, (x,))), y)
            gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=not algorithm.first_order, allow_unused=True)
            fast = {
                name: weight if gradient is None else weight - algorithm.inner_lr * gradient
                for (name, weight), gradient in zip(fast.items(), gradients, strict=True)
            }
        losses.append(nn.functional.cross_entropy(output_of(functional_call(model, fast, (query_x,))), query_y))
    return torch.autograd.grad(torch.stack(losses).sum(), algorithm.trained(), allow_unused=True)


@pytest.mark.usefixtures("float64")
@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated")
@pytest.mark.parametrize("engine", ["vmap", "loop"])
@pytest.mark.parametrize("algorithm", ["MAML", "first order"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in script.MODELS if RANDOM not in n])
def test_the_outer_gradient_is_its_definition(name, algorithm, engine):
    """To 1e-9 in float64, where it is not refused."""
    try:
        built, episodes = script.ready(name, algorithm, engine)
    except InputError:
        assert (name, "MAML") in REFUSED or "mobilenet_v3" in name
        return
    assert built.engine.__name__ == ("loop" if name in LOOP_ALONE else engine)
    for layer in built.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # MobileNet's: the oracle would draw other numbers
    losses, _ = built(episodes)
    found = torch.autograd.grad(losses.sum(), built.trained(), allow_unused=True)
    expected = oracle(built, episodes)
    size = max(1.0, *(gradient.abs().max().item() for gradient in expected))  # MobileNet's are of a million here
    for (weight_name, _), one, other in zip(built.named_parameters(), found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * size, msg=lambda text, n=weight_name: f"{n}: {text}")


@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated")
@pytest.mark.parametrize("algorithm", script.ALGORITHMS)
@pytest.mark.parametrize("name", [name for name in script.MODELS if name not in LARGE])
def test_every_algorithm_takes_it_or_says_what_to_change(name, algorithm):
    """And what it takes it trains, adapts and scores."""
    try:
        built, episodes = script.ready(name, algorithm, "vmap")
    except InputError as error:
        assert (name, algorithm) not in REFUSED or error
        assert any(part == name for part, _ in REFUSED), str(error)
        return
    losses, predictions = built(episodes)
    losses.sum().backward()
    assert predictions.shape[:2] == (2, 6) and any(p.grad is not None for p in built.trained())
    curve = adaptation_curve(built.eval(), episodes, [0, 1, 2], True)
    assert torch.isfinite(curve.measures["loss"]).all()


@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated")
@pytest.mark.parametrize("name, algorithm", REFUSED)
def test_what_is_refused_says_what_to_change(name, algorithm):
    with pytest.raises(InputError, match=REFUSED[name, algorithm]):
        script.ready(name, algorithm, "vmap")


def test_the_table_in_the_docs_is_what_the_script_says():
    """Of a few of its cells."""
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in map(lambda line: line.split("|"), table_lines())}
    assert set(rows) == set(script.MODELS) | {"model"}
    words = {"vmap": "yes", "loop": "loop"}
    for name in ("`nn.TransformerEncoder`", "`nn.LSTM`", "`nn.EmbeddingBag`", "lazy layers", "no `body` and `head`"):
        for algorithm, cell in zip(rows["model"], rows[name], strict=True):
            assert cell.partition(" ")[0] == words.get(script.outcome(name, algorithm, "vmap"), "no"), (name, algorithm)


def table_lines():
    _, _, after = (ROOT / "docs" / "models.md").read_text().partition("## What becomes of which model")
    return [line for line in after.partition("\n## ")[0].splitlines() if line.startswith("|") and "---" not in line]


def test_running_statistics_are_taken_out_with_one_line(caplog):
    caplog.set_level("INFO")
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm2d(2), nn.InstanceNorm2d(2)))
    x = torch.randn(4, 1, 8, 8)
    expected = model.train()(x)
    make_ready(model, x, "episode")
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith("2 norm layers of Sequential take the statistics of the batch")
    torch.testing.assert_close(model.eval()(x), expected)
    caplog.clear()
    make_ready(model, x, "episode")
    assert caplog.messages == [] and list(model.buffers()) == []


MINE = """
from torch import nn


class Mine(nn.Module):
    def __init__(self, input_shape, outputs, width):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, width), nn.BatchNorm1d(width), nn.ReLU())
        self.head = nn.Linear(width, outputs)
        self.body[1].requires_grad_(False)

    def forward(self, x):
        return self.head(self.body(x))
"""


def test_ones_own_model_from_a_folder_on_the_path(tmp_path, monkeypatch):
    """With running statistics and a frozen layer: it is trained, saved, loaded and scored again."""
    (tmp_path / "my_models.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    cfg = compose_run("task=glyphs", "engine=vmap", *TINY)
    mine = {"_target_": "my_models.Mine", "width": 8}
    cfg.model = mine
    results = run(cfg, tmp_path / "run")
    assert results["transductive"] is True and results["engine"] == "vmap"
    trained = load_run(tmp_path / "run", trust=True).learner
    assert trained.algorithm.model.body[2].running_mean is None
    assert "body.1.weight" not in trained.algorithm.slow_weights()
    cfg.model = {**mine, "batch_norm": "running"}
    kept = run(cfg, tmp_path / "running")
    assert kept["transductive"] is False and kept["engine"] == "loop"
    cfg.model = {**mine, "batch_norm": "group"}
    with pytest.raises(InputError, match="model.batch_norm must be one of episode, running, got 'group'"):
        build_run(cfg)


def test_what_is_no_module_is_refused():
    cfg = compose_run()
    cfg.model = {"_target_": "innerloop.objective.Objective", "metric": "x", "loss": 1, "score": 1, "lower_is_better": True}
    with pytest.raises(InputError, match="refuses its arguments"):
        build_run(cfg)


@pytest.mark.parametrize("model", [pytest.param("torchvision", marks=pytest.mark.slow), "timm"])
def test_weights_come_from_a_local_file(model, tmp_path):
    import timm
    import torchvision

    library = torchvision.models.resnet18() if model == "torchvision" else timm.create_model("resnet18")
    torch.save(library.state_dict(), tmp_path / "weights.pth")
    task = ["task=glyphs", f"model={model}", "model.name=resnet18"]
    built = build_run(compose_run(*task, f"model.weights={tmp_path / 'weights.pth'}")).learner.algorithm.model
    assert torch.equal(built.body.layer4[1].conv2.weight, library.layer4[1].conv2.weight)
    torch.save({name: value for name, value in library.state_dict().items() if "layer4" not in name}, tmp_path / "half.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for file, sentence in (
        ("half", "do not fit this network"),
        ("text", "cannot be read as a file of weights"),
        ("none", "cannot be read"),
    ):
        with pytest.raises(InputError, match=f"model.weights=.*{sentence}"):
            build_run(compose_run(*task, f"model.weights={tmp_path / file}.pth"))


QKV = [f"body.blocks.{block}.attn.qkv" for block in (0, 1)]
LINEAR = [f"body.blocks.{block}.{layer}" for block in (0, 1) for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "build, layers",
    [
        (lambda: Timm((3, 14, 14), 3, "vit_tiny_patch16_224", None, 2, ["qkv"], {"depth": 2, "patch_size": 7}), QKV),
        (lambda: Timm((3, 14, 14), 3, "vit_tiny_patch16_224", None, 2, None, {"depth": 2, "patch_size": 7}), LINEAR),
        (lambda: Torchvision((3, 14, 14), 3, "resnet18", None, "small", 2, None, None), None),
    ],
    ids=["of a name", "linear", "convolutions"],
)
def test_small_matrices_beside_its_layers_are_adapted_in_its_place(build, layers):
    """A network without linear layers has them beside its convolutions; both engines take them, to second order."""
    torch.manual_seed(0)
    model = build()
    make_ready(model, torch.zeros(2, 3, 14, 14), "episode")
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # which begin with zeros
            nn.init.normal_(weight, std=0.1)
    episodes = Episode(*(Examples(torch.rand(2, 6, 3, 14, 14), torch.arange(3).repeat(2, 2)) for _ in range(2)))
    gradients = []
    for engine in (engines.vmap, engines.loop):
        algorithm = MAML(model, CLASSIFICATION, engine, 0.1, 2, False, adapted=["*lora_*", "head.*"])
        adapted = set(algorithm.slow_weights()) - {"head.weight", "head.bias"}
        found = {name.partition(".lora_")[0] for name in adapted}
        assert all("lora_" in name for name in adapted) and (found == {*layers} if layers else len(found) == 20)
        losses, _ = algorithm(episodes)
        gradients.append(torch.autograd.grad(losses.sum(), [algorithm.slow_weights()[name] for name in sorted(adapted)]))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name, silent", [("vit_b_16", "out_proj"), ("swin_t", "qkv")])
def test_layers_that_are_not_called_have_none_beside_them(name, silent):
    """torch's and torchvision's attention reads the weights of some of its linear layers, whatever stands beside them."""
    model = Torchvision((3, 32, 32), 3, name, None, "own", 2, None, None)
    beside = {name: weight for name, weight in model.named_parameters() if "lora_" in name}
    for name_of, weight in beside.items():
        if "lora_B" in name_of:
            nn.init.normal_(weight)
    gradients = torch.autograd.grad(model(torch.rand(2, 3, 32, 32)).sum(), list(beside.values()), allow_unused=True)
    assert beside and all(gradient is not None for gradient in gradients)
    with pytest.raises(InputError, match=f"model.lora_targets: .*{silent} is not called by this network, which reads its weights"):
        Torchvision((3, 32, 32), 3, name, None, "own", 2, [silent], None)


def test_they_add_nothing_to_begin_with():
    body, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 6)), torch.rand(2, 3, 8, 8)
    before = body(x)
    network = Backbone(body, 6, 5, 3, 2, None)
    assert torch.equal(network.body(x), before) and "3.lora_A" in " ".join(dict(network.body.named_parameters()))
    with pytest.raises(InputError, match=r"model.lora_targets=\['none'\] do not fit"):
        Backbone(nn.Linear(2, 2), 2, 5, 3, 2, ["none"])


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (["model=torchvision", "model.name=resnet19"], "model.name=resnet19 is no network of torchvision.models; resnet18"),
        (["model=torchvision", "model.name=squeezenet1_0"], "model.name=squeezenet1_0 ends with .*, and a task's head is linear"),
        (
            ["model=torchvision", "model.name=vit_b_16", "+model.settings.image_size=32", "model.stem=small"],
            "has no stem that could be made",
        ),
        (["model=torchvision", "model.name=vit_b_16"], "model.name=vit_b_16 cannot be built with .*indivisible by patch size"),
        (["model=torchvision", "model.stem=tiny"], "model.stem must be one of own, small, got 'tiny'"),
        (["model=timm", "model.name=vit_none"], "model.name=vit_none is no network of timm; vit_tiny_patch16_224"),
        (["model=timm", "+model.settings.depht=3"], "model.name=vit_tiny_patch16_224 cannot be built with .*depht"),
        (["model=timm", "task=sinusoid"], "model=timm takes images"),
        (["model=torchvision", "task=sinusoid"], "model=torchvision takes images of 1 or 3 channels"),
    ],
)
def test_networks_of_other_libraries_say_what_is_wrong(overrides, sentence):
    with pytest.raises(InputError, match=sentence):
        build_run(compose_run("task=glyphs", *overrides))


def test_a_small_stem_sees_small_images_whole():
    sizes = {}
    for stem in ("own", "small"):
        body = Torchvision((3, 28, 28), 3, "resnet18", None, stem, 0, None, None).body
        shapes = []
        body.layer1.register_forward_hook(lambda layer, x, y, shapes=shapes: shapes.append(y.shape[-1]))
        body(torch.zeros(2, 3, 28, 28))
        sizes[stem] = shapes
    assert sizes == {"own": [7], "small": [28]}
