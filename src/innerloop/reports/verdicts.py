"""Whether one contender is better than another: for the networks that were trained, and for the algorithms that trained them."""

from typing import NamedTuple

import numpy as np
from scipy import optimize
from scipy.special import stdtrit

from innerloop.reports.table import number

MATTERS = 0.02  # a gain below this part of the reference's value is none that matters
LEVEL = 0.05


class Contender(NamedTuple):
    """Runs that differ in their seed alone. scores: (seeds, episodes), of the metric after `steps` adaptation steps. is_baseline: as its
    algorithm says."""

    name: str
    algo: str
    is_baseline: bool
    seeds: list[int]
    scores: np.ndarray
    steps: int
    metric: str = ""


class Comparison(NamedTuple):
    """A contender's scores minus those of the reference, `beside`, of the seeds that both have if these are two or more.

    Two questions. Of these networks: would other episodes say the same? Of these algorithms: would other seeds and other episodes?
    The first has an answer with one seed too, the second has none then (None).

    networks, algorithms: half the 95 % interval of the difference. p_networks, p_algorithms: that there is no difference, corrected for
    the number of contenders (Holm). better_networks, better: None where that p is above 0.05: not decided. no_gain: the interval (of the
    algorithms; with one seed, of the networks) excludes that the reference is better by more than MATTERS of its value. seeds_needed:
    about how many would decide on the algorithms, where they are not decided and a number up to 50 would.
    """

    name: str
    beside: str
    is_baseline: bool
    seeds: int
    steps: int
    value: float
    difference: float
    networks: float
    algorithms: float | None
    p_networks: float
    p_algorithms: float | None
    better_networks: bool | None
    better: bool | None
    no_gain: bool
    seeds_needed: int | None
    metric: str = ""

    @property
    def answer(self) -> bool | None:
        """Of the algorithms; with one seed, of the networks."""
        return self.better_networks if self.p_algorithms is None else self.better


class Spread(NamedTuple):
    """A part of the variance of a mean, from `freedom` + 1 numbers."""

    variance: float
    freedom: int


def compare_contenders(reference: Contender, others: list[Contender], lower_is_better: bool) -> list[Comparison]:
    """Each of the others beside one."""
    return corrected([difference(reference, other, lower_is_better) for other in others])


@np.errstate(invalid="ignore")  # of what diverged
def difference(reference: Contender, other: Contender, lower_is_better: bool) -> Comparison:
    """Seeds are paired where both have the same ones (two or more), else all are taken."""
    ours, theirs, paired = paired_seeds(reference, other)
    by_episode = theirs.mean(0) - ours.mean(0)
    mean, count = float(by_episode.mean()), len(by_episode)
    episodes = Spread(float(by_episode.var(ddof=1)) / count, count - 1)
    means = [(theirs - ours).mean(1)] if paired else [ours.mean(1), theirs.mean(1)]
    known = all(len(values) > 1 for values in means)  # how seeds spread, on both sides
    seeds = [Spread(float(values.var(ddof=1)) / len(values), len(values) - 1) for values in means] if known else []
    better = bool((mean < 0) == lower_is_better)
    half = half_width([episodes])
    over_all = half_width([episodes, *seeds]) if seeds else None
    gain = mean if lower_is_better else -mean  # of the reference
    upper = gain + (half if over_all is None else over_all)
    return Comparison(
        other.name, reference.name, other.is_baseline, len(theirs), other.steps, float(theirs.mean()), mean, half, over_all,
        p_value(mean, [episodes]), p_value(mean, [episodes, *seeds]) if seeds else None, better, better if seeds else None,
        bool(upper < MATTERS * abs(ours.mean())), needed(mean, episodes, seeds, len(theirs)) if seeds else None,
        reference.metric,
    )  # fmt: skip


def paired_seeds(reference: Contender, other: Contender) -> tuple[np.ndarray, np.ndarray, bool]:
    """The scores of both, of the same seeds if that is said."""
    shared = sorted(set(reference.seeds) & set(other.seeds))
    if len(shared) < 2 and reference.seeds != other.seeds:
        return reference.scores, other.scores, False
    ours, theirs = (one.scores[[one.seeds.index(seed) for seed in shared]] for one in (reference, other))
    return ours, theirs, True


