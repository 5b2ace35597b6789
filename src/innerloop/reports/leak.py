"""How much of a score comes from looking at the other queries."""

from pathlib import Path

from innerloop.reports.compare import Comparison, compare
from innerloop.runs.rescore import rescore

WAYS = ("true", "support", "false")


def leak(run: Path, overrides: list[str], trust: bool = False) -> tuple[str, list[Comparison]]:
    """Scores a run with the batch statistics of all queries, of the support set, and of the support set and one query at a time.

    Returns a title and the last two beside the first: where they are worse, that much was taken from the other queries. A model without
    batch statistics does not change. overrides: for all three; the third takes as many forward passes as queries. trust: as for load_run.
    """
    return compare([rescore(run, [*overrides, f"transductive={way}"], trust)[1] for way in WAYS])
