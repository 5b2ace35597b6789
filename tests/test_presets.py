"""What a preset and another algorithm make together."""

import pytest
import yaml

from innerloop.config import InputError
from innerloop.runs.build import build_run
from tests.conftest import ROOT, compose_run

ARTICLE = "experiment=omniglot_maml_article"


def test_learned_steps_are_scored_after_as_many_as_they_were_trained_for():
    assert compose_run(ARTICLE).eval_adaptation_steps == 10
    assert compose_run(ARTICLE, "algo=metasgd").eval_adaptation_steps == 1


def test_a_preset_with_an_outer_rate_says_whose_it_is():
    """Or algo=reptile would take Adam's for its own, of gradient descent."""
    presets = {
        path: yaml.safe_load(path.read_text()) for group in ("experiment", "sweep") for path in (ROOT / "conf" / group).glob("*.yaml")
    }
    rates = {path.stem: about for path, about in presets.items() if (about.get("optimizer") or {}).get("lr")}
    named = {name for name, about in rates.items() if any("override /optimizer" in one for one in about["defaults"])}
    assert {*rates} - named == {"sinusoid_reptile"} and len(named) > 8  # Reptile's own
    cfg = compose_run("experiment=omniglot_5w1s_maml", "algo=reptile")
    assert (cfg.optimizer._target_, cfg.optimizer.lr) == ("torch.optim.Adam", 0.002)


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (["algo=anil", "algo.adapted=['*']"], r"ANIL adapts the head alone, and algo.adapted=\['\*'\] fits more; set algo.adapted=head"),
        (["algo=boil", "algo.adapted=['*']"], "BOIL adapts all but the head, .* fits it; set algo.adapted=body"),
        (["algo=cavia", "algo.adapted=['head.*']"], "model.context=5 numbers stay 0, since nothing adapts or learns them"),
    ],
)
def test_a_preset_does_not_make_another_algorithm_of_it(overrides, sentence):
    with pytest.raises(InputError, match=sentence):
        build_run(compose_run(*overrides))


def test_a_constant_factor_holds_to_the_end():
    """torch's own lasts for five steps."""
    learner = build_run(compose_run("scheduler.factor=0.5", "outer_steps=20", "val_every=20")).learner
    optimizer = learner.optimizer(params=learner.algorithm.trained())
    scheduler = learner.scheduler(optimizer=optimizer)
    for _ in range(19):
        optimizer.step()
        scheduler.step()
    assert scheduler.get_last_lr() == [0.0005]


def test_reptile_takes_each_meta_batch_of_rollouts_once():
    assert compose_run("task=compass", "algo=reptile").reuse == 1 and compose_run("task=compass").reuse == 5
