"""Every YAML in conf/ composes, names all arguments of what it builds, and trains for one batch."""

import inspect
import json

import pytest
import torch
import transformers
from hydra.utils import get_object
from omegaconf import OmegaConf

from innerloop.config import InputError
from innerloop.runs.build import OF_TASKS, build_run
from innerloop.runs.experiment import load_run, run
from innerloop.tasks.class_split import read_split
from tests.conftest import DATA, ROOT, TINY, compose_run
from tests.tasks.test_boxes import photographs, write_coco
from tests.tasks.test_spoken import SPEAKERS, WORDS
from tests.tasks.test_texts import write_clinc
from tests.tiny_data import image_files, picture, table, texts, wav_files, write_csv, write_tree

# what experiment.py passes to a target besides its YAML
PASSED = {*OF_TASKS, "model", "objective", "engine", "input_shape", "outputs", "directory", "origin", "optimizer", "params"}
CHOICES = [f"{path.parent.name}={path.stem}" for path in sorted((ROOT / "conf").glob("*/*.yaml"))]
CHOICES += [f"algo={path.parent.name}/{path.stem}" for path in sorted((ROOT / "conf" / "algo").glob("*/*.yaml"))]
NARROW = ["model.width=16", "model.heads=2", "model.layers=1", "task.length=8"]
NEEDS = {  # what a choice makes no sense without
    **dict.fromkeys(
        (f"algo={name}" for name in ("protonet", "matching", "protomaml", "transductive", "baseline", "baseline_pp")), ["task=glyphs"]
    ),
    "sweep=zoo_sinusoid": ["engine.compile=false"],  # the test has two steps
    "algo=centroid": ["task=glyphs"],
    "algo=rl2": ["task=bandit"],
    "backbone=timm": ["task=glyphs", "model=adapter", "backbone.name=test_resnet", "backbone.size=32"],
    "backbone=torchvision": ["task=glyphs", "model=adapter", "backbone.size=32"],
    "model=adapter": ["task=glyphs", "backbone=torchvision", "backbone.size=32"],
    "model=conv4_32": ["task=glyphs"],
    "model=recurrent_policy": ["task=bandit", "algo=rl2"],
    "model=small_policy": ["task=bandit"],
    "algo=nearest_mean": ["task=glyphs"],
    "model=conv4": ["task=glyphs"],
    "model=torchvision": ["task=glyphs"],
    "model=timm": ["task=glyphs", "+model.settings.patch_size=7", "+model.settings.depth=1"],
    **dict.fromkeys(("algo=in_context", "model=transformer"), ["task=grammars", *NARROW]),
    **dict.fromkeys(("task=grammars", "experiment=language_base", "sweep=compare_lora"), NARROW),
    "model=hf": ["task=grammars", "task.length=8", "model.lora_rank=2"],
    "optimizer=trust_region": ["task=compass"],
    "scheduler=warmup": ["scheduler.warmup_steps=1"],
}
LOGGERS = {"wandb": ["wandb"], "mlflow": ["mlflow"], "several": ["wandb", "mlflow"]}  # the packages that they need
PRESETS = [f"task={name}" for name in ("mini_imagenet", "tiered_imagenet", "cifar_fs", "fc100", "cub", "caltech101")]
SMALL = ["task.ways=2", "task.queries=2", "task.shots=1"]  # for data of few classes with few examples


