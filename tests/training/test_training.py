"""Training learns, selects the best checkpoint, and gives the same on two devices as on one."""

import csv
import json

import pytest
import torch
import yaml
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from innerloop.config import InputError
from innerloop.runs.build import build_run
from innerloop.runs.experiment import load_run, run
from innerloop.runs.rescore import rescore
from innerloop.training.checkpoint import read
from innerloop.training.schedules import warmup
from tests.command_line import call, start
from tests.conftest import TINY, compose_run


@pytest.mark.parametrize(
    "algo", ["maml", "metasgd", "joint", *(pytest.param(a, marks=pytest.mark.slow) for a in ("fomaml", "anil", "reptile"))]
)
def test_a_short_training_beats_the_untrained_network(algo, tmp_path):
    """600 steps leave every method better than adapting from scratch by far more than the interval."""
    own = ["algo.inner_lr=0.01", "optimizer.lr=0.5"] if algo == "reptile" else []
    steps = 1 if algo == "metasgd" else 5
    common = ["threads=1", "outer_steps=600", "meta_batch_size=10", "val_every=300", "test_episodes=200", f"eval_adaptation_steps={steps}"]
    trained = run(compose_run(f"algo={algo}", *own, *common), tmp_path / "trained")
    scratch = run(compose_run("algo=scratch", *common), tmp_path / "scratch")
    assert scratch["outer_steps"] == 0 and trained["outer_steps"] == 600
    assert trained["value"] < scratch["value"] - 2 * scratch["ci95"]


def test_prototypes_learn_to_tell_new_characters_apart(tmp_path):
    common = ["algo=protonet", "task=glyphs", "threads=1", "model.filters=16", "task.train_ways=20", "task.train_queries=5"]
    common += ["meta_batch_size=1", "test_episodes=100", "val_every=100"]
    before = run(compose_run(*common, "outer_steps=0"), tmp_path / "before")
    after = run(compose_run(*common, "outer_steps=100"), tmp_path / "after")
    assert after["value"] > before["value"] + 2 * before["ci95"]


