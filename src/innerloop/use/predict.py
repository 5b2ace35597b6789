"""`innerloop predict`: a few labelled examples and many new ones in, a table of answers out."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from scipy.stats import binomtest

from innerloop.config import InputError
from innerloop.files import write_whole
from innerloop.training.evaluation import half_ci95
from innerloop.use.learner import Answer, Learner

SHOWN = 20  # answers on the screen; a file has all
UNSURE = "among the least sure"


def predict(run: Path, support: str, new: str, steps: int | None, abstain: float | None, trust: bool) -> tuple[list[Answer], list[str]]:
    """Fits a run to `support` and answers `new`. Returns the answers, and what there is to say of the fit.

    abstain: the share of answers to give, the surest; the others say so in their reason. Raises InputError.
    """
    if abstain is not None and not 0 < abstain <= 1:
        raise InputError(f"--abstain must be a share from 0 to 1, as 0.8 for the surest four fifths, got {abstain:g}")
    learner = Learner(run, steps, trust)
    told = report_of_fit(learner.fit(support))
    answers = list(with_bar(learner.answers(new)))
    if abstain is not None:
        answers = surest(answers, abstain)
    classes = {str(name) for name in learner.classes_} if learner.is_classifier else set()
    return answers, [*told, *report_of_labels(answers, classes)]


def with_bar(answers: Any) -> Any:
    terminal = Console(stderr=True)
    return track(answers, "Predicting", console=terminal, transient=True, disable=not terminal.is_terminal)


def report_of_fit(learner: Learner) -> list[str]:
    """How many examples of what it was fitted to, and what to expect of it."""
    x, y = learner.support
    if not learner.is_classifier:
        left = learner.leave_one_out()
        errors = np.array([np.mean((np.asarray(answer.value) - np.asarray(answer.label)) ** 2) for answer in left])
        interval = f" ± {half_ci95(errors.std(ddof=1), len(errors)):.4g}" if len(errors) > 1 else ""
        told = f"left out one by one: mean squared error {errors.mean():.4g}{interval}" if len(errors) else "too few to leave one out"
        return [f"fitted to {len(x)} points; {told}"]
    counts = ", ".join(f"{count} {name}" for name, count in zip(learner.classes_, np.bincount(y.numpy()), strict=True))
    return [f"fitted to {len(x)} examples of {len(learner.classes_)} classes: {counts}", estimate(learner.leave_one_out())]


def estimate(left: Sequence[Answer]) -> str:
    """The accuracy to expect, from the examples that were left out one by one; the interval is Wilson's, over examples."""
    if not left:
        return "no estimate of accuracy: a class has but one example, and none can be left out"
    right = sum(str(answer.value) == str(answer.label) for answer in left)
    interval = binomtest(right, len(left)).proportion_ci(method="wilson")
    return (
        f"left out one by one, {right} of {len(left)} are right: accuracy {100 * right / len(left):.0f} %, "
        f"95 % interval {100 * interval.low:.0f} to {100 * interval.high:.0f} %"
    )


def report_of_labels(answers: Sequence[Answer], classes: set[str]) -> list[str]:
    """How many were read, answered, and right, where their labels are known (folders by class, a column class)."""
    unread = sum(answer.value is None and not answer.reason.startswith(UNSURE) for answer in answers)
    told = [f"{unread} of {len(answers)} could not be read"] if unread else []
    known = [answer for answer in answers if answer.confidence is not None and answer.value is not None and str(answer.label) in classes]
    if known:
        right = sum(str(answer.value) == str(answer.label) for answer in known)
        told.append(f"{right} of {len(known)} agree with their folder, or their column class: {100 * right / len(known):.1f} %")
    return told


def surest(answers: Sequence[Answer], share: float) -> list[Answer]:
    """The others lose their answer."""
    sure = sorted((answer.confidence for answer in answers if answer.confidence is not None), reverse=True)
    if not sure:
        return list(answers)
    least = sure[max(round(share * len(sure)), 1) - 1]
    reason = f"{UNSURE} {100 - 100 * share:.0f} %"
    return [
        answer._replace(value=None, reason=reason) if answer.confidence is not None and answer.confidence < least else answer
        for answer in answers
    ]


def columns_of(answers: Sequence[Answer]) -> list[str]:
    return ["file", "label", "confidence", "reason"] if any(a.confidence is not None for a in answers) else ["file", "value", "reason"]


def cells_of(answer: Answer, columns: Sequence[str]) -> list[str]:
    cells = {"file": answer.name, "label": "" if answer.value is None else str(answer.value), "reason": answer.reason}
    cells["confidence"] = "" if answer.confidence is None else f"{answer.confidence:.4f}"
    cells["value"] = "" if answer.value is None or "value" not in columns else " ".join(f"{v:.6g}" for v in np.atleast_1d(answer.value))
    return [cells[column] for column in columns]


def answer_table(answers: Sequence[Answer]) -> Table:
    """The answers, or the first of them; the column of reasons only where there is one."""
    columns, shown = columns_of(answers), answers[:SHOWN]
    if not any(answer.reason for answer in answers):
        columns = columns[:-1]
    table = Table(*columns)
    for answer in shown:
        table.add_row(*map(escape, cells_of(answer, columns)[: len(columns)]))  # brackets in names are rich's markup
    if len(shown) < len(answers):
        table.caption = f"and {len(answers) - len(shown)} more; --csv FILE writes all"
    return table


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    """As a CSV file."""
    columns, text = columns_of(answers), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(cells_of(answer, columns) for answer in answers)
    write_whole(path, text.getvalue().encode())
