"""What is told to who sits at the terminal. Imports no torch."""

import atexit
import contextlib
import gc
import logging
import sys
import threading
from collections.abc import Iterator

SECONDS = 3.0
said = logging.getLogger(__name__)  # conf/hydra/job_logging gives it the file console.log, and no terminal


def say(text: str, error: bool = False) -> None:
    """Prints, below a progress bar where there is one (logging would write through it); and a job keeps it in its console.log."""
    print(text, file=sys.stderr if error else sys.stdout, flush=True)
    said.info(text)


@contextlib.contextmanager
def announced(what: str) -> Iterator[None]:
    """No silence: says `what` if it is still being done after 3 seconds."""
    timer = threading.Timer(SECONDS, say, [f"{what} ..."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """For the import of PyTorch and Lightning. The garbage collector would look through their 800,000 objects again and again, a sixth of
    the time that they take, and free 12 MB: it leaves them out, now and later."""
    anew = "torch" not in sys.modules and gc.isenabled()
    if anew:
        gc.disable()
    try:
        with announced("loading PyTorch and Lightning"):
            yield
    finally:
        if anew:
            gc.freeze()
            atexit.register(gc.unfreeze)  # or libraries that count what is left at the end report it
            gc.enable()