def test_the_best_checkpoint_on_validation_is_the_one_tested(tmp_path):
    """A step size that spoils the network soon after a good start, so that best and last differ."""
    results = run(compose_run(*TINY, "outer_steps=20", "val_every=1", "optimizer.lr=0.2", "val_episodes=20"), tmp_path)
    with open(tmp_path / "csv" / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    losses = {int(row["step"]) + 1: float(row["val/loss"]) for row in rows}
    best = min(losses, key=losses.__getitem__)
    assert len(losses) == 20 and best != 20
    assert torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["global_step"] == best
    assert rescore(tmp_path, [])[0]["curve"] == results["curve"]


def test_what_is_not_learned_is_frozen_and_not_saved(tmp_path, caplog):
    """Neither gradients nor optimizer state nor bytes of a checkpoint; it goes on from there, but not on another base."""
    caplog.set_level("INFO")
    part = ["algo.adapted=head.*", "algo.meta_learned=[head.*,body.1.bias]", *TINY]
    results = run(compose_run(*part, "outer_steps=10", "val_every=5"), tmp_path / "run")
    assert "weights: 1,761 in all, 81 meta-learned, 41 adapted" in caplog.text
    last = read(tmp_path / "run" / "checkpoints" / "step-00000010.ckpt")
    learned = {f"algorithm.model.{name}" for name in ("head.weight", "head.bias", "body.1.bias")}
    assert set(last["state_dict"]) == learned and len(last["optimizer_states"][0]["state"]) == 3
    assert load_run(tmp_path / "run").learner.algorithm.model.body[1].bias.std() > 0
    assert rescore(tmp_path / "run", [])[0]["value"] == results["value"]
    run(compose_run(*part, "outer_steps=5", "val_every=5"), tmp_path / "two")
    further = run(compose_run(*part, "outer_steps=10", "val_every=5", "resume=force"), tmp_path / "two")
    assert further["value"] == results["value"]
    (tmp_path / "two" / "results.json").unlink()
    with pytest.raises(
        InputError, match="trained with another frozen algorithm.model.body.1.weight; take the model, the patterns and the seed"
    ):
        run(compose_run(*part, "outer_steps=15", "val_every=5", "resume=force", "seed=1"), tmp_path / "two")


def test_transductive_false_changes_what_a_batch_norm_net_scores_and_is_recorded(tmp_path):
    cfg = ["task=glyphs", "task.queries=3", *TINY, "test_episodes=10", "algo.inner_lr=0.4"]
    shared = run(compose_run(*cfg), tmp_path / "run")
    alone, _ = rescore(tmp_path / "run", ["transductive=false"])
    assert (shared["transductive"], alone["transductive"]) == (True, False)
    assert shared["curve"] != alone["curve"]
    group = run(compose_run(*cfg, "model.norm=group"), tmp_path / "group")
    assert group["transductive"] is False  # no batch statistics to share


LORA = ["task=grammars", "task.length=12", "model.width=16", "model.heads=2", "model.layers=1", "model.lora_rank=2", "optimizer.lr=0.05"]
LORA += ["algo.adapted=*.lora_*", "algo.meta_learned=*.lora_*", "algo.inner_lr=0.5"]


@pytest.mark.parametrize(
    ("trainer", "part"),
    [
        pytest.param("ddp", [], marks=pytest.mark.slow),  # gradients of two processes: test_two_processes.py
        pytest.param("fsdp", [], marks=pytest.mark.slow),
        pytest.param("ddp", LORA, marks=pytest.mark.slow),
        pytest.param("fsdp", LORA, marks=pytest.mark.slow),
    ],
)
def test_two_processes_give_what_one_gives(trainer, part, tmp_path):
    """Shares of the meta-batch, averaged gradients, gathered scores (an odd number of episodes), and one set of files."""
    overrides = [*part, *TINY, "outer_steps=4", "meta_batch_size=4", "test_episodes=7", f"trainer={trainer}", "trainer.accelerator=cpu"]
    stdout, _ = start("train.py", *overrides, "trainer.devices=2", f"hydra.run.dir={tmp_path / 'two'}")
    assert stdout.count("results: ") == 1
    two = json.loads((tmp_path / "two" / "results.json").read_text())
    again = rescore(tmp_path / "two", ["trainer=cpu"])[0]
    one = run(compose_run(*overrides[:-2]), tmp_path / "one")
    assert two["episodes"] == 7
    for results in (two, again):
        assert [p["value"] for p in results["curve"]] == pytest.approx([p["value"] for p in one["curve"]], rel=1e-5)
        assert results["ci95"] == pytest.approx(one["ci95"], rel=1e-5)
    written = {path.name for path in (tmp_path / "one").iterdir()} | {".hydra", "console.log", "evaluations"}
    if trainer == "fsdp":  # innerloop.load makes them, from the whole weights
        written -= {"learner.json", "model.safetensors"}
    assert {path.name for path in (tmp_path / "two").iterdir()} == written
    trained = {path.name: read(path)["state_dict"] for path in tmp_path.glob("two/checkpoints/*")}
    (tmp_path / "two" / "results.json").unlink()
    (tmp_path / "two" / "checkpoints" / "step-00000004.ckpt").unlink()
    assert "going on after outer step 2" in start("train.py", *overrides, "trainer.devices=2", f"hydra.run.dir={tmp_path / 'two'}")[0]
    for name, state in trained.items():
        again = read(tmp_path / "two" / "checkpoints" / name)["state_dict"]
        assert all(torch.equal(again[key], state[key]) for key in state)


def test_accumulated_meta_batches_are_one_outer_step(tmp_path):
    """Two of 2 tasks are what one of 4 is: as many outer steps, one schedule, the same weights to rounding."""
    common = [*TINY, "outer_steps=8", "val_every=4", "scheduler=cosine", "optimizer.lr=0.1", "algo=maml"]
    whole = run(compose_run(*common, "meta_batch_size=4"), tmp_path / "whole")
    parts = run(compose_run(*common, "meta_batch_size=2", "+trainer.accumulate_grad_batches=2"), tmp_path / "parts")
    assert whole["outer_steps"] == parts["outer_steps"] == 8
    assert parts["val_loss"] == pytest.approx(whole["val_loss"], rel=1e-4) and parts["value"] == pytest.approx(whole["value"], rel=1e-4)
    assert parts["tasks_per_second"] * parts["train_seconds"] == pytest.approx(32)
    last = [read(tmp_path / name / "checkpoints" / "step-00000008.ckpt") for name in ("whole", "parts")]
    assert [state["lr_schedulers"][0]["_last_lr"] for state in last] == [[pytest.approx(0, abs=1e-9)]] * 2
    with pytest.raises(InputError, match="trainer.accumulate_grad_batches must be a whole number >= 1, got 0"):
        run(compose_run(*common, "+trainer.accumulate_grad_batches=0"), tmp_path / "none")


def test_a_learner_predicts_and_says_how_it_is_loaded(tmp_path):
    run(compose_run(*TINY), tmp_path)
    built = load_run(tmp_path)
    episodes = built.data.test_episodes.meta_batch(range(3))
    expected = built.learner.algorithm.predict(built.learner.algorithm.adapt(episodes.support), episodes.query.x)
    assert torch.equal(built.learner(episodes.support, episodes.query.x), expected)
    trainer = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", inference_mode=False)
    (predictions,) = trainer.predict(built.learner, built.data.test_dataloader())
    torch.testing.assert_close(predictions[:3], expected.detach())
    with pytest.raises(InputError, match="a checkpoint is loaded with its run: innerloop.runs.experiment.load_run"):
        type(built.learner).load_from_checkpoint(tmp_path / "checkpoints" / "best.ckpt")


def test_loggers_know_the_settings(tmp_path):
    """Under the names of the command line; a logger whose package is not there is refused in a sentence."""
    run(compose_run(*TINY, "algo.inner_lr=0.03"), tmp_path / "run")
    for logger in ("csv", "tensorboard"):
        settings = yaml.safe_load((tmp_path / "run" / logger / "hparams.yaml").read_text())
        assert settings["algo.inner_lr"] == 0.03 and settings["algo._target_"].endswith(".MAML") and settings["outer_steps"] == 2
    written = b"".join(path.read_bytes() for path in (tmp_path / "run" / "tensorboard").glob("events*"))
    assert b"_hparams_/session_start_info" in written and b"algo.inner_lr" in written and b"final/mse" in written
    missing = "+logger.mine={_target_: lightning.pytorch.loggers.CometLogger}"
    with pytest.raises(InputError, match="CometLogger needs a package that is not installed: "):
        run(compose_run(*TINY, missing), tmp_path / "missing")


def test_stopping_early_is_said_and_goes_no_further(tmp_path):
    """A loss that cannot fall ends the run after `patience` more validations; resumed, it trains no more."""
    stop = ["callbacks=early_stopping", "callbacks.early_stopping.patience=2", "callbacks.early_stopping.min_delta=1"]
    overrides = [*TINY, "outer_steps=20", "val_every=2", "optimizer.lr=1e-12", *stop]
    stdout, _ = call("train.py", *overrides, f"hydra.run.dir={tmp_path}")
    assert json.loads((tmp_path / "results.json").read_text())["outer_steps"] == 6
    assert "stopped early at outer step 6 of 20: val/loss was not better" in stdout
    (tmp_path / "results.json").unlink()
    call("train.py", *overrides, f"hydra.run.dir={tmp_path}")
    assert json.loads((tmp_path / "results.json").read_text())["outer_steps"] == 6


class Kept(Callback):
    """The weights after each outer step."""

    weights: list = []

    def on_train_batch_end(self, trainer, pl_module, *others):
        self.weights.append({name: value.clone() for name, value in pl_module.state_dict().items()})


def test_averaged_weights_are_validated_and_kept(tmp_path):
    """callbacks=ema: best.ckpt has the average; a run in two goes ends with the same bits."""
    common = [*TINY, "outer_steps=8", "optimizer.lr=0.1", "callbacks=ema", "callbacks.ema.decay=0.5"]
    Kept.weights.clear()
    run(compose_run(*common, "val_every=8", "+callbacks.kept={_target_: tests.training.test_training.Kept}"), tmp_path / "one")
    average, *others = Kept.weights
    for state in others:
        average = {name: 0.5 * average[name] + 0.5 * value for name, value in state.items()}
    best = read(tmp_path / "one" / "checkpoints" / "best.ckpt")["state_dict"]
    assert all(torch.allclose(best[name], value, atol=1e-6) for name, value in average.items())
    assert not all(torch.allclose(best[name], value, atol=1e-3) for name, value in others[-1].items())
    whole = run(compose_run(*common, "val_every=4"), tmp_path / "two")
    for name in ("results.json", "checkpoints/step-00000008.ckpt"):
        (tmp_path / "two" / name).unlink()
    assert run(compose_run(*common, "val_every=4"), tmp_path / "two")["curve"] == whole["curve"]


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated")  # Lightning 2.6 calling torch 2.15; runs of ours silence it
@pytest.mark.filterwarnings("ignore:.*(does not have many workers|smaller than the logging|is not resumable|exists and is not empty)")
def test_a_trainer_of_ones_own(tmp_path):
    """Learner and data module as Lightning's users know them: fit, validate, test, resume, a callback that reads outputs."""
    seen = []

    class Losses(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, *others):
            seen.append(outputs["loss"].item())

    def trainer():
        return Trainer(
            callbacks=[Losses(), ModelCheckpoint(tmp_path / "checkpoints", every_n_train_steps=3, save_top_k=-1)],
            max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", inference_mode=False,
            val_check_interval=2, default_root_dir=tmp_path, num_sanity_val_steps=0, use_distributed_sampler=False,
        )  # fmt: skip

    cfg = compose_run(*TINY, "outer_steps=6")
    built, first = build_run(cfg), trainer()
    first.fit(built.learner, datamodule=built.data)
    assert len(seen) == 6 and "val/loss" in first.callback_metrics
    assert first.validate(built.learner, datamodule=built.data, verbose=False)[0]["val/mse"] > 0
    assert first.test(built.learner, datamodule=built.data, verbose=False)[0]["test/mse"] > 0 and built.learner.curve
    (half,) = tmp_path.glob("checkpoints/*step=3.ckpt")
    again = build_run(cfg)
    trainer().fit(again.learner, datamodule=again.data, ckpt_path=half)
    assert seen[6:] == seen[3:6]
    assert all(torch.equal(a, b) for a, b in zip(again.learner.parameters(), built.learner.parameters(), strict=True))


@pytest.mark.parametrize(("then", "last"), [("cosine", 0.0), ("linear", 0.0), ("constant", 1.0)])
def test_the_rate_rises_and_then_falls_or_stays(then, last):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=2.0)
    schedule = warmup(optimizer, 4, then, 12)
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"] / 2)
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.25, 0.4375, 0.625, 0.8125, 1.0])
    assert optimizer.param_groups[0]["lr"] / 2 == pytest.approx(last, abs=1e-7)
    assert all(later <= earlier for earlier, later in zip(rates[4:], rates[5:], strict=False))
    with pytest.raises(InputError, match="scheduler.warmup_steps=12 leaves nothing of 12 outer steps"):
        warmup(optimizer, 12, then, 12)
