"""Shares, threads, compiling and checkpointing change time and memory, not numbers."""

import copy
import csv
import gc
import logging
import random
import shutil

import numpy as np
import pytest
import torch
import torch._inductor.config
from torch import nn

import innerloop.training.shares
from innerloop.algorithms.maml import MAML
from innerloop.algorithms.metasgd import MetaSGD
from innerloop.algorithms.reptile import Reptile
from innerloop.config import InputError
from innerloop.engine import forward as engines
from innerloop.episode import Episode, Examples
from innerloop.models.conv4 import Conv4
from innerloop.models.transformer import Transformer
from innerloop.objective import CLASSIFICATION, LANGUAGE
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from innerloop.tasks.images.glyphs import Glyphs
from innerloop.training.data import EpisodeDataset
from innerloop.training.evaluation import adaptation_curve, reported_steps
from innerloop.training.outer_gradient import outer_gradient
from innerloop.training.shares import Execution, TaskShares
from tests.algorithms.test_gradients import CASES, KEPT, build
from tests.conftest import TINY, classification_episodes, compose_run, make_model

TOLERANCE = 1e-9
needs_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")


def said(caplog):
    """What innerloop wrote to its log, but for what takes its time."""
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("innerloop")]
    return [message for message in messages if not message.startswith("compiling the outer gradient")]


def gradients_in_shares(algorithm, episodes, threads=1, **execution):
    """The outer gradient at the second meta-batch: the first one is always plain."""
    shares = TaskShares(algorithm, Execution(**({"forward": algorithm.engine, "chunk_size": None, "compile": False} | execution)), threads)
    for _ in range(2):
        algorithm.zero_grad()
        loss, predictions = shares.outer_loss(episodes)
        loss.backward()
    return loss.detach(), predictions.detach(), {name: p.grad for name, p in algorithm.named_parameters() if p.requires_grad}, shares