def half_width(spreads: list[Spread], level: float = LEVEL) -> float:
    """Of the interval of a mean whose variance has several parts: each with Student's quantile of its own, added as squares (Banerjee 1960,
    Sankhya 22, 357). It holds the truth in 95 of 100 cases at least; a part that few numbers tell widens it only as far as it is large."""
    return float(sum(part.variance * stdtrit(part.freedom, level / 2) ** 2 for part in spreads) ** 0.5)


def p_value(mean: float, spreads: list[Spread]) -> float:
    """The level at which the interval ends at 0, 1e-12 at least. 1 for what diverged, or is equal throughout."""
    total = sum(part.variance for part in spreads)
    if not np.isfinite(mean) or not np.isfinite(total) or mean == 0:
        return 1.0
    if abs(mean) >= half_width(spreads, 1e-12):
        return 1e-12
    return float(10 ** optimize.brentq(lambda power: half_width(spreads, 10**power) - abs(mean), -12.0, 0.0))


def needed(mean: float, episodes: Spread, seeds: list[Spread], count: int) -> int | None:
    """About how many seeds would show a difference of this size, were the spread what it seems; None above 50."""
    if not np.isfinite(mean) or mean == 0:
        return None
    for more in (more for more in (3, 4, 5, 6, 8, 10, 15, 20, 30, 50) if more > count):
        parts = [episodes, *(Spread(part.variance * (part.freedom + 1) / more, more - 1) for part in seeds)]
        if half_width(parts) < abs(mean):
            return more
    return None


def corrected(comparisons: list[Comparison]) -> list[Comparison]:
    """p-values by Holm's method, and no word on which is better where they do not allow one."""
    networks = holm([one.p_networks for one in comparisons])
    several = [index for index, one in enumerate(comparisons) if one.p_algorithms is not None]
    algorithms = dict(zip(several, holm([comparisons[index].p_algorithms or 0.0 for index in several]), strict=True))
    return [
        one._replace(
            p_networks=networks[index],
            p_algorithms=algorithms.get(index),
            better_networks=one.better_networks if networks[index] < LEVEL else None,
            better=one.better if algorithms.get(index, 1.0) < LEVEL else None,
            seeds_needed=one.seeds_needed if algorithms.get(index, 0.0) >= LEVEL else None,
        )
        for index, one in enumerate(comparisons)
    ]


def holm(values: list[float]) -> list[float]:
    order, largest, found = sorted(range(len(values)), key=values.__getitem__), 0.0, list(values)
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        found[index] = largest
    return found


def verdict(one: Comparison) -> str:
    """In words."""
    words = {True: "better", False: "worse", None: "not decided"}
    if not np.isfinite(one.difference):
        return "diverged" if not np.isfinite(one.value) else f"not decided: {one.beside} diverged"
    if one.p_algorithms is None:
        return f"{words[one.better_networks]} (these networks: one seed)"
    if one.better is not None or one.better_networks is None:
        return words[one.better]
    seeds = f", {one.seeds_needed} seeds would tell" if one.seeds_needed else ""
    return f"not decided{seeds}; {words[one.better_networks]} for these networks"


def doubts(comparisons: list[Comparison]) -> list[str]:
    """A sentence for each baseline that the reference does not beat: it is better, or as good, or that is not decided."""
    found = []
    for one in comparisons:
        if not one.is_baseline or not np.isfinite(one.difference) or one.answer is False:
            continue
        half = one.networks if one.algorithms is None else one.algorithms
        size = f"{'+' * (one.difference >= 0)}{number(one.difference, one.metric)} ± {number(half, one.metric)}"
        if one.answer is True:
            found.append(f"the baseline {one.name} is better than {one.beside}: {size}")
        elif one.no_gain:
            found.append(f"{one.beside} gains nothing that matters over the baseline {one.name}: {size}")
        else:
            seeds = (
                f"; about {one.seeds_needed} seeds would tell" if one.seeds_needed else "; more seeds, or more test episodes, would tell"
            )
            found.append(f"it is not decided whether {one.beside} beats the baseline {one.name}: {size}{seeds}")
    return found
