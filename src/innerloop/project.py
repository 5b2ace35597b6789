"""Where settings and classes come from: innerloop's own, and those of the project that the user stands in. Imports no torch."""

import hashlib
import os
import sys
from pathlib import Path

from innerloop.config import InputError

CONF = Path(__file__).parent / "conf"


def project() -> Path | None:
    """The folder that the user stands in, where it has a conf/ of its own."""
    folder = Path.cwd()
    conf = folder / "conf"
    return folder if conf.is_dir() and conf.resolve() != CONF.resolve() else None


def confs() -> list[Path]:
    """innerloop's folder of settings, and the project's."""
    own = project()
    return [CONF, own / "conf"] if own else [CONF]


def searched() -> list[str]:
    """What makes Hydra look into the project's conf/ too."""
    return [f"hydra.searchpath=['file://{conf}']" for conf in confs()[1:]]


def enter() -> None:
    """Makes the modules of the folder that the user stands in importable, here and in processes that are started from here."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if project() and here not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([*paths, here])


def check_names() -> None:
    """Raises InputError where a file of the project has the name of one of ours: it would never be read."""
    for conf in confs()[1:]:
        for path in sorted(conf.rglob("*.yaml")):
            if (CONF / path.relative_to(conf)).exists():
                raise InputError(f"{path} has the name of a choice of innerloop's own, which would be taken instead; name it otherwise")


def code_of_project() -> str | None:
    """A checksum of a project's modules and settings, which decide its numbers as ours do; None outside of one."""
    folder = project()
    if folder is None:
        return None
    digest = hashlib.sha256()
    modules = {*folder.glob("*.py"), *(path for package in folder.glob("*/__init__.py") for path in package.parent.rglob("*.py"))}
    for path in sorted(path for path in {*modules, *(folder / "conf").rglob("*.yaml")} if not path.name.startswith(("test_", "."))):
        digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
