"""Commands as a user types them, in this process, or in one of their own where the process is what is tested."""

import contextlib
import io
import logging
import os
import runpy
import subprocess
import sys
from unittest import mock

from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton

from innerloop import cli
from innerloop.config import register
from innerloop.console import said
from innerloop.sweeps import callbacks, reference  # noqa: F401  register what Hydra would forget with the first command
from innerloop.sweeps.search import LOCKS
from tests.conftest import ROOT

register()  # before the first command, which would take it with it
Plugins.instance()  # the launchers' too
ENVIRONMENT = {**os.environ, "COLUMNS": "200"}


def start(*arguments, code=0, cwd=ROOT):
    """Runs python with these arguments; returns what it printed. No run may print a warning or, for bad input, a traceback."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def call(*arguments, code=0, cwd=ROOT):
    """The same of `train.py ...` and `-m innerloop ...` without the seconds that a process takes to begin. Warnings are errors here."""
    module = arguments[:2] == ("-m", "innerloop")
    out, err, found = io.StringIO(), io.StringIO(), 0
    argv = ["innerloop", *map(str, arguments[2:])] if module else [str(ROOT / "train.py"), *map(str, arguments[1:])]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), as_a_new_process(argv, cwd):
        try:
            cli.main() if module else runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        except SystemExit as end:
            found = end.code or 0
    assert found == code, out.getvalue() + err.getvalue()
    assert "Traceback" not in err.getvalue()
    return out.getvalue(), err.getvalue()


@contextlib.contextmanager
def as_a_new_process(argv, cwd):
    """Puts back what a command changes in its process: logging, Hydra, the environment, the path."""
    root, hydra = logging.getLogger(), Singleton.get_state()
    handlers, level, path = root.handlers[:], root.level, sys.path[:]
    GlobalHydra.instance().clear()
    try:
        with mock.patch.dict(os.environ, {"COLUMNS": "200"}), mock.patch.object(sys, "argv", argv), contextlib.chdir(cwd):
            yield
    finally:
        Singleton.set_state(hydra)
        while LOCKS:  # of a search: until its process ends
            LOCKS.pop().release()
        root.handlers[:], sys.path[:] = handlers, path
        root.setLevel(level)
        for handler in said.handlers[:]:  # the console.log of the last job
            said.removeHandler(handler)
            handler.close()
        for logger in logging.Logger.manager.loggerDict.values():
            if isinstance(logger, logging.Logger):
                logger.disabled = False
