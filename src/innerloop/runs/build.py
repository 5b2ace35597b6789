"""From a configuration to objects. The only place that instantiates."""

import inspect
import logging
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

import lightning
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from innerloop.algorithms.base import Algorithm, GradientBased
from innerloop.algorithms.reptile import KeptSquares, Reptile
from innerloop.config import OWN, InputError, check_count, short_name, suggestion
from innerloop.engine import forward as engines
from innerloop.models.any_module import ends_in_head, make_ready
from innerloop.runs.disjoint_episodes import DisjointEpisodes
from innerloop.runs.dry_run import check_model
from innerloop.runs.fast_path import compiling_pays, steps_at_once
from innerloop.runs.frozen_episodes import FrozenEpisodes
from innerloop.runs.pretrained import base_weights, check_tokens
from innerloop.tasks.base import Tasks
from innerloop.tasks.features import Seen
from innerloop.training.batch_statistics import batch_norms
from innerloop.training.checkpoint import AtomicFiles, State
from innerloop.training.data import EpisodicDataModule
from innerloop.training.learner import MetaLearner
from innerloop.training.lightning_settings import accumulated, in_lightning_steps, in_trust_region, on_gpu, quieten_lightning
from innerloop.training.shares import Execution
from innerloop.training.signals import EndBySigterm

log = logging.getLogger(__name__)
OF_TASKS = (
    "ways",
    "train_ways",
    "train_classes",
    "vocabulary",
    "as_vectors",
    "input_shape",
    "outputs",
    "actions",
    "world",
    "life",
    "queries",
    "places",
    "senses",
)  # attributes of Tasks (tasks/base.py)
ALL_THREADS = torch.get_num_threads()


class Run(NamedTuple):
    """What a configuration builds."""

    cfg: DictConfig
    data: EpisodicDataModule
    learner: MetaLearner


def build(node: DictConfig, **arguments: Any) -> Any:
    """Calls the `_target_` of a config node with its keys and `arguments`, which are passed as they are (instantiate would copy them).

    Raises InputError for arguments that the target refuses.
    """
    if not OmegaConf.is_dict(node) or "_target_" not in node:
        raise InputError(f"{node!r} stands where a class is to be built; write {{_target_: NAME, and its arguments}}")
    try:
        return instantiate(node, _partial_=True, _convert_="all")(**arguments)
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{node._target_} needs a package that is not installed: {' '.join(str(error).split())[:200]}") from error
    except InstantiationException as error:
        raise InputError(f"{node.get('_target_')} cannot be built: {' '.join(str(error).split())}") from error
    except (TypeError, ValueError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())
        if unknown := re.search(r"unexpected keyword argument '(\w+)'", reason):
            reason += suggestion(unknown[1], inspect.signature(resolve_name(node._target_)).parameters)
        elif settled := re.search(r"multiple values for keyword argument '(\w+)'", reason):
            reason = f"it settles {settled[1]} itself; leave that out, or where a preset has it, add ~{node._get_full_key(settled[1])}"
        raise InputError(f"{node._target_} refuses its arguments: {reason}") from error