def assert_close(algorithm, episodes, **how):
    losses, predictions = algorithm(episodes)
    expected = torch.autograd.grad(losses.mean(), algorithm.trained())
    loss, shared_predictions, gradients, shares = gradients_in_shares(algorithm, episodes, **how)
    torch.testing.assert_close(loss, losses.mean().detach(), rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(shared_predictions, predictions.detach(), rtol=TOLERANCE, atol=TOLERANCE)
    for (name, gradient), wanted in zip(gradients.items(), expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=TOLERANCE, atol=TOLERANCE, msg=lambda text, name=name: f"{name}: {text}")
    return shares


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("how", [{"chunk_size": 1}, {"chunk_size": 2}, {"threads": 2}, {"threads": 2, "chunk_size": 1}], ids=str)
@pytest.mark.parametrize("engine", ["vmap", "loop"])
@pytest.mark.parametrize("kind", ["mlp", "conv4_max"])
@pytest.mark.parametrize("case", ["maml 3 steps", "anil 3 steps", "metasgd 2 steps first order", "reptile adam"])
def test_shares_add_up_to_the_meta_batch(case, kind, engine, how):
    assert_close(*build(case, kind, engine), **how)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("how", [{"threads": 2}, {"threads": 2, "chunk_size": 1}], ids=str)
def test_shares_move_kept_squares_as_the_meta_batch_does(how):
    model, shape = make_model("mlp")
    assert_close(Reptile(model, CLASSIFICATION, engines.vmap, 0.01, **KEPT), classification_episodes(3, shape), **how)


def test_what_does_not_go_with_weights_shared_out_is_said():
    algorithm = build("maml 1 step", "mlp", "vmap")[0]
    for execution, sentence in (
        (Execution(engines.vmap, 1, False), "engine.chunk_size=1"),
        (Execution(engines.vmap, None, True), "compile=True"),
    ):
        with pytest.raises(InputError, match=f"{sentence} does not go with trainer=fsdp"):
            TaskShares(algorithm, execution, 1).take_whole()


class Routed(nn.Module):
    """A part of it serves the tasks alone whose inputs sum to more than nothing, as a mixture of experts is."""

    def __init__(self, outputs):
        super().__init__()
        torch.manual_seed(0)
        self.all, self.some = nn.Linear(4, outputs), nn.Linear(4, outputs)

    def forward(self, x):
        return self.all(x) + self.some(x) if x.sum() > 0 else self.all(x)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("how", [{"chunk_size": 1}, {"threads": 2}, {"threads": 3}], ids=str)
@pytest.mark.parametrize("signs", [(1, -1, 1), (-1, 1, -1), (-1, -1, -1)], ids=str)
def test_weights_that_only_some_tasks_use(signs, how, first_order):
    episodes = classification_episodes(3, (4,))
    sign = torch.tensor(signs).view(3, 1, 1)
    episodes = Episode(*(Examples(part.x * sign, part.y) for part in episodes))
    algorithm = MAML(Routed(3), CLASSIFICATION, engines.loop, 0.1, 2, first_order, adapted="all.*")
    if max(signs) > 0:
        assert_close(algorithm, episodes, **how)
    else:
        assert gradients_in_shares(algorithm, episodes, **how)[2]["model.some.weight"] is None


@pytest.mark.parametrize("draw", [lambda: np.random.rand(), lambda: random.random(), lambda: torch.rand(1).item()])
def test_a_model_that_draws_random_numbers_stays_on_one_thread(draw, caplog):
    class Noisy(Routed):
        def forward(self, x):
            return self.all(x) + draw()

    caplog.set_level(logging.INFO, "innerloop")
    algorithm = MAML(Noisy(3), CLASSIFICATION, engines.loop, 0.1, 1, False, adapted="all.*")
    shares = TaskShares(algorithm, Execution(engines.loop, None, False), threads=2)
    shares.outer_loss(classification_episodes(4, (4,)))
    assert shares.obstacle == "the model draws random numbers" and shares._threads(4) == 1


def test_a_learner_that_trained_on_threads_can_be_copied():
    algorithm, episodes = build("maml 1 step", "mlp", "vmap")
    shares = TaskShares(algorithm, Execution(algorithm.engine, None, False), threads=2)
    for _ in range(2):
        shares.take_gradients(episodes)
    twin = copy.deepcopy(shares)
    assert twin._pool is None and torch.equal(twin.take_gradients(episodes)[0], shares.take_gradients(episodes)[0])


def test_what_compiled_has_other_gradients_runs_uncompiled(caplog, monkeypatch):
    """As a CUDA graph has of a weight that a model reaches by another way than its name."""

    def compiled(algorithm, episodes):
        return lambda episodes: (found := outer_gradient(algorithm, episodes))._replace(gradients=[None, *found.gradients[1:]])

    monkeypatch.setattr(innerloop.training.shares, "compile_outer_gradient", compiled)
    caplog.set_level(logging.INFO, "innerloop")
    algorithm = MAML(make_model("mlp")[0], CLASSIFICATION, engines.vmap, 0.1, 1)
    shares = TaskShares(algorithm, Execution(engines.vmap, None, True), threads=1)
    for _ in range(3):
        algorithm.zero_grad()
        shares.outer_loss(classification_episodes(4, (4,)))[0].backward()
        assert all(parameter.grad is not None for parameter in algorithm.parameters())
    assert caplog.text.count("running uncompiled, since compiled the gradients are others") == 1


@needs_compiler
@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_compiled_shares_on_threads(caplog):
    """Two shapes, 3 tasks and 2, compiled before the threads start; the parameters stay those of the algorithm."""
    caplog.set_level(logging.INFO, "innerloop")
    algorithm, _ = build("maml 1 step", "mlp", "vmap")
    before = list(algorithm.parameters())
    shares = assert_close(algorithm, classification_episodes(5, (4,)), compile=True, threads=2)
    assert len(shares._compiled) == 2 and None not in shares._compiled.values() and not said(caplog)
    assert all(a is b for a, b in zip(algorithm.parameters(), before, strict=True))


@pytest.mark.parametrize("how", [{"chunk_size": 1}, pytest.param({"compile": True}, marks=pytest.mark.slow)], ids=str)
def test_frozen_parameters_stay_as_they_are(how):
    algorithm, episodes = build("anil 3 steps", "mlp", "vmap")
    algorithm.model.body.requires_grad_(False)
    shares = TaskShares(algorithm, Execution(**({"forward": algorithm.engine, "chunk_size": None, "compile": False} | how)), 1)
    for _ in range(2):
        shares.take_gradients(episodes)
    assert all(p.grad is None for p in algorithm.model.body.parameters())
    assert all(p.grad is not None for p in algorithm.model.head.parameters())


def test_gradients_have_the_layout_of_their_parameters():
    """Which fused optimizers rely on: ANIL's convolutions are used directly, so that their gradients come in the convolution's layout."""
    algorithm, episodes = build("anil 3 steps", "conv4_max", "loop")
    shares = TaskShares(algorithm, Execution(algorithm.engine, 1, False), 1)
    for _ in range(2):
        shares.take_gradients(episodes)
    assert all(p.grad.stride() == p.stride() for p in algorithm.parameters())


def test_the_first_meta_batch_is_taken_in_chunks_too():
    sizes = []

    class Seen(MAML):
        def forward(self, episodes):
            sizes.append(len(episodes.support.x))
            return super().forward(episodes)

    model, shape = make_model("mlp")
    gradients_in_shares(Seen(model, CLASSIFICATION, engines.vmap, 0.1, 1, False), classification_episodes(4, shape), chunk_size=1)
    assert sizes == [1] * 8


@needs_compiler
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("case", "engine"),
    [
        ("maml 1 step", "vmap"),
        pytest.param("maml 3 steps", "vmap", marks=pytest.mark.slow),
        pytest.param("metasgd 2 steps", "loop", marks=pytest.mark.slow),
        pytest.param("reptile adam", "vmap", marks=pytest.mark.slow),
    ],
)
def test_the_compiled_outer_gradient_is_the_same(case, engine, caplog):
    caplog.set_level(logging.INFO, "innerloop")
    shares = assert_close(*build(case, "mlp", engine), compile=True)
    assert len(shares._compiled) == 1 and None not in shares._compiled.values() and not said(caplog)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("engine", ["vmap", "loop"])
