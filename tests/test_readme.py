"""What the README and docs/your_data.md show works as it is written."""

import re
import shlex
import tomllib

import numpy as np
import pytest
import yaml
from hydra.utils import get_class

from innerloop.runs.experiment import run
from tests.conftest import ROOT, TINY, compose_run
from tests.tiny_data import image_files, write_csv, write_tree

README = (ROOT / "README.md").read_text()
YOUR_DATA = (ROOT / "docs" / "your_data.md").read_text()


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_readme_is_short_and_names_the_two_commands():
    assert len(README.splitlines()) < 200
    assert "make demo" in README and "make test" in README


def test_lines_wrap():
    """But for tables, and blocks of code."""
    texts = {path: path.read_text() for path in (*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md")}
    long = [f"{path.name}: {line}" for path, text in texts.items() for line in text.splitlines() if len(line) > 160]
    assert [line for line in long if ": |" not in line and ":     " not in line] == []


def test_versions_and_commands_beside_it_agree():
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == package["version"]
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]["test"]["steps"]
    assert steps[-1] == {"run": "make test"} and "RUN make install-light" in (ROOT / "Dockerfile").read_text()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == ["ruff", "format", "rooms"]


def test_files_and_pictures_it_points_to_exist():
    names = re.findall(r"`((?:src/innerloop|notebooks)/[\w/]+\.\w+)`", README) + re.findall(r"!\[.*?\]\((.*?)\)", README)
    shown_as_new = {"src/innerloop/algorithms/signsgd.py", "src/innerloop/tasks/functions/sawtooth.py"}
    assert len(names) > 3
    assert [name for name in names if name not in shown_as_new and not (ROOT / name).is_file()] == []


def test_every_experiment_in_its_tables_is_there():
    text = README + (ROOT / "docs" / "results.md").read_text()
    named = set(re.findall(r"`(?:experiment=)?((?:omniglot|sinusoid)_\w+?)`", text)) - {"sinusoid_oracle"}
    assert len(named) == 9 and named <= {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")}


@pytest.mark.parametrize("command", re.findall(r"^ +(?:python )(train\.py .*?)(?: +#.*)?$", README, re.MULTILINE))
def test_its_commands_compose(command):
    overrides = [argument for argument in shlex.split(command)[1:] if argument not in ("-m", "--help")]
    cfg = compose_run(*(override.split(",")[0] for override in overrides))
    assert all(get_class(cfg[group]._target_).__module__.startswith("innerloop.") for group in ("algo", "task", "model"))


def test_the_new_algorithm_and_the_new_task_run(tmp_path, monkeypatch):
    """Written to files and YAMLs as shown, the two train together."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "readme_example").mkdir()
    for name, code in zip(("signsgd", "sawtooth"), blocks("python")[-2:], strict=True):
        (tmp_path / "readme_example" / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    algo, task = (yaml.safe_load(block) for block in blocks("yaml"))
    for node, group in ((algo, "algorithms"), (task, "tasks.functions")):
        node["_target_"] = node["_target_"].replace(f"innerloop.{group}", "readme_example")
    cfg = compose_run(*TINY)
    cfg.algo, cfg.task = algo, task
    results = run(cfg, tmp_path / "run")
    assert (results["algo"], results["task"]) == ("signmaml", "sawtooth")


def test_the_new_kind_of_data_runs(tmp_path, monkeypatch):
    (tmp_path / "your_data_example").mkdir()
    (tmp_path / "your_data_example" / "heartbeats.py").write_text(blocks("python", YOUR_DATA)[0])
    monkeypatch.syspath_prepend(tmp_path)
    np.savez(tmp_path / "beats.npz", x=np.random.default_rng(0).normal(size=(160, 12)), y=np.repeat(range(16), 10))
    cfg = compose_run(*TINY)
    cfg.task = yaml.safe_load(blocks("yaml", YOUR_DATA)[0])
    cfg.task._target_ = cfg.task._target_.replace("innerloop.tasks", "your_data_example")
    cfg.task.path = str(tmp_path / "beats.npz")
    results = run(cfg, tmp_path / "run")
    assert (results["task"], results["ways"], results["metric"]) == ("heartbeats", 3, "accuracy")


def test_its_examples_of_files_are_read(tmp_path):
    """The CSV files as they stand there, written out long enough."""
    shown = re.findall(r"\n\n((?:    [^\n]+\n)+)\n", YOUR_DATA)
    tables = [[line.strip().split(",") for line in block.splitlines()] for block in shown if "," in block]
    assert [table[0] for table in tables] == [["text", "class"], ["task", "class", "height", "weight"], ["file", "class", "speaker"]]
    texts = [tables[0][0], *((f"{text} {i}", f"{name}{c}") for c in range(10) for i in range(4) for text, name in tables[0][1:])]
    people = [tables[1][0], *((f"{row[0]}{p}", *row[1:]) for p in range(20) for _ in range(4) for row in tables[1][1:])]
    small = ["task.ways=2", "task.queries=2", "task.shots=1", *TINY]
    run(compose_run("task=text_csv", f"task.path={write_csv(tmp_path / 'texts.csv', texts)}", *small), tmp_path / "texts")
    run(compose_run("task=tabular_csv", f"task.path={write_csv(tmp_path / 'people.csv', people)}", *small), tmp_path / "people")


def test_its_augmentation_is_added(tmp_path):
    added = re.search(r"'(task\.augment\.crop=.*?)'", YOUR_DATA)[1].replace("size: 84", "size: 8")
    root = write_tree(tmp_path / "images", image_files())
    small = ["task.ways=2", "task.queries=2", "task.shots=1", "task.size=8", "model.pool=stride", *TINY]
    cfg = compose_run("task=images", f"task.root={root}", f"+{added}", *small)
    assert list(cfg.task.augment) == ["flip", "crop"]
    run(cfg, tmp_path / "run")


def test_the_map_of_the_house_is_true():
    """docs/architecture.md: each file or folder that it names is there, and each room is named."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    house = ROOT / "src" / "innerloop"
    names = {name for name in re.findall(r"`([\w/]+(?:/|\.py|\.json|\.csv))`", text) if name not in ("results.json", "evidence.csv")}
    missing = [name for name in names if not any((root / name).exists() for root in (house, house / "tasks", ROOT))]
    assert len(names) > 40 and missing == []
    rooms = {f"{path.parent.name}/" for path in house.glob("*/__init__.py")} | {path.name for path in house.glob("[a-z]*.py")}
    assert {room for room in rooms if f"`{room}`" not in text} == set()