def build_run(cfg: DictConfig) -> Run:
    """Data and learner of a configuration, at their initial weights. Sets the seeds and the number of threads of this process."""
    if strange := sorted(map(str, set(cfg) - {*OWN})):
        raise InputError(f"{strange[0]} is no setting{suggestion(strange[0], OWN)}; nothing would read it")
    check_count("seed", cfg.seed, least=0, most=2**32 - 1)
    if cfg.threads is not None:
        check_count("threads", cfg.threads)
    torch.set_num_threads(cfg.threads or ALL_THREADS)
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    tasks = build(cfg.task)
    if cfg.backbone is not None:
        tasks = Seen(tasks, build(cfg.backbone))
    data = EpisodicDataModule(
        tasks, cfg.seed, cfg.outer_steps * accumulated(cfg), cfg.meta_batch_size, cfg.val_episodes, cfg.test_episodes,
        cfg.eval_batch_size, cfg.num_workers, 1 if cfg.steps_at_once is None else cfg.steps_at_once, by_class=algorithm_class(cfg).by_class,
    )  # fmt: skip
    if cfg.episodes is not None and cfg.disjoint:
        raise InputError(f"disjoint=true draws episodes, and episodes={cfg.episodes} has some already; leave one of them out")
    if cfg.episodes is not None:
        data.test_episodes = FrozenEpisodes(cfg.episodes, cfg.test_episodes, tasks)
    elif cfg.disjoint:
        data.test_episodes = DisjointEpisodes(tasks.distribution("test"), cfg.test_episodes)
    execution = build(cfg.engine)
    if not isinstance(execution, Execution):
        raise InputError(f"engine has the form of an older version ({cfg.engine._target_}); set it anew from conf/engine")
    if tasks.varied and execution.compile:
        raise InputError("engine.compile=true compiles for one shape of episodes, and those of this task vary; set it to false")
    if execution.forward is engines.auto:
        execution = replace(execution, forward=engines.vmap if on_gpu(cfg) else engines.loop)
    algorithm = build_algorithm(cfg, tasks, execution.forward)
    if not cfg.estimate:
        check_model(algorithm, data.val_episodes.meta_batch(range(1)), tasks.outputs)
        execution = replace(execution, forward=algorithm.engine)
    if execution.compile is None:
        execution = replace(execution, compile=compiling_pays(cfg, tasks, algorithm))
    unasked = cfg.engine.compile is None and execution.compile
    faster = {"fused": True} if unasked and cfg.optimizer.get("fused", False) is None else {}
    optimizer, scheduler = partial(build, cfg.optimizer, **faster), partial(build, cfg.scheduler)
    data.steps_at_once = steps_at_once(cfg, tasks, algorithm)
    check_outer_optimizer(cfg, algorithm)
    learner = MetaLearner(
        algorithm, execution, torch.get_num_threads(), optimizer, scheduler,
        cfg.eval_adaptation_steps, cfg.transductive, data.steps_at_once, cfg.select_by, cfg.scored_steps, cfg.reuse,
        in_trust_region(cfg),
    )  # fmt: skip
    if cfg.transductive == "training" and not len(data.train_episodes) and batch_norms(algorithm):
        raise InputError("transductive=training has no training episodes to take statistics of: outer_steps is 0; choose another")
    if tasks.varied:
        learner.most_queries = tasks.queries * (tasks.ways or 1) + tasks.strangers
    return Run(cfg, data, learner)


def check_outer_optimizer(cfg: DictConfig, algorithm: Algorithm[Any]) -> None:
    """Raises InputError where it does not go with the rest."""
    if in_trust_region(cfg):
        if algorithm.objective.divergence is None:
            raise InputError("optimizer=trust_region is for policies; use optimizer=adam, or a task such as task=compass")
        if isinstance(algorithm, Reptile):
            raise InputError("optimizer=trust_region follows returns, and the outer loss of Reptile is a distance; use optimizer=sgd")
        for name in ("chunk_size", "compile"):
            if cfg.engine[name]:
                raise InputError(f"optimizer=trust_region takes meta-batches whole; leave out engine.{name}={cfg.engine[name]}")
    if isinstance(getattr(algorithm, "inner_optimizer", None), KeptSquares):
        if cfg.optimizer._target_ != "torch.optim.SGD":
            raise InputError("algo.inner_optimizer=kept_rmsprop moves its squares by plain steps; use optimizer=sgd, or rmsprop instead")
        if str(cfg.trainer.precision) in ("16-true", "bf16-true"):
            raise InputError(f"trainer.precision={cfg.trainer.precision} has too few digits for kept_rmsprop; use 32-true or bf16-mixed")


def algorithm_class(cfg: DictConfig) -> type[Algorithm[Any]]:
    return target_class("algo", cfg.algo)


def target_class(group: str, node: DictConfig) -> Any:
    """Raises InputError where it was defined in a notebook or script that is not this one."""
    try:
        return resolve_name(node._target_)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{group}._target_={node._target_} cannot be imported here; "
            "move the class into a file of the package, or stay where it was written"
        ) from error


def known_of(tasks: Any, target: Any) -> dict[str, Any]:
    """What a class has arguments for, of what is known of the tasks besides their shapes."""
    return {name: getattr(tasks, name, None) for name in OF_TASKS if name in inspect.signature(target).parameters}


def build_algorithm(cfg: DictConfig, tasks: Tasks, engine: engines.Engine) -> Algorithm[Any]:
    """Model and algorithm, fitted to the shapes of the tasks."""
    check_tokens(cfg)
    algorithm = algorithm_of(cfg.algo, cfg.model, tasks, engine)
    if tasks.objective.inner_terms and type(algorithm).forward is not GradientBased.forward:
        raise InputError(
            f"task.explore and task.inner_kl are of the rollouts that inner steps learn from, and algo={short_name(cfg.algo._target_)} has "
            "an outer loss of its own; leave them as they are, or use algo=maml"
        )
    idle = {name for name, weight in algorithm.model.named_parameters() if name.endswith("context") and not weight.requires_grad}
    if cfg.model.get("context") and isinstance(algorithm, GradientBased) and idle - set(algorithm.slow_weights()):
        raise InputError(
            f"model.context={cfg.model.context} numbers stay 0, since nothing adapts or learns them; set algo.adapted=*context"
        )
    algorithm.varied = bool(tasks.varied)
    ways, train_ways = (tasks.varied.get(name, getattr(tasks, name)) for name in ("ways", "train_ways"))
    if (train_ways != ways or isinstance(ways, list)) and not algorithm.any_ways:
        raise InputError(
            f"task.ways={ways} and task.train_ways={train_ways} are not one number, but {cfg.algo._target_.rsplit('.', 1)[-1]} has one "
            "output for each way; make them one, or use algo=maml algo.head=tied or algo=protonet"
        )
    return algorithm