@pytest.mark.parametrize("kind", ["mlp", "conv4_max", "conv4_stride"])
@pytest.mark.parametrize("case", [case for case in CASES if case.startswith(("maml 3", "anil", "metasgd"))])
def test_checkpointing_the_inner_loop_leaves_the_gradient(case, kind, engine):
    algorithm, episodes = build(case, kind, engine)
    losses, _ = algorithm(episodes)
    expected = torch.autograd.grad(losses.mean(), algorithm.trained())
    algorithm.checkpoint_inner = True
    losses, _ = algorithm(episodes)
    for gradient, wanted in zip(torch.autograd.grad(losses.mean(), algorithm.trained()), expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("engine", ["vmap", "loop"])
@pytest.mark.parametrize("kind", ["mlp", "conv4", "transformer"])
@pytest.mark.parametrize(
    "how", [{}, {"checkpoint_inner": True}, {"first_order": True}, {"chunk_size": 1, "checkpoint_inner": True}], ids=str
)
def test_mixed_precision_is_near_the_whole(how, kind, engine):
    """Forward, both kinds of backward, and whatever saves memory: matrix products in bfloat16, weights and gradients in float32."""
    if kind == "transformer":
        model, objective = Transformer((16,), 32, 32, width=32, heads=2, layers=1, base=None, lora_rank=0, prompt=0), LANGUAGE
        episodes = Episode(*(Examples(*torch.randint(32, (2, 3, 2, 16))) for _ in range(2)))
    else:
        model, shape = make_model("mlp") if kind == "mlp" else (Conv4((1, 16, 16), 3, filters=4, norm="none", pool="stride"), (1, 16, 16))
        objective, episodes = CLASSIFICATION, classification_episodes(3, shape)
    algorithm = MAML(model, objective, getattr(engines, engine), 0.1, 2, how.get("first_order", False), how.get("checkpoint_inner", False))
    whole, dtypes = gradients_in_shares(algorithm, episodes)[2], []
    hooks = [
        m.register_forward_hook(lambda m, _, y: dtypes.append(y.dtype)) for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)
    ]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = gradients_in_shares(algorithm, episodes, chunk_size=how.get("chunk_size"))[2]
    assert set(dtypes) == {torch.bfloat16} and len(hooks) > 1
    assert {gradient.dtype for gradient in mixed.values()} == {torch.float32}
    both = [torch.cat([gradient.flatten() for gradient in found.values()]) for found in (whole, mixed)]
    assert 0 < (both[0] - both[1]).norm() < 0.03 * both[0].norm()


def saved_bytes(algorithm, episodes):
    """The bytes of the distinct tensors that autograd keeps for the outer gradient."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses, _ = algorithm(episodes)
    return sum(kept.values())


@pytest.mark.parametrize("learner", [MAML, MetaSGD])
def test_with_checkpointing_an_inner_step_keeps_its_fast_weights_alone(learner):
    model, shape = make_model("conv4_max")
    episodes = classification_episodes(3, shape)
    fast_weights = 3 * 4 * sum(p.numel() for p in model.parameters())
    grown = {}
    for checkpointed in (False, True):
        sizes = [saved_bytes(learner(model, CLASSIFICATION, engines.loop, 0.1, k, checkpoint_inner=checkpointed), episodes) for k in (1, 5)]
        grown[checkpointed] = (sizes[1] - sizes[0]) / 4
    assert grown[False] > 20 * fast_weights and grown[True] < 3 * fast_weights


class Noisy(nn.Module):
    """Draws random numbers in training."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5)), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.body(x))


