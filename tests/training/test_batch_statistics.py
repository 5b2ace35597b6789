"""transductive=training: batch norm at test by what training episodes are like."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from innerloop.algorithms.protonet import ProtoNet
from innerloop.config import InputError
from innerloop.engine import forward as engines
from innerloop.episode import Episode
from innerloop.objective import CLASSIFICATION
from innerloop.runs.build import build_run, build_trainer
from innerloop.runs.experiment import load_run, run
from innerloop.runs.rescore import rescore
from innerloop.training.batch_statistics import batch_norms, statistics_known, statistics_of_first, statistics_of_training
from innerloop.training.evaluation import predict_queries
from tests.conftest import TINY, classification_episodes, compose_run, make_model

PROTONET = ["task=glyphs", "algo=protonet", "model.filters=8", *TINY]


@pytest.fixture
def protonet():
    model, shape = make_model("conv4_stride")
    return ProtoNet(model.double(), CLASSIFICATION, engines.vmap, 3, 3).eval(), shape


def episodes_of(shape, seed):
    torch.manual_seed(seed)
    episodes = classification_episodes(1, shape)
    return Episode(*(part._replace(x=part.x.double() + seed) for part in episodes))


@pytest.mark.parametrize("engine", [engines.vmap, engines.loop])
def test_they_are_torchs_running_statistics_after_training(protonet, engine):
    """Of a network that saw the same batches in training mode and averages over all of them; torch divides a variance by n - 1."""
    algorithm, shape = protonet
    algorithm.engine = engine
    meta_batches = [episodes_of(shape, seed) for seed in range(3)]
    running = copy.deepcopy(algorithm.model).train()
    for layer in batch_norms(running):
        layer.__init__(layer.num_features, momentum=None, dtype=torch.float64)
    counts = {id(layer): [] for layer in running.modules() if isinstance(layer, nn.BatchNorm2d)}
    for layer in running.modules():
        if id(layer) in counts:
            layer.register_forward_pre_hook(lambda layer, x: counts[id(layer)].append(x[0].numel() // x[0].shape[1]))
    for support, query in meta_batches:
        running(support.x[0])
        running(query.x[0])

    statistics = statistics_of_training(algorithm, iter(meta_batches))

    layers = [layer for layer in running.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(statistics) == len(layers) > 1
    for layer, (mean, variance) in zip(layers, statistics, strict=True):
        torch.testing.assert_close(mean, layer.running_mean, rtol=1e-10, atol=1e-12)
        (count,) = set(counts[id(layer)])  # support and query are as many here
        torch.testing.assert_close(variance * count / (count - 1), layer.running_var, rtol=1e-10, atol=1e-12)
        layer.running_var.copy_(variance)
    assert algorithm.engine is engine and not algorithm.training and all("forward" not in vars(m) for m in algorithm.modules())

    episodes = episodes_of(shape, 7)
    with torch.no_grad(), statistics_known(algorithm, statistics):
        found = predict_queries(algorithm, algorithm.adapt(episodes.support), episodes, "training")
    alone = ProtoNet(running, CLASSIFICATION, engines.loop, 3, 3).eval()
    with torch.no_grad():
        wanted = alone.predict(alone.adapt(episodes.support), episodes.query.x)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_a_prediction_depends_on_no_other_query(protonet):
    algorithm, shape = protonet
    statistics = statistics_of_training(algorithm, [episodes_of(shape, 0)])
    episodes = episodes_of(shape, 1)
    with torch.no_grad(), statistics_known(algorithm, statistics):
        adapted = algorithm.adapt(episodes.support)
        before = predict_queries(algorithm, adapted, episodes, "training")
        episodes.query.x[:, 1:] *= 0.5
        after = predict_queries(algorithm, adapted, episodes, "training")
    assert torch.equal(before[:, 0], after[:, 0]) and not torch.equal(before[:, 1:], after[:, 1:])


def test_a_norm_that_is_never_run_stays_as_it_is(protonet):
    algorithm, shape = protonet
    algorithm.model.idle = nn.BatchNorm2d(2, track_running_stats=False)
    statistics = statistics_of_training(algorithm, [episodes_of(shape, 0)])
    assert [known is None for known in statistics] == [layer is algorithm.model.idle for layer in batch_norms(algorithm)]
    with statistics_known(algorithm, statistics):
        assert algorithm.predict(algorithm.adapt(episodes_of(shape, 1).support), episodes_of(shape, 1).query.x).isfinite().all()


@pytest.mark.parametrize("algo", ["protonet", "baseline", "anil"])
def test_a_run_is_scored_so_and_trained_as_ever(algo, tmp_path):
    results = {}
    for way in ("true", "training"):
        results[way] = run(compose_run(*PROTONET, f"algo={algo}", f"transductive={way}"), tmp_path / way)
    trained = [load_run(tmp_path / way).learner.state_dict() for way in results]
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in trained), strict=True))
    assert results["true"]["transductive"] and not results["training"]["transductive"]
    assert results["true"]["curve"] != results["training"]["curve"]
    again, _ = rescore(tmp_path / "true", ["transductive=training"])
    assert again["curve"] == results["training"]["curve"]


def test_it_is_refused_where_statistics_fit_no_task(tmp_path):
    with pytest.raises(InputError, match="MAML gives each task a body of its own"):
        run(compose_run(*PROTONET, "algo=maml", "transductive=training"), tmp_path)
    run(compose_run(*PROTONET, "outer_steps=0"), tmp_path)
    before = (tmp_path / "config.yaml").read_text()
    with pytest.raises(InputError, match="no training episodes to take statistics of: outer_steps is 0"):
        run(compose_run(*PROTONET, "outer_steps=0", "transductive=training", "resume=force"), tmp_path)
    assert (tmp_path / "results.json").exists() and (tmp_path / "config.yaml").read_text() == before


def test_a_run_in_double_precision(tmp_path):
    results = run(compose_run(*PROTONET, "transductive=training", "trainer.precision=64-true"), tmp_path)
    assert 0 <= results["value"] <= 1 and (tmp_path / "learner.json").exists()


@pytest.mark.parametrize("way", ["first", "known"])
def test_what_a_norm_does_after_normalising_is_kept(way):
    """timm's norms have their activation inside."""
    layer = BatchNormAct2d(3, track_running_stats=False).eval()
    x = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.5, -0.5, 0.0]))
        wanted = layer(x)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        with statistics_of_first(layer, 8) if way == "first" else statistics_known(layer, [(mean, variance)]):
            found = layer(x)
    assert wanted.min() == 0
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_it_asks_for_the_data_module(tmp_path):
    built = build_run(compose_run(*PROTONET, "transductive=training"))
    trainer = build_trainer(built.cfg)
    with pytest.raises(InputError, match="give the trainer datamodule=, not data loaders"):
        trainer.test(built.learner, built.data.test_dataloader(), verbose=False)
