"""A run that somebody else made runs no code of their choice."""

import pytest
from omegaconf import OmegaConf

from innerloop.config import InputError
from innerloop.runs.experiment import load_run, run
from innerloop.runs.rescore import rescore
from innerloop.runs.trust import trusted_config
from tests.conftest import TINY, compose_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("finished")
    run(compose_run(*TINY), directory)
    return directory


def strangers(finished, folder, key, value):
    """The run with one setting changed."""
    cfg = OmegaConf.load(finished / "config.yaml")
    OmegaConf.update(cfg, key, value, force_add=True)
    OmegaConf.save(cfg, folder / "config.yaml")
    return folder


@pytest.mark.parametrize(
    "key, value",
    [
        ("task", {"_target_": "sympy.sympify", "_args_": ["__import__('os').system('touch pwned')"]}),
        ("task", {"_target_": "os.system", "command": "touch pwned"}),
        ("task._target_", "innerloop.runs.provenance.subprocess.check_output"),
        ("task._target_", "innerloop.runs.experiment.run"),
        ("task._target_", "innerloop.runs.frozen_episodes.FrozenEpisodes"),
        ("model._target_", "torch.optim.sgd.torch.load"),
        ("optimizer", {"_target_": "hydra.utils.get_method", "path": "os.system"}),
        ("optimizer", {"_target_": "hydra.utils.get_method", "_args_": ["os.system"]}),
        ("engine.forward.path", "os.system"),
        ("callbacks.mine", {"deep": [{"_target_": "builtins.open", "file": "pwned", "mode": "w"}]}),
        ("model.hidden", "${oc.env:HOME}"),
        ("model.hidden", "${oc.env:INNERLOOP_DATA,${oc.env:HOME}}"),
        ("model._target_", "${algo._target_}"),
    ],
)
def test_strange_classes_are_refused(finished, tmp_path, monkeypatch, key, value):
    monkeypatch.chdir(tmp_path)
    directory = strangers(finished, tmp_path, key, value)
    for read in (load_run, lambda path: rescore(path, [])):
        with pytest.raises(
            InputError,
            match="asks for .*, which is neither of innerloop's own kinds nor in the conf.*, and add --trust",
        ):
            read(directory)
    assert not (tmp_path / "pwned").exists()
    trusted_config(directory, trust=True)


@pytest.mark.parametrize(
    "key, value",
    [
        ("optimizer", {"_target_": "torch.optim.AdamW"}),
        ("scheduler", {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 3}),
        ("callbacks.early", {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/loss"}),
        ("task.augment", {"crop": {"_target_": "torchvision.transforms.v2.RandomCrop", "size": 8}}),
        ("task.root", "${oc.env:INNERLOOP_DATA,data}/omniglot"),
        ("engine.forward.path", "innerloop.engine.forward.loop"),
    ],
)
def test_what_does_no_harm_is_let_through(finished, tmp_path, key, value):
    cfg = trusted_config(strangers(finished, tmp_path, key, value), trust=False)
    assert OmegaConf.to_container(cfg)["output_dir"] is not None and OmegaConf.select(cfg, key, throw_on_missing=True) is not None


def test_ones_own_run_is_let_through(finished):
    assert load_run(finished).learner.curve is None