def test_random_numbers_in_the_model_keep_its_tasks_on_one_thread(caplog):
    caplog.set_level(logging.INFO, "innerloop")
    episodes = classification_episodes(4, (4,))
    drawn = []
    for threads in (1, 2):
        torch.manual_seed(0)
        algorithm = MAML(Noisy(), CLASSIFICATION, engines.loop, 0.1, 1, False)
        drawn.append(gradients_in_shares(algorithm, episodes, threads)[2])
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    assert said(caplog) == ["the model draws random numbers: one share at a time, not compiled"]


def test_without_a_compiler_the_run_goes_on_and_says_so(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "innerloop")
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/no/such/compiler",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    model, shape = make_model("mlp", ways=4)
    torch.compiler.reset()
    loss, *_ = gradients_in_shares(
        MAML(model, CLASSIFICATION, engines.vmap, 0.1, 1, False), classification_episodes(5, shape, 4), compile=True
    )
    assert loss.isfinite()
    assert [message.split(":")[1] for message in said(caplog)] == [" running uncompiled, since compiling failed"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["engine=learn2learn", "engine.compile=true"], "engine.compile=true cannot compile learn2learn's learners"),
        (["engine.compile=true", "algo.checkpoint_inner=true"], "algo.checkpoint_inner=true does not go with engine.compile=true"),
        (["engine=learn2learn", "algo.checkpoint_inner=true"], "algo.checkpoint_inner=true does not go with engine=learn2learn"),
        (["engine.chunk_size=0"], "engine.chunk_size must be a whole number >= 1, got 0"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        run(compose_run(*TINY, *overrides), tmp_path)


def test_a_run_in_shares_gives_the_same_result(tmp_path):
    common = ["task=glyphs", "model.filters=8", *TINY, "outer_steps=4", "meta_batch_size=4", "test_episodes=6", "eval_batch_size=6"]
    shares = (["threads=1"], ["threads=2"], ["threads=2", "engine.chunk_size=1"], ["algo.checkpoint_inner=true"])
    results = [run(compose_run(*common, *how), tmp_path / str(i)) for i, how in enumerate(shares)]
    for result in results[1:]:
        for point, expected in zip(result["curve"], results[0]["curve"], strict=True):
            assert point == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_evaluation_does_not_grow():
    """2,000 episodes leave as many tensors alive as 100 do."""
    tasks = Glyphs(5, 1, 2, 5, 1, 2)
    cfg = compose_run("task=glyphs", "model.filters=4", *TINY)
    algorithm = build_run(cfg).learner.algorithm
    episodes = EpisodeDataset(tasks.distribution("test"), 2000, (0, 0))

    def alive():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    counts = []
    for start in range(0, 2000, 100):
        curve = adaptation_curve(algorithm, episodes.meta_batch(range(start, start + 100)), reported_steps(3), transductive=True)
        assert not curve.measures["loss"].requires_grad
        del curve
        counts.append(alive())
    assert counts[-1] <= counts[0]


@pytest.mark.parametrize("how", [[], ["engine.chunk_size=2"], ["task=glyphs", "model.filters=4", "threads=2"]], ids=str)
def test_several_steps_at_once_are_the_same_steps(how, tmp_path):
    """To the last bit, with the same steps in the log."""
    rows, results = [], []
    for several in (1, 5):
        common = ["outer_steps=20", "val_every=10", "scheduler=cosine", "trainer.log_every_n_steps=5", f"steps_at_once={several}"]
        results.append(run(compose_run(*TINY, *how, *common), tmp_path / str(several)))
        with open(tmp_path / str(several) / "csv" / "metrics.csv") as file:
            rows.append([(row["step"], row["train/loss"], row["val/loss"], row["test/loss"]) for row in csv.DictReader(file)])
    assert rows[0] == rows[1] and len(rows[0]) == 7
    assert results[0]["curve"] == results[1]["curve"] and results[0]["outer_steps"] == results[1]["outer_steps"] == 20


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["steps_at_once=3"], "outer_steps=2 and val_every=2 must be multiples of steps_at_once=3"),
        (["steps_at_once=0"], "steps_at_once must be a whole number >= 1, got 0"),
        (["steps_at_once=2", "trainer=ddp"], "steps_at_once=2 runs on one device"),
        (["steps_at_once=2", "trainer.gradient_clip_val=1.0"], "steps_at_once=2 does without gradient clipping"),
        (
            ["steps_at_once=2", "trainer.precision=bf16-mixed"],
            "steps_at_once=2 does without gradient clipping",
        ),
    ],
)
def test_several_steps_at_once_have_their_conditions(overrides, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        run(compose_run(*TINY, *overrides), tmp_path)
