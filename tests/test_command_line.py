"""What a user types and reads: train.py, sweeps, innerloop eval and table, and one clear sentence for each kind of bad input."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from innerloop import cli
from innerloop.config import InputError
from innerloop.reports.jobs import sweep_rows
from innerloop.runs.experiment import load_run, run
from innerloop.runs.rescore import rescore
from tests.command_line import call, start
from tests.conftest import ROOT, TINY, compose_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run made as a user makes it."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    stdout, stderr = start("train.py", *TINY, f"hydra.run.dir={directory}")
    return directory, stdout, stderr


def test_run_prints_a_table_and_writes_results(finished):
    directory, stdout, stderr = finished
    assert "maml on sinusoid, 4 test episodes" in stdout
    lines = [line for line in stdout.splitlines() if line.startswith("outer step")]  # no bar where the output is no terminal
    assert len(lines) == 1 and re.fullmatch(r"outer step 2/2: val/mse [\d.]+ ± [\d.]+; \d+ tasks/s, 0:00:00 left", lines[0])
    assert "━━ " not in stdout.partition("outer step")[0]
    assert str(directory / "results.json") in stdout
    assert stderr == ""
    results = json.loads((directory / "results.json").read_text())
    keys = "metric value ci95 episodes curve transductive seed algo task engine ways shots queries outer_steps train_seconds"
    keys += " tasks_per_second eval_seconds peak_memory_mb command commit versions hardware config"
    assert set(keys.split()) <= set(results)
    assert (results["algo"], results["task"], results["engine"], results["metric"]) == ("maml", "sinusoid", "vmap", "mse")
    assert results["command"].startswith("python train.py outer_steps=2 ")
    assert [point["step"] for point in results["curve"]] == [0, 1, 2]
    assert results["transductive"] is False  # an mlp has no batch statistics
    assert (directory / "checkpoints" / "best.ckpt").is_file() and (directory / "csv" / "metrics.csv").is_file()
    assert list((directory / "tensorboard").glob("events*"))


def test_a_job_keeps_what_it_said(finished):
    """With the time, and the table; the last line is the command that goes on from here."""
    directory, stdout, _ = finished
    kept = (directory / "console.log").read_text()
    for line in [line for line in stdout.splitlines() if not line.startswith("loading")]:
        assert line.rstrip() in kept
    assert stdout.splitlines()[-1] == f"next: innerloop report {directory}"
    assert re.search(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] outer step 2/2", kept, re.M)


def test_what_is_not_there_is_said_before_torch_is_loaded():
    for verb in ("eval", "report", "leak", "compare", "table"):
        _, stderr = call("-m", "innerloop", verb, "nowhere", code=1)
        assert stderr == "Error: nowhere is not there; name the folder of a run\n"
    probe = "import sys; sys.argv = ['innerloop', 'eval', 'nowhere']\nfrom innerloop import cli\ntry: cli.main()\n"
    probe += "except SystemExit: print('LOADED', [m for m in ('torch', 'lightning', 'numpy') if m in sys.modules])"
    assert "LOADED []" in start("-c", probe)[0]


def test_a_pass_for_each_query_tells_its_price_and_scores_the_last_step_alone(tmp_path):
    """Or those that are asked for, at the same numbers."""
    call("train.py", *TINY, "task=glyphs", "task.queries=2", "model.filters=4", f"hydra.run.dir={tmp_path}")
    stdout, _ = call("-m", "innerloop", "eval", str(tmp_path), "transductive=false")
    assert re.search(
        r"transductive=false answers each of 4 x 10 queries in a forward pass of its own, after 2 adaptation steps: about 0:", stdout
    )
    call("-m", "innerloop", "eval", str(tmp_path), "transductive=false", "scored_steps=[0,1]")
    last, asked = (
        json.loads(path.read_text()) for path in sorted((tmp_path / "evaluations").glob("*.json"), key=lambda path: len(path.name))
    )
    assert [point["step"] for point in last["curve"]] == [2] and last["auc"] is None
    assert [point["step"] for point in asked["curve"]] == [0, 1, 2] and asked["value"] == last["value"]
    _, stderr = call("-m", "innerloop", "eval", str(tmp_path), "scored_steps=[3]", code=1)
    assert stderr == "Error: scored_steps must be a list of numbers from 0 to eval_adaptation_steps=2, got [3]\n"


def test_help_lists_groups_and_choices_without_torch():
    stdout, _ = call("train.py", "--help")
    for line in (
        "algo: alfa, anil, baseline, baseline_pp, boil, cavia, centroid, cnp, fomaml, imaml, imaml_released, in_context, "
        "in_context_examples, joint, learned_loss, learned_rates, maml, mamlpp, matching, metacurvature, metaoptnet, metasgd, "
        "nearest_mean, protomaml, protonet, reptile, ridge, rl2, scratch, sinusoid_oracle, transductive, warp",
        "engine: auto, learn2learn, loop, vmap",
    ):
        assert line in stdout
    probe = "import sys, runpy; sys.argv = ['train.py', '--help']\ntry: runpy.run_path('train.py', run_name='__main__')\n"
    probe += "finally: print('LOADED', [m for m in ('torch', 'lightning', 'numpy') if m in sys.modules])"
    assert "LOADED []" in start("-c", probe)[0]


def test_same_seed_gives_the_same_results_and_another_seed_does_not(tmp_path):
    def timeless(seed, name):
        results = run(compose_run(*TINY, f"seed={seed}", "task=glyphs", "task.queries=2"), tmp_path / name)
        assert json.loads((tmp_path / name / "results.json").read_text()) == results
        return {k: v for k, v in results.items() if k not in ("train_seconds", "eval_seconds", "tasks_per_second", "peak_memory_mb")}

    first = timeless(0, "a")
    assert first == timeless(0, "b")
    assert first["curve"] != timeless(1, "c")["curve"]


def test_eval_scores_a_finished_run_again(finished):
    directory = finished[0]
    trained = json.loads((directory / "results.json").read_text())
    stdout, stderr = call("-m", "innerloop", "eval", str(directory))
    assert stderr == ""
    again = json.loads((directory / "evaluations" / "as_trained.json").read_text())
    assert again["curve"] == trained["curve"] and again["outer_steps"] == 2
    assert "evaluations/as_trained.json" in stdout
    other, path = rescore(directory, ["task=linear", "task.slope=[1,2]", "eval_adaptation_steps=5"])
    assert other["task"] == "linear" and other["config"]["task"]["slope"] == [1, 2] and len(other["curve"]) == 6
    assert json.loads(path.read_text()) == other
    assert json.loads((directory / "results.json").read_text()) == trained


def test_options_may_stand_among_the_words_of_a_list():
    parser = cli.verbs_and_arguments()
    assert cli.read(parser, ["eval", "RUN", "--trust", "task.shots=1"]).overrides == ["task.shots=1"]
    assert cli.read(parser, ["compare", "A", "--step", "3", "B"]).runs == [Path("A"), Path("B")]
    for words in (["episodes", "RUN", "FILE", "more"], ["report", "A", "--trust", "--unknown", "B"]):
        with pytest.raises(SystemExit):
            cli.read(parser, words)


def test_load_run_gives_the_trained_weights(finished):
    directory = finished[0]
    loaded = load_run(directory)
    weights = torch.load(directory / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(weights[name], value) for name, value in loaded.learner.state_dict().items())
    assert not loaded.learner.training


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["algo.inner_lr=0"], "algo.inner_lr must be a number > 0, got 0"),
        (["algo.inner_lr=fast"], "algo.inner_lr must be a number > 0, got 'fast'"),
        (["algo.adaptation_steps=-1"], "algo.adaptation_steps must be a whole number >= 0, got -1"),
        (["eval_adaptation_steps=-1"], "eval_adaptation_steps must be a whole number >= 0, got -1"),
        (["task=glyphs", "task.ways=4000"], "task.ways=4000 asks for more than the"),
        (["task=glyphs", "task.shots=10", "task.queries=11"], "has 20 examples but an episode needs shots + queries = 21; lower"),
        (["algo=protonet"], "algo=protonet classifies, and this task is regression"),
        (["model=conv4"], "model=conv4 takes images"),
        (["algo=protonet", "task=glyphs", "engine=learn2learn"], "engine=learn2learn runs maml, fomaml, anil, metasgd, reptile, not"),
        (
            ["task=omniglot", "task.root=NOWHERE", "task.split=random"],
            "task.split=random must be one of vinyals, maml, reptile, background, or a CSV file",
        ),
        (
            ["algo=reptile", "algo.inner_optimizer=lbfgs"],
            "algo.inner_optimizer must be one of sgd, momentum, adam, rmsprop, kept_rmsprop, got 'lbfgs'",
        ),
        (["algo=reptile", "algo.inner_optimizer=kept_rmsprop", "optimizer=adam"], "moves its squares by plain steps; use optimizer=sgd"),
        (["algo=reptile", "algo.inner_optimizer=kept_rmsprop", "trainer.precision=bf16-true"], "bf16-true has too few digits for kept_"),
        (["algo=reptile", "task=compass", "engine=learn2learn"], "engine=learn2learn has no Reptile for policies"),
        (["algo=anil", "task=compass", "engine=learn2learn"], "engine=learn2learn runs ANIL on models that end in their `head`"),
        (["model.activation=gelu"], "model.activation must be one of relu, tanh, got 'gelu'"),
        (["algo.first_order=no"], "algo.first_order must be true or false, got 'no'"),
        (["seed=-1"], "seed must be a whole number >= 0 and <= 4294967295, got -1"),
        (["seed=4294967296"], "seed must be a whole number >= 0 and <= 4294967295, got 4294967296"),
        (["outer_steps=7", "val_every=5"], "outer_steps=7 is no multiple of val_every=5, so its last steps would never be validated"),
        (
            ["task=glyphs", "task.train_ways=3"],
            "task.ways=5 and task.train_ways=3 are not one number, but MAML has one output for each way",
        ),
        (["model.hidden=40"], "innerloop.models.mlp.MLP refuses its arguments"),
        (
            ["experiment=sinusoid_article", "algo=joint"],
            "it settles adaptation_steps itself; leave that out, or where a preset has it, add ~algo.adap",
        ),
        (["optimizer.lr=-1"], "torch.optim.Adam refuses its arguments: Invalid learning rate: -1"),
        (["trainer.precision=half"], "lightning.Trainer refuses its arguments"),
        (["trainer.devices=many"], "lightning.Trainer refuses its arguments"),
        (["+trainer.strategy=ddp_fork"], "trainer.strategy=ddp_fork cannot bring results back to this process"),
        (["algo._target_=__main__.Mine"], "algo._target_=__main__.Mine cannot be imported here; move the class into a file of the package"),
        (["threads=0"], "threads must be a whole number >= 1, got 0"),
    ],
)
def test_bad_values_are_refused_in_one_sentence(overrides, sentence, tmp_path):
    with pytest.raises(InputError) as refused:
        run(compose_run(*TINY, *overrides), tmp_path)
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


def test_a_refusal_is_one_line_on_stderr_with_exit_code_1(tmp_path):
    stdout, stderr = start("train.py", *TINY, "algo.inner_lr=-0.1", f"hydra.run.dir={tmp_path}", code=1)
    assert stderr == "Error: algo.inner_lr must be a number > 0, got -0.1\n"
    assert stdout in ("", "loading PyTorch and Lightning ...\n")
    stdout, stderr = start("-m", "innerloop", "table", str(tmp_path), code=1)
    assert (stdout, stderr.count("\n")) == ("", 1)


def test_divergence_names_step_and_rates_and_keeps_the_last_good_checkpoint(tmp_path):
    overrides = [*TINY, "outer_steps=200", "val_every=1", "optimizer=sgd", "optimizer.lr=3"]
    with pytest.raises(InputError) as refused:
        run(compose_run(*overrides, "eval_adaptation_steps=0"), tmp_path)
    assert "at outer step" in str(refused.value)
    assert "algo.inner_lr=0.01 and optimizer.lr=3; lower one of them" in str(refused.value)
    best = tmp_path / "checkpoints" / "best.ckpt"
    assert str(best) in str(refused.value)
    assert all(weight.isfinite().all() for weight in torch.load(best, weights_only=True)["state_dict"].values())


@pytest.mark.parametrize("sweep", [False, True])
def test_output_directory_that_cannot_be_written(tmp_path, sweep):
    (tmp_path / "file").write_text("")
    where = ["-m", f"hydra.sweep.dir={tmp_path}/file/run"] if sweep else [f"hydra.run.dir={tmp_path}/file/run"]
    stdout, stderr = call("train.py", *where, *TINY, code=1)
    assert stdout == ""
    assert stderr.startswith("Error: cannot write to the output directory ") and stderr.count("\n") == 1


def test_without_a_directory_runs_and_sweeps_get_a_stamped_one(tmp_path):
    for arguments, folder in (([], "outputs"), (["-m", "seed=0,1"], "multirun")):
        _, stderr = call("train.py", *arguments, *TINY, cwd=tmp_path)
        assert stderr == ""
        assert len(list((tmp_path / folder).rglob("results.json"))) == (1 if folder == "outputs" else 2)
        assert len(list((tmp_path / folder).glob("*/*"))) == 1


def test_bad_checkpoints_and_runs(finished, tmp_path):
    directory = finished[0]
    with pytest.raises(InputError, match="is of another architecture than this configuration"):
        rescore(directory, ["model.hidden=[7]"])
    with pytest.raises(InputError, match="model.body.1.bias is 40 there and 7 here, model.body.1.weight is 40x1 there and 7x1 here"):
        rescore(directory, ["model.hidden=[7]"])
    with pytest.raises(InputError, match="override 'task.shotz=1' does not fit the run"):
        rescore(directory, ["task.shotz=1"])
    with pytest.raises(InputError, match="override 'task=nothing' does not fit the run"):
        rescore(directory, ["task=nothing"])
    with pytest.raises(InputError, match="does not fit the run"):
        rescore(directory, ["task.slope=[1,"])
    with pytest.raises(InputError, match="has no config.yaml"):
        load_run(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.yaml").write_text("")
    with pytest.raises(InputError, match="config.yaml is damaged: it has no algo, engine, model, optimizer, scheduler, task, trainer"):
        load_run(tmp_path / "empty")
    copy = tmp_path / "copy"
    (copy / "checkpoints").mkdir(parents=True)
    (copy / "config.yaml").write_bytes((directory / "config.yaml").read_bytes())
    with pytest.raises(InputError, match="there is no checkpoint .*best.ckpt"):
        load_run(copy)
    whole = (directory / "checkpoints" / "best.ckpt").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        (copy / "checkpoints" / "best.ckpt").write_bytes(damaged)
        with pytest.raises(InputError, match="best.ckpt is damaged"):
            load_run(copy)


def test_more_classes_than_the_head_has_outputs(tmp_path):
    run(compose_run(*TINY, "task=tabular", "task.queries=2"), tmp_path)
    with pytest.raises(InputError, match="2 outputs there and 3 here, one for each way; keep task.ways, or train with algo=protonet"):
        rescore(tmp_path, ["task.ways=3"])


def test_debugging_says_that_its_numbers_mean_nothing(tmp_path):
    stdout, stderr = call("train.py", "trainer=debug", "print_config=true", f"hydra.run.dir={tmp_path}")
    assert "├── algo" in stdout and "│   ├── inner_lr: 0.01" in stdout
    assert stderr == "" and "outer step 3/3: " in stdout
    assert "Note: all goes well, in 3 batches of training, validation and test; the numbers mean nothing" in stdout


def test_tags_are_kept_and_part_no_runs(tmp_path):
    for seed in (0, 1):
        results = run(compose_run(*TINY, "algo=scratch", f"tags=[paper,seed{seed}]", f"seed={seed}"), tmp_path / f"{seed}")
        assert results["tags"] == ["paper", f"seed{seed}"]
    (group,) = {tuple(row.items()) for row in ({k: row[k] for k in ("mean", "std", "seeds")} for row in sweep_rows(tmp_path))}
    assert dict(group)["seeds"] == 2
    (row,) = sweep_rows(tmp_path / "0")
    assert row["job"] == "0"


def test_the_bar_counts_outer_steps_and_tasks(tmp_path):
    """Also where several steps are one batch. It is drawn on a terminal alone."""
    master, slave = pty.openpty()
    command = ["train.py", *TINY, "outer_steps=20", "val_every=10", "steps_at_once=5", f"hydra.run.dir={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=slave, stderr=slave, stdin=slave, env=os.environ | {"TERM": "xterm", "COLUMNS": "160"}
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # at the other end's end
        while piece := os.read(master, 4096):
            shown += piece
    os.close(master)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert process.wait() == 0 and re.search(r"Training +━+ 20/20 .*\d tasks/s", text) and "it/s" not in text


LONG = ["outer_steps=1000000", "val_every=100", "val_episodes=2", "meta_batch_size=2"]
TERM, INT = (signal.SIGTERM, 143), (signal.SIGINT, 1)


def stopped(command, sent, seen):
    """Starts a command, sends it a signal once a line of its output has `seen`, and returns its exit code, and what it wrote to stderr."""
    process = subprocess.Popen([sys.executable, "-u", *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while seen not in (line := process.stdout.readline()):
            assert line, process.stderr.read()
        process.send_signal(sent)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, stderr


@pytest.mark.parametrize(
    "kind, sent, code",
    [
        ("run", *TERM),
        ("sweep", *INT),
        pytest.param("run", *INT, marks=pytest.mark.slow),
        pytest.param("sweep", *TERM, marks=pytest.mark.slow),
        pytest.param("two processes", *TERM, marks=pytest.mark.slow),
        pytest.param("two processes", *INT, marks=pytest.mark.slow),
    ],
)
def test_a_signal_is_no_success_and_says_where_it_goes_on(kind, sent, code, tmp_path):
    """Whoever waits for it (make, Slurm, a container) must not take it for one; the next job of a sweep is not begun."""
    where = ["-m", f"hydra.sweep.dir={tmp_path}", "seed=0,1"] if kind == "sweep" else [f"hydra.run.dir={tmp_path}"]
    more = ["trainer=ddp", "trainer.accelerator=cpu"] if kind == "two processes" else []
    found, stderr = stopped(["train.py", *where, *LONG, *more], sent, "outer step 200/")
    assert found == code, stderr
    assert re.fullmatch(r"Stopped at outer step \d+; the same command goes on from outer step \d+00", stderr.strip().splitlines()[-1])
    assert "Traceback" not in stderr
    assert not list(tmp_path.rglob("results.json")) and len(list(tmp_path.rglob("checkpoints"))) == 1


@pytest.mark.parametrize("sent, code", [TERM, pytest.param(*INT, marks=pytest.mark.slow)])
def test_an_evaluation_ends_within_seconds_of_a_signal(sent, code, tmp_path):
    """Of hours of batches that take minutes each."""
    call("train.py", *TINY, "task=glyphs", "task.queries=15", "task.shots=1", f"hydra.run.dir={tmp_path / 'run'}")
    slow = ["transductive=false", "test_episodes=600", "eval_batch_size=600", "eval_adaptation_steps=50"]
    found, stderr = stopped(["-m", "innerloop", "eval", str(tmp_path / "run"), *slow], sent, "in a forward pass of its own")
    assert found == code and "Stopped as the test episodes were scored; give the same command again" in stderr
    assert "Traceback" not in stderr and not (tmp_path / "run" / "evaluations").exists()
