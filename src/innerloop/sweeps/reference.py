"""What every setting means: the comments in conf/ and config.py, for `train.py --help` and docs/settings.md. Imports no torch."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from innerloop.config import RunConfig

GROUPS = ("algo", "task", "model", "optimizer", "scheduler", "engine", "trainer", "callbacks", "logger")
GLOBAL = "# @package _global_"  # heads a file that sets more than its group
COLUMN = 32  # of `--help`, where the words begin


def words_of_run() -> dict[str, str]:
    """The comments of RunConfig, beside a setting or in the lines above it."""
    words, above = {}, ""
    for line in inspect.getsource(RunConfig).splitlines():
        if found := re.match(r"    # (.*)", line):
            above = f"{above} {found[1]}".strip()
        elif found := re.match(r"    (\w+): [^#]*(?:# (.*))?", line):
            words[found[1]] = found[2] or above
            above = ""
    return {name: text for name, text in words.items() if text}


def words_of_file(path: Path) -> str:
    """The comment that a YAML file begins with."""
    lines = path.read_text().removeprefix(GLOBAL).strip().splitlines()
    end = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("# ") for line in lines[:end])


def words_in(path: Path) -> dict[str, str]:
    """The comments beside the keys of a group's YAML file: {"algo.inner_lr": "step size of the inner loop"}."""
    text = path.read_text()
    lines = text.splitlines()
    beside = {name: lines[line].partition(" # ")[2] for name, line in lines_of_keys(yaml.compose(text), prefix_of(path))}
    return {name: words for name, words in beside.items() if words and name.startswith(f"{group_of(path)}.")}


def group_of(path: Path) -> str:
    return next(part for part in reversed(path.parent.parts) if part in GROUPS)


def prefix_of(path: Path) -> str:
    return "" if path.read_text().startswith(GLOBAL) else f"{group_of(path)}."


def lines_of_keys(node: Any, prefix: str) -> Iterator[tuple[str, int]]:
    """Each key and the line that it stands in; not those of {a: 1}. node: None of an empty file."""
    for key, value in node.value if node else ():
        yield f"{prefix}{key.value}", key.start_mark.line
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from lines_of_keys(value, f"{prefix}{key.value}.")


def one_line(value: Any) -> str:
    """A value as it is written on the command line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip().removesuffix("\n...")
    return text.strip("'") if isinstance(value, str) and "${" in value else text


def help_text(_root_: DictConfig) -> str:
    """The composed settings of a command, each with its words; for the template of Hydra's help, where $ is $$."""
    folders = [Path(source.path) for source in _root_.hydra.runtime.config_sources if source.schema == "file"]
    words = words_of_run()
    for group in GROUPS:
        choice = f"{group}/{_root_.hydra.runtime.choices.get(group)}.yaml"
        chosen = [folder / choice for folder in folders if (folder / choice).is_file()]
        others = sorted(path for folder in folders for path in (folder / group).rglob("*.yaml"))
        for path in reversed([*chosen, *others]):  # those of the chosen file before the same setting's in others
            words |= words_in(path)
        words[group] = " ".join(map(words_of_file, chosen))
    settings: Any = OmegaConf.to_container(OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"]))
    width = max(shutil.get_terminal_size((120, 0)).columns, COLUMN + 30)
    return "\n".join(lines_of(settings, words, "", width)).replace("$", "$$")


def lines_of(settings: Mapping[str, Any], words: Mapping[str, str], prefix: str, width: int) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for key, value in settings.items():
        name, inside = f"{prefix}{key}", isinstance(value, dict) and bool(value)
        text = f"{indent}{key}:" if inside else f"{indent}{key}: {one_line(value)}"
        comment = textwrap.wrap(words.get(name, ""), width - COLUMN - 2, break_on_hyphens=False)
        beside = comment[:1] if len(text) < COLUMN else []
        yield f"{text:<{COLUMN}}# {beside[0]}" if beside else text
        yield from (f"{'':<{COLUMN}}# {line}" for line in comment[len(beside) :])
        if inside:
            yield from lines_of(value, words, f"{name}.", width)


OmegaConf.register_new_resolver("settings", help_text, replace=True)
