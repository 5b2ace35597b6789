"""A learner without its data: learner.json says what it is, and how raw inputs become what it takes; model.safetensors has its weights."""

import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.config import InputError
from innerloop.engine.forward import loop
from innerloop.files import write_whole
from innerloop.models.hf import HuggingFace
from innerloop.objective import CLASSIFICATION, PICTURE, POSE, REGRESSION, Objective
from innerloop.runs.build import Run, algorithm_of, build
from innerloop.runs.trust import check_trusted
from innerloop.tasks import readers
from innerloop.tasks.base import Tasks
from innerloop.tasks.texts.texts import BagOfTokens
from innerloop.training.temperature import answers_to, fit_temperature

FILE, WEIGHTS = "learner.json", "model.safetensors"
OBJECTIVES = {objective.metric: objective for objective in (CLASSIFICATION, REGRESSION, PICTURE, POSE)}
FORMAT = 1
SET_ANEW = ("pad_token_id", "id2label", "label2id", "architectures", "transformers_version")  # by model=hf, for the task


class Known(NamedTuple):
    """What an algorithm and a model are told of the tasks that they are for (runs/build.py, OF_TASKS)."""

    objective: Objective
    input_shape: tuple[int, ...]
    outputs: int
    ways: int | None
    train_ways: int | None
    train_classes: int | None
    vocabulary: int | None
    senses: dict[str, Any] | None

    @property
    def as_vectors(self) -> nn.Module:
        return BagOfTokens(self.vocabulary) if self.vocabulary else nn.Flatten()


class Kept(NamedTuple):
    """What the two files hold. about: learner.json."""

    about: dict[str, Any]
    known: Known
    reader: Any
    algorithm: Algorithm[Any]


@rank_zero_only
def write_learner(directory: Path, run: Run) -> None:
    """Writes the two files of a trained run; nothing where no raw input can be read (language models), or weights are shared out."""
    tasks, cfg = run.data.tasks, run.cfg
    if tasks.reader is None or tasks.objective.metric not in OBJECTIVES or run.learner.device_mesh is not None:
        return
    about = {
        "format": FORMAT,
        "innerloop": version("innerloop"),
        "task": tasks.name,
        "algo": OmegaConf.to_container(cfg.algo, resolve=True),
        "model": settings_of_model(cfg.model, run.learner.algorithm.model),
        "metric": tasks.objective.metric,
        "input_shape": list(tasks.input_shape),
        **{name: getattr(tasks, name) for name in ("outputs", "ways", "train_ways", "train_classes", "vocabulary", "senses")},
        "reader": readers.as_json(tasks.reader),
        "backbone": backbone_of(cfg, tasks),
        "steps": cfg.eval_adaptation_steps,
        "temperature": temperature_of(run) if tasks.objective is CLASSIFICATION else None,
    }
    write_files(directory, about, run.learner.algorithm)


def write_files(directory: Path, about: Mapping[str, Any], algorithm: Algorithm[Any]) -> None:
    """Raises InputError where they cannot be written."""
    write_weights(directory / WEIGHTS, algorithm, algorithm.only_trains)
    write_whole(directory / FILE, (json.dumps(about, indent=2) + "\n").encode())


def backbone_of(cfg: DictConfig, tasks: Tasks) -> dict[str, Any] | None:
    """Of a run on features: what builds its backbone, which stays where it is, and by what it is known."""
    if not isinstance(tasks.reader, readers.ThroughBackbone):
        return None
    return {"settings": OmegaConf.to_container(cfg.backbone, resolve=True), "key": tasks.reader.see.key}


def settings_of_model(node: DictConfig, model: nn.Module) -> dict[str, Any]:
    """Without where its first weights came from, since the file has all of them."""
    settings: Any = OmegaConf.to_container(node, resolve=True)
    settings |= {key: None for key in ("base", "weights") if key in settings}
    if isinstance(model, HuggingFace) and settings["path"]:
        config = json.loads(model.model.config.to_json_string())
        settings |= {"path": None, "config": {key: value for key, value in config.items() if key not in SET_ANEW}}
    return settings  # type: ignore[no-any-return]


def weights_of(module: nn.Module, but: Callable[[str], bool] = lambda name: False) -> dict[str, Tensor]:
    """By name; tied ones once."""
    first: dict[int, str] = {}
    found = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not but(name) and first.setdefault(id(tensor), name) == name:
            found[name] = tensor.detach().cpu().contiguous()
    return found


def temperature_of(run: Run) -> float:
    """Of the answers to the validation episodes."""
    learner, episodes, size = run.learner.eval(), run.data.val_episodes, run.data.eval_batch_size  # of the ways and shots of evaluation
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    size = 1 if episodes.one_by_one else size
    for start in range(0, len(episodes), size):
        batch = episodes.meta_batch(range(start, min(start + size, len(episodes))))
        batch = learner.beside_weights(batch)
        answers = learner.shares.map(lambda algorithm, share: answers_to(algorithm, share, learner.eval_adaptation_steps), batch)
        logits += torch.cat(answers).cpu()
        labels += batch.query.y.cpu()
    return fit_temperature(logits, labels)


def read_learner(directory: Path, trust: bool = False) -> Kept:
    """Builds what the two files in a folder hold. Raises InputError where they are missing, damaged, or name classes that are neither
    ours nor the user's (unless `trust`)."""
    path = directory / FILE
    try:
        about = json.loads(path.read_text())
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise ValueError(f"it is of no format that innerloop {version('innerloop')} reads")
        reader = readers.from_json(about["reader"])
        known = Known(
            OBJECTIVES[about["metric"]],
            tuple(about["input_shape"]),
            **{name: about[name] for name in ("outputs", "ways", "train_ways", "train_classes", "vocabulary")},
            senses=about.get("senses"),
        )
        algo, model = (DictConfig(about[group]) for group in ("algo", "model"))
        int(about["steps"]), float(about["temperature"] or 1)  # fit and predict_proba ask for them
        check_trusted(path, [about["algo"], about["model"], about.get("backbone")], trust)
        if about.get("backbone"):
            reader = readers.ThroughBackbone(reader, same_backbone(path, **about["backbone"]))
        algorithm = algorithm_of(algo, model, known, loop).eval()
        load_weights(algorithm, directory / WEIGHTS, algorithm.only_trains)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read ({error.strerror}); it should lie there") from error
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise InputError(f"{path} is damaged, or what lies beside it ({error}); have it written again") from error
    return Kept(about, known, reader, algorithm)


def same_backbone(path: Path, settings: dict[str, Any], key: str) -> Any:
    """Built again. Raises InputError where it is another one by now."""
    see = build(DictConfig(settings))
    if see.key != key:
        raise InputError(f"the backbone that {path} names has other weights now than when it was trained; put those back")
    return see


def write_weights(path: Path, module: nn.Module, but: Callable[[str], bool] = lambda name: False) -> None:
    write_whole(path, save(weights_of(module, but)))


def load_weights(module: nn.Module, path: Path, but: Callable[[str], bool] = lambda name: False) -> None:
    """What `weights_of` gave. Raises ValueError where they are another module's."""
    there = load(path.read_bytes())
    own = module.state_dict(keep_vars=True)
    held = {id(own[name]) for name in there if name in own}
    missing = [name for name, tensor in own.items() if id(tensor) not in held and not but(name)]
    wrong = [name for name in there if name not in own or own[name].shape != there[name].shape]
    if missing or wrong:
        raise ValueError(f"{path.name} does not have the weights of {FILE}: {', '.join([*missing, *wrong][:3])}")
    module.load_state_dict(there, strict=False)