def algorithm_of(node: DictConfig, model_node: DictConfig, tasks: Any, engine: engines.Engine) -> Algorithm[Any]:
    """From its settings and its model's, for tasks of those attributes."""
    target = target_class("algo", node)
    if tasks.objective.look and not target.acts:
        name = short_name(node._target_)
        raise InputError(
            f"algo={name} learns from examples that it is shown, and a policy makes its own; use algo=maml or another that adapts weights"
        )
    model = build_model(model_node, tasks)
    known = known_of(tasks, target)
    if engine is engines.learn2learn:
        from innerloop.algorithms.learn2learn import check_all_weights, learn2learn_class  # takes seconds, prints a notice

        target = learn2learn_class(target)
        node = DictConfig({**node, "_target_": f"{target.__module__}.{target.__name__}"})
    algorithm = build(node, model=model, objective=tasks.objective, engine=engine, **known)
    if engine is engines.learn2learn:
        check_all_weights(algorithm)
    assert isinstance(algorithm, Algorithm)
    algorithm.ways, algorithm.train_ways = tasks.ways, tasks.train_ways
    return algorithm


def build_model(node: DictConfig, tasks: Any) -> nn.Module:
    """A model fitted to the shapes of the tasks, ready for weights of each task's own."""
    known = known_of(tasks, target_class("model", node))
    if node.get("base"):
        known["base"] = base_weights(node)
    batch_norm = node.get("batch_norm", "episode")
    node = OmegaConf.masked_copy(node, [str(key) for key in node if key != "batch_norm"])
    model = build(node, **({"input_shape": tasks.input_shape, "outputs": tasks.outputs} | known))
    if not isinstance(model, nn.Module):
        raise InputError(f"model._target_={node._target_} gives a {type(model).__name__}, which is no torch.nn.Module; name a class of one")
    x = torch.zeros(2, *tasks.input_shape, dtype=torch.long if tasks.vocabulary else torch.get_default_dtype())
    make_ready(model, x, batch_norm)
    model.ends_in_head = ends_in_head(model, x)  # type: ignore[assignment]
    return model


def build_trainer(cfg: DictConfig, origin: State | None = None, steps_at_once: int = 1) -> lightning.Trainer:
    """The Trainer with its callbacks, checkpoints and loggers; without the last two if it is only to test (no `origin`).

    Raises InputError for devices that are not there.
    """
    quieten_lightning()
    if not torch.cuda.is_available():
        # Lightning's way of asking for GPUs opens a library anew each time, and torch's optimizers ask at every step: 0.1 to 0.25 ms
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    if any(word in str(cfg.trainer.get("strategy")) for word in ("fork", "spawn", "notebook")):
        raise InputError(f"trainer.strategy={cfg.trainer.strategy} cannot bring results back to this process; use trainer.strategy=ddp")
    if cfg.trainer.accelerator in ("gpu", "cuda") and not torch.accelerator.is_available():
        raise InputError(f"trainer.accelerator={cfg.trainer.accelerator} asks for a GPU and torch sees none; use trainer=cpu")
    decay = OmegaConf.select(cfg, "callbacks.ema.decay")
    if origin and decay is not None and 0 < cfg.outer_steps * (1 - decay) < 3:
        log.warning(
            f"callbacks.ema.decay={decay} leaves the average near the first weights in {cfg.outer_steps} outer steps; "
            f"set callbacks.ema.decay={max(0.0, 1 - 10 / cfg.outer_steps):.6g} or so"
        )
    callbacks = [EndBySigterm(), *(build(node) for name, node in cfg.callbacks.items() if name != "checkpoint")]
    loggers: Any = False
    checkpoints = bool(origin) and "checkpoint" in cfg.callbacks
    if origin:
        loggers = [build(node) for node in cfg.logger.values()]
    if checkpoints:
        callbacks.append(build(cfg.callbacks.checkpoint, directory=Path(cfg.output_dir) / "checkpoints", origin=origin))
    # one epoch is the whole run: a second one would repeat its episodes
    arguments = {
        "callbacks": callbacks,
        "logger": loggers,
        "enable_checkpointing": checkpoints,
        "max_epochs": 1,
        "plugins": [AtomicFiles()],
    }
    if origin:
        arguments |= in_lightning_steps(cfg, steps_at_once)
    return build(cfg.trainer, **arguments)
