"""What is told to who sits at the terminal. Imports no torch."""

import contextlib
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
