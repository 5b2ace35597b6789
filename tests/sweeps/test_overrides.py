"""A typo is one sentence, with what was meant, before anything starts."""

import pytest

from innerloop.config import InputError
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from innerloop.sweeps.overrides import check_arguments
from innerloop.sweeps.overrides import sentence as sentence_for
from tests.command_line import call
from tests.conftest import TINY, compose_run


@pytest.mark.parametrize(
    "typed, sentence",
    [
        ("+outer_step=5", "+outer_step is no setting, did you mean outer_steps?"),
        ("++outer_stepss=5", "outer_stepss is no setting, did you mean outer_steps?"),
        ("outer_step=5", "outer_step is no setting here, did you mean outer_steps?"),
        ("meta_batchsize=5", "meta_batchsize is no setting here, did you mean meta_batch_size?"),
        ("seeed=1", "seeed is no setting here, did you mean seed?"),
        ("optimzer=adam", "optimzer is no setting here, did you mean optimizer?"),
        ("algo.inner_lrr=1", "algo.inner_lrr is no setting here, did you mean algo.inner_lr?"),
        ("algo.adaption_steps=1", "algo.adaption_steps is no setting here, did you mean algo.adaptation_steps?"),
        ("engine.compil=true", "engine.compil is no setting here, did you mean engine.compile?"),
        ("model.hiden=[4]", "model.hiden is no setting here, did you mean model.hidden?"),
        ("trainer.presicion=64", "trainer.presicion is no setting here, did you mean trainer.precision?"),
        ("hydra.sweep.dirr=x", "hydra.sweep.dirr is no setting here, did you mean hydra.sweep.dir?"),
        ("~callbacks.chekpoint", "callbacks.chekpoint is no setting here, did you mean callbacks.checkpoint?"),
        ("algo=mmal", "algo=mmal is no choice, did you mean maml?; there are alfa, anil, baseline,"),
        ("task=omniglott", "task=omniglott is no choice, did you mean omniglot?"),
        ("model=conv", "model=conv is no choice, did you mean conv4?"),
        ("trainer=gup", "trainer=gup is no choice, did you mean gpu?"),
        ("algo=lora/fomalm", "algo=lora/fomalm is no choice, did you mean lora/fomaml?"),
        ("experiment=omniglot_5w1s_mml", "did you mean omniglot_5w1s_maml?"),
        ("hydra/launcher=jobilb", "hydra/launcher=jobilb is no choice, did you mean joblib?"),
        ("algo=maml,reptlie", "algo=reptlie is no choice, did you mean reptile?"),
        ("+seed=1", "seed is there already; write seed=VALUE without the +"),
        ("seed=zero", "seed=zero does not fit: Value 'zero' of type 'str' could not be converted to Integer"),
        ("outer_steps=1.5", "outer_steps=1.5 does not fit: Value '1.5' of type 'float' could not be converted to Integer"),
        ("threads=[1", "'threads=[1' cannot be read"),
        ("task.root", "'task.root' cannot be read"),
    ],
)
def test_what_was_meant(typed, sentence):
    with pytest.raises(InputError) as refused:
        check_arguments([typed])
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "typed",
    [
        ["-m", "algo=maml,reptile", "algo.inner_lr=0.01,0.1", "seed=0,1"],
        ["-m", "algo.inner_lr=interval(0.1,1)", "optimizer.lr=tag(log,interval(0.001,0.1))", "hydra/sweeper=optuna"],
        ["-m", "seed=range(3)", "hydra/launcher=submitit_local", "hydra.sweep.dir=x"],
        ["-m", "algo.adaptation_steps=choice(1,2)", "sweep=search_maml"],
        ["+callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss}", "~logger"],
        ["+model.batch_norm=running", "model=conv4", "task=omniglot", "task.root=/a b/c"],
        ["+trainer.accumulate_grad_batches=2", "trainer=ddp", "++seed=3"],
        ["outer_step=5", "--help"],
        ["outer_step=5", "--config-dir=elsewhere"],
        ["algo=maml", "--cfg", "job"],
    ],
    ids=str,
)
def test_what_is_right_goes_through(typed):
    check_arguments(typed)


def test_on_the_command_line_it_is_one_line():
    assert call("train.py", "+outer_step=5", code="Error: +outer_step is no setting, did you mean outer_steps?; --help lists them")


def test_a_setting_that_nothing_would_read_is_refused_wherever_it_comes_from(tmp_path):
    with pytest.raises(InputError, match="outer_step is no setting, did you mean outer_steps.; nothing would read it"):
        run(compose_run(*TINY, "+outer_step=5"), tmp_path)
    with pytest.raises(InputError, match="MLP refuses its arguments: .*unexpected keyword argument 'hiden', did you mean hidden?"):
        build_run(compose_run("+model.hiden=[3]"))
    with pytest.raises(InputError, match="stands where a class is to be built"):
        run(compose_run(*TINY, "+callbacks.x=1"), tmp_path / "x")


def test_what_needs_another_package_says_which():
    for text, missing, extra in (
        ("hydra/launcher=ray", "hydra/launcher/ray", "ray"),
        ("sweep=search_maml", "hydra/sweeper/optuna", "search"),
    ):
        place = missing.rpartition("/")[0]
        error = Exception(f"In 'x': Could not find '{missing}'\n\nAvailable options in '{place}':\n\tbasic\nConfig search path")
        assert sentence_for([text], error).endswith(f" needs a package that is not installed; pip install 'innerloop[{extra}]'")
