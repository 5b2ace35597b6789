"""Writes docs/settings.md from the comments in conf/ and config.py; fails where a setting has none."""

import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from innerloop.config import OWN, RunConfig, flat
from innerloop.sweeps.reference import GROUPS, one_line, prefix_of, words_in, words_of_file, words_of_run

CONF = Path(__file__).parents[1] / "conf"
PRESETS = ("experiment", "sweep")  # they have no settings of their own
INTRODUCTION = """
Made by `make docs` from the comments in `conf/` and `src/innerloop/config.py`. Any setting is given, or swept over, by its name:
`algo.inner_lr=0.1`. `python train.py algo=reptile task=omniglot --help` prints those of that command, with the values that they take there.
In brackets: the choices that a value or a meaning belongs to.
"""


def main() -> None:
    if missing := unexplained():
        sys.exit("no comment says what this is: " + ", ".join(missing))
    path = CONF.parent / "docs" / "settings.md"
    path.write_text(page())
    print(f"settings: {path}")


def unexplained() -> list[str]:
    """The settings, and the choices, that no comment explains."""
    found = [name for name in OWN if name not in {*GROUPS, *words_of_run()}]
    for group in GROUPS:
        files = choices_of(group)
        words = {name for path in files for name in words_in(path)}
        found += [str(path.relative_to(CONF)) for path in files if not words_of_file(path)]
        for path in files:
            for name in flat(values_in(path, group)):
                parts = name.split(".")
                parents = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}  # its words may stand with what it is part of
                found += [f"{name} in {path.relative_to(CONF)}"] if parts[-1] != "_target_" and not parents & words else []
    return found


def choices_of(group: str) -> list[Path]:
    return sorted((CONF / group).glob("*.yaml")) + sorted((CONF / group).glob("*/*.yaml"))


def values_in(path: Path, group: str) -> dict[str, Any]:
    """The settings of a group that one of its files sets, as it writes them."""
    content = yaml.safe_load(path.read_text()) or {}
    own = content if prefix_of(path) else content.get(group, {})
    return {f"{group}.{key}": value for key, value in own.items() if key not in ("_target_", "defaults")}


def page() -> str:
    defaults: Any = OmegaConf.to_container(OmegaConf.structured(RunConfig))
    run = table(("setting", "default", ""), ((f"`{name}`", f"`{one_line(defaults[name])}`", text) for name, text in words_of_run().items()))
    parts = ["# Settings", INTRODUCTION.strip(), "## Of every run", run]
    for group in (*GROUPS, *PRESETS):
        parts += [f"## {group}=", table(("choice", ""), ((f"`{name_of(path, group)}`", words_of_file(path)) for path in choices_of(group)))]
        if group in GROUPS and (rows := settings_of(group)):
            parts.append(table(("setting", "default", ""), rows))
    launchers = sorted((CONF / "hydra" / "launcher_presets").glob("*.yaml"))
    parts += ["## hydra/launcher=", table(("choice", ""), ((f"`{path.stem}`", words_of_file(path)) for path in launchers))]
    return "\n\n".join(parts) + "\n"


def name_of(path: Path, group: str) -> str:
    return str(path.relative_to(CONF / group).with_suffix(""))


def settings_of(group: str) -> list[tuple[str, str, str]]:
    """Name, defaults and words of each setting that has words."""
    values: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    words: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in choices_of(group):
        if path.parent.name == group:  # not the variants
            there = values_in(path, group)
            for name, value in (there | flat(there)).items():
                values[name][f"`{one_line(value)}`"].append(path.stem)
            for name, text in words_in(path).items():
                words[name][text].append(path.stem)
    return [(f"`{name}`", by_choice(values[name]), by_choice(texts)) for name, texts in words.items()]


def by_choice(told: dict[str, list[str]]) -> str:
    """What most choices have, and then what others have."""
    common, *others = sorted(told, key=lambda text: -len(told[text]))
    return "; ".join([common, *(f"{text} ({', '.join(told[text])})" for text in others)])


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [list(head), *([text.replace("|", "\\|") for text in row] for row in rows)]
    cells.insert(1, ["---"] * len(cells[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


if __name__ == "__main__":
    main()