def needs(choice, folder):
    """Overrides that a choice cannot do without; `folder` gets the data of tasks that read the user's."""
    for name in ("omniglot", "mnist"):
        if name in choice or (name == "omniglot" and choice == "sweep=cross_domain"):
            if not (DATA / name).is_dir():
                pytest.skip(f"no data at {DATA / name}; set INNERLOOP_DATA")
            return [f"task.root={DATA / name}", *["model.filters=4"] * (name == "omniglot")]
    if choice in ("task=pictures", "experiment=pictures"):
        return [f"task.root={write_tree(folder / 'images', image_files())}"]
    if choice == "task=heard_and_seen":
        if not (DATA / "mnist").is_dir() or not (DATA / "fsdd").is_dir():
            pytest.skip(f"no data at {DATA}; set INNERLOOP_DATA")
        return [f"task.seen={DATA / 'mnist'}", f"task.heard={DATA / 'fsdd' / 'recordings.zip'}", *SMALL]
    if choice == "backbone=hf":
        config = transformers.ViTConfig(image_size=28, patch_size=7, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
        transformers.ViTModel(config).save_pretrained(folder / "vit")
        return ["task=glyphs", "model=adapter", f"backbone.path={folder / 'vit'}"]
    if choice == "task=named_pictures":
        return [f"task.root={write_tree(folder / 'images', image_files())}", "task.size=16", *SMALL]
    if choice == "model=senses":
        return ["task=named_pictures", *needs("task=named_pictures", folder)]
    if choice == "model=siren":
        return ["task=pictures", *needs("task=pictures", folder)]
    if choice in ("task=images", "task=emoji"):
        return [f"task.root={write_tree(folder / 'images', image_files())}", *SMALL]
    if choice == "task=text_csv":
        return [f"task.path={write_csv(folder / 'texts.csv', texts())}", *SMALL]
    if choice == "task=text_folder":
        files = {f"author{i}/{name}.txt": b"To be, or not to be. " * 20 for i in range(10) for name in "ab"}
        return [f"task.root={write_tree(folder / 'authors', files)}", *NARROW]
    if choice == "model=text_encoder":
        return ["task=text_csv", *needs("task=text_csv", folder)]
    if choice == "task=clinc150":
        return [f"task.root={write_clinc(folder)}", "task.split={train:[a,b],val:[c],test:[d]}", *SMALL]
    if choice in ("task=spoken", "task=spoken_words"):
        split = {"task=spoken": SPEAKERS, "task=spoken_words": WORDS}[choice]
        lists = [f"task.split.{part}=[{','.join(names)}]" for part, names in split.items()]
        return [f"task.root={write_tree(folder / 'wavs', wav_files())}", *lists, *SMALL]
    if choice in PRESETS:
        classes = read_split(choice.removeprefix("task="))
        pictures = {f"{name}/{i}.png": picture(i) for name in classes for i in range(3)}
        return [f"task.root={write_tree(folder / 'images', pictures)}", *SMALL]
    if choice == "task=tabular_csv":
        return [f"task.path={write_csv(folder / 'table.csv', table())}", *SMALL]
    if choice.startswith("logger="):
        packages = LOGGERS.get(choice.removeprefix("logger="), [])
        offline = {"wandb": "logger.wandb.offline=true", "mlflow": f"logger.mlflow.tracking_uri=sqlite:///{folder}/mlflow.db"}
        return [offline[package] for package in packages if pytest.importorskip(package)]
    if choice == "task=gymnasium":
        pytest.importorskip("gymnasium")
        return ["task.env=Pendulum-v1", "task.parameters={g: [5, 15]}", "task.horizon=4"]
    if choice == "task=meta_world":
        pytest.importorskip("metaworld")
        return ["task.env=reach-v3", "task.reward_version=v2", "task.horizon=4", "task.shots=1", "task.queries=1"]
    if choice in ("task=cheetah_velocity", "task=cheetah_direction", "task=ant_velocity"):
        pytest.importorskip("mujoco")
        return ["task.horizon=4", "task.shots=2", "task.queries=2"]
    if choice == "model=policy" or choice.startswith("algo=policies/"):
        return ["task=compass"]
    if choice == "task=boxes":
        root = write_coco(folder / "coco", photographs(folder / "coco"))
        return [f"task.root={root}", "task.size=32", "task.grid=4", "task.ways=1", "task.shots=2", "task.queries=2", "model.filters=4"]
    if choice.startswith("algo=scenes/") or choice in ("model=dense", "sweep=classification_to_detection"):
        return ["task=scenes", "model.base=null", "model.filters=4"]
    if choice.startswith(("algo=zoo/", "algo=mamlpp_parts/")):
        return ["task=glyphs", "model.filters=4"]
    if choice in ("sweep=zoo_omniglot", "sweep=mamlpp_parts"):
        return needs("task=omniglot", folder)
    if choice.startswith("algo=lora/"):
        return ["task=grammars", *NARROW, "model.lora_rank=2"]
    return NEEDS.get(choice, [])


def targets(node):
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from targets(value)


def arguments_of(target):
    """Their names, those that a class hands on to what it derives from among them; and whether it hands on any."""
    names, functions = set(), [cls.__init__ for cls in target.__mro__ if "__init__" in vars(cls)] if inspect.isclass(target) else [target]
    for count, function in enumerate(functions):
        parameters = inspect.signature(function).parameters.values()
        names |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} - {"self"}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            return names, count > 0
    return names, True


