"""What is typed after train.py, looked at before anything starts: a typo is one sentence, with what was meant. Imports no torch."""

import re
from collections.abc import Iterator, Sequence

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from innerloop.config import OWN, InputError, flat, register, suggestion
from innerloop.project import CONF, confs, searched

ELSEWHERE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--experimental-rerun")
LEFT_TO_HYDRA = {"--help", "-h", "--hydra-help", "--info", "-i", "--shell-completion", "-sc"}
TAKE_A_WORD = ("--cfg", "-c", "--package", "-p")
EXTRAS = {"joblib": "launchers", "submitit_local": "launchers", "submitit_slurm": "launchers", "ray": "ray", "optuna": "search"}


def check_arguments(arguments: Sequence[str]) -> None:
    """Raises InputError for an override that Hydra would refuse, or that nothing would read. Left to Hydra: flags, and other places of
    configurations."""
    if any(argument.startswith(ELSEWHERE) for argument in arguments) or LEFT_TO_HYDRA & {*arguments}:
        return
    register()
    texts = [text for before, text in zip(["", *arguments], arguments, strict=False) if text[:1] != "-" and before not in TAKE_A_WORD]
    for override in parsed(texts):
        key = override.key_or_group
        if (override.is_add() or override.is_force_add()) and key.partition(".")[0] not in {*OWN, "hydra"}:
            raise InputError(f"+{key} is no setting{suggestion(key, OWN)}; --help lists them")
    for alternative in one_at_a_time(texts):
        check_composition(alternative)


def parsed(texts: Sequence[str]) -> list[Override]:
    found = []
    for text in texts:
        try:
            found += OverridesParser.create().parse_overrides([text])
        except (OverrideParseException, HydraException) as error:
            raise InputError(
                f"'{text}' cannot be read ({error_line(error)}); write key=value, with quotes around it all where it has [ or {{"
            ) from error
    return found


def one_at_a_time(texts: Sequence[str]) -> Iterator[list[str]]:
    """The command with the first value of each sweep, and then with each other choice of a group. Ranges, which have no first, left out."""
    overrides = [o for o in parsed(texts) if not o.is_sweep_override() or o.is_choice_sweep()]
    values = [list(o.sweep_string_iterator()) if o.is_sweep_override() else [] for o in overrides]
    first = [f"{o.get_key_element()}={v[0]}" if v else str(o.input_line) for o, v in zip(overrides, values, strict=True)]
    yield first
    for index, (override, several) in enumerate(zip(overrides, values, strict=True)):
        for value in several[1:] if any((conf / override.key_or_group).is_dir() for conf in confs()) else []:
            yield [*first[:index], f"{override.get_key_element()}={value}", *first[index + 1 :]]


def check_composition(texts: list[str]) -> None:
    """Raises InputError where Hydra cannot put a configuration together."""
    try:
        composed(texts)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(sentence(texts, error)) from error


def composed(texts: list[str]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=[*searched(), *texts], return_hydra_config=True)


def sentence(texts: list[str], error: Exception) -> str:
    """Hydra's reason in one line, with what was probably meant."""
    message = str(error)
    if choice := re.search(r"Could not find '([^']+)'", message):
        path = next((text for text in texts if text.lstrip("+").replace("=", "/", 1) == choice[1]), choice[1])
        group, _, name = path.lstrip("+").partition("=") if "=" in path else path.rpartition("/")  # a file's own default
        if group.startswith("hydra/") and name in EXTRAS:
            return f"{path} needs a package that is not installed; pip install 'innerloop[{EXTRAS[name]}]'"
        listed = message.partition("Available options in")[2].partition("Config search path")[0].splitlines()[1:]
        names = [option.strip() for option in listed if option.strip()]
        nested = [f"{file.parent.name}/{file.stem}" for conf in confs() for file in sorted((conf / group).glob("*/*.yaml"))]
        told = [*names, *dict.fromkeys(f"{choice.partition('/')[0]}/..." for choice in nested)]
        return f"{path} is no choice{suggestion(name, [*names, *nested])}; there are {', '.join(told)}"
    if key := re.search(r"Could not (?:override|append to config\. An item is already at|delete from config\. [^']*)\s*'([^']+)'", message):
        if "already at" in message:
            return f"{key[1]} is there already; write {key[1]}=VALUE without the +"
        return f"{key[1]} is no setting here{suggestion(key[1], settings_of(texts, key[1]))}; --help lists them"
    while error.__cause__:  # Hydra's own words are of the place, those beneath of the reason
        error = error.__cause__  # type: ignore[assignment]
    reason = error_line(error)
    wrong = next((text for text in texts if text in message or f"full_key: {text.partition('=')[0].strip('+~')}" in message), None)
    return f"{wrong} does not fit: {reason}" if wrong and wrong not in reason else reason


def settings_of(texts: list[str], key: str) -> list[str]:
    """Those that there are with the choices of a command, and the groups."""
    for kept in ([text for text in texts if text.partition("=")[0].strip("+~") != key], []):
        try:
            config = OmegaConf.to_container(composed(kept), resolve=False)
        except (HydraException, OmegaConfBaseException):
            continue
        assert isinstance(config, dict)
        prefixes = {name.rsplit(".", depth)[0] for name in map(str, flat(config)) for depth in range(name.count(".") + 1)}
        return sorted(prefixes | {path.name for conf in confs() for path in conf.iterdir() if path.is_dir()})
    return []


def error_line(error: Exception) -> str:
    lines = [
        line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith(("See https", "full_key", "Set the env"))
    ]
    return (lines[0] if lines else type(error).__name__).removesuffix(".")