@pytest.mark.parametrize("choice", CHOICES)
def test_a_yaml_names_the_arguments_of_its_target_and_trains_for_one_batch(choice, tmp_path):
    overrides = [choice, *needs(choice, tmp_path)]
    check_arguments_of(choice, compose_run(*overrides))
    if choice in ("trainer=gpu", "trainer=ddp", "trainer=fsdp"):
        return
    run(compose_run(*overrides, *TINY), tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["episodes"] >= 2
    assert results["curve"][-1]["value"] == results["value"]


def check_arguments_of(choice, cfg):
    built = list(targets(OmegaConf.to_container(cfg)))
    assert built
    for node in built:
        target, given = get_object(node["_target_"]), set(node) - {"_target_"}
        arguments, handed_on = arguments_of(target)
        assert given <= arguments or not node["_target_"].startswith("innerloop."), f"{node['_target_']} does not take {given - arguments}"
        if node["_target_"].startswith("innerloop.") and not handed_on:
            assert given | PASSED == arguments | PASSED, f"{choice} leaves out {arguments - PASSED - given}"


@pytest.mark.parametrize("algo", ["maml", "fomaml", "anil", "metasgd", "reptile"])
def test_a_run_gives_the_same_numbers_on_every_engine(algo, tmp_path):
    engines = ("loop", "vmap", "learn2learn")
    settings = [f"algo={algo}", *TINY, "outer_steps=6", "test_episodes=10"]
    expected, *others = (run(compose_run(*settings, f"engine={engine}"), tmp_path / engine) for engine in engines)
    assert [results["engine"] for results in (expected, *others)] == [*engines]
    for results in others:
        assert [p["value"] for p in results["curve"]] == pytest.approx([p["value"] for p in expected["curve"]], rel=1e-4)


def test_gpu_where_none_is_says_so(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="trainer.accelerator=gpu asks for a GPU and torch sees none; use trainer=cpu"):
        run(compose_run("trainer=gpu", *TINY), tmp_path)


@pytest.mark.parametrize("engine", ["vmap", "loop"])
def test_precisions(engine, tmp_path):
    precisions = ("bf16-mixed", "64-true", "32-true")
    results = [run(compose_run(*TINY, f"engine={engine}", f"trainer.precision={p}"), tmp_path / p) for p in precisions]
    mixed, double, single = ([point["ci95"] for point in result["curve"]] for result in results)
    assert mixed != single and mixed == pytest.approx(single, rel=0.1)
    assert double != single and double == pytest.approx(single, rel=1e-3)


def test_clipping_bounds_what_the_outer_step_sees(tmp_path):
    """Under SGD with step 1, one outer step moves the weights by the clipped gradient."""
    overrides = [*TINY, "outer_steps=1", "optimizer=sgd", "trainer.gradient_clip_val=0.01"]
    run(compose_run(*overrides), tmp_path / "run")
    trained = load_run(tmp_path / "run").learner
    start = build_run(compose_run(*overrides)).learner
    moved = sum((a - b).square().sum() for a, b in zip(trained.parameters(), start.parameters(), strict=True)).sqrt()
    assert moved.item() == pytest.approx(0.01, rel=1e-2)
