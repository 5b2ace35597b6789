"""Verdicts hold: no difference is found in one of twenty at most, a clear one is found with two seeds, and what is open is called open."""

import numpy as np
import pytest
from scipy import stats

from innerloop.reports.verdicts import (
    Contender,
    Spread,
    compare_contenders,
    corrected,
    difference,
    doubts,
    half_width,
    holm,
    p_value,
    verdict,
)


def of(scores, seeds=None, name="x", is_baseline=False):
    return Contender(name, name, is_baseline, list(range(len(scores))) if seeds is None else seeds, scores, 10)


def drawn(rng, seeds, spread, count, shift=0.0, episodes=100):
    """Contenders of one truth: episodes differ, seeds by `spread`, each answer by a little."""
    hard = rng.normal(size=episodes)
    return [
        of(hard + shift * (i > 0) + rng.normal(scale=spread, size=(seeds, 1)) + rng.normal(scale=0.2, size=(seeds, episodes)), name=str(i))
        for i in range(count)
    ]


def test_difference_is_paired_by_episode_and_by_seed():
    rng = np.random.default_rng(0)
    hard, seed = rng.normal(size=200), np.array([[0.0], [1.0], [3.0]])
    noise = [rng.normal(scale=0.1, size=(3, 200)) for _ in range(2)]
    one, other = of(hard + seed + noise[0]), of(hard + seed + noise[1] - 0.5)
    found = difference(one, other, lower_is_better=True)
    each = (other.scores - one.scores).mean(0)
    assert found.difference == pytest.approx(-0.5, abs=0.03) and found.better and found.better_networks
    # a tenth of what unpaired scores would give
    assert found.networks == pytest.approx(stats.t.ppf(0.975, 199) * each.std(ddof=1) / 200**0.5)
    assert found.algorithms < 0.1  # the seeds' own spread, 1.5, is in both
    assert not difference(other, one, lower_is_better=True).better
    # in whatever order, and of the seeds that both have
    shuffled = difference(one, of(other.scores[[2, 0, 1]], [2, 0, 1]), True)
    assert shuffled[3:12] == pytest.approx(found[3:12])
    two = difference(one, of(other.scores[[2, 0]], [2, 0]), True)
    assert two.seeds == 2 and two.difference == pytest.approx(-0.5, abs=0.03) and two.value == pytest.approx(other.scores[[2, 0]].mean())
    strangers = difference(one, other._replace(seeds=[7, 8, 9]), True)
    assert strangers.algorithms == pytest.approx(stats.t.ppf(0.975, 2) * (2 * np.var([0, 1, 3], ddof=1) / 3) ** 0.5, rel=0.1)


def test_one_seed_each_is_a_paired_t_test_over_episodes():
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(1, 50)), rng.normal(0.3, size=(1, 50))
    found = difference(of(one), of(other), False)
    assert found.p_networks == pytest.approx(stats.ttest_rel(other[0], one[0]).pvalue)
    assert found.algorithms is None and found.p_algorithms is None and found.better is None and found.seeds_needed is None


def test_p_and_interval_are_those_of_students_t_where_one_spread_is_all():
    for freedom, t in ((1, 12.0), (4, 2.0), (500, 3.0)):
        assert p_value(t, [Spread(1.0, freedom)]) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-6)
        assert p_value(t, [Spread(1.0, freedom), Spread(0.0, 1)]) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-6)
    parts = [Spread(0.3, 1), Spread(0.7, 99)]
    assert p_value(half_width(parts), parts) == pytest.approx(0.05)
    assert p_value(1e9, [Spread(1.0, 99)]) == p_value(1.0, [Spread(0.0, 5)]) == 1e-12


@pytest.mark.parametrize("seeds, spread", [(1, 0.0), (2, 0.0), (2, 0.1), (2, 0.5), (3, 0.02), (5, 0.0), (5, 0.1), (10, 0.5)])
def test_where_there_is_no_difference_it_is_found_in_one_of_twenty_at_most(seeds, spread):
    """Of algorithms, whose networks differ from seed to seed: three others beside one, all together, by Holm's correction. (With one seed
    the word is of networks, which do differ where seeds spread.)"""
    rng, found = np.random.default_rng(1), []
    for _ in range(400):
        reference, *others = drawn(rng, seeds, spread, 4)
        found.append(any(one.answer is not None for one in compare_contenders(reference, others, True)))
    assert np.mean(found) < 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5


@pytest.mark.parametrize("seeds, spread, power", [(1, 0.02, 0.99), (2, 0.02, 0.6), (2, 0.1, 0.15), (3, 0.1, 0.85), (5, 0.3, 0.7)])
def test_a_clear_difference_is_found(seeds, spread, power):
    """Of one standard deviation of an episode's score, beside three others."""
    rng, found = np.random.default_rng(3), []
    for _ in range(200):
        reference, *others = drawn(rng, seeds, spread, 4, shift=1.0)
        found.append(np.mean([one.answer is False for one in compare_contenders(reference, others, True)]))
    assert np.mean(found) >= power


def test_a_second_seed_takes_no_evidence_away():
    """As MAML on sinusoids beside training from scratch: 0.7 and 4.0, seeds that hardly differ."""
    rng = np.random.default_rng(0)
    maml, scratch = (
        of(level + rng.gamma(1, level, (2, 200)) + rng.normal(0, 0.1, (2, 1)), name=name, is_baseline=name == "scratch")
        for level, name in ((0.7, "maml"), (4.0, "scratch"))
    )
    (two,) = compare_contenders(maml, [scratch], True)
    (one,) = compare_contenders(
        *(
            [c._replace(seeds=[0], scores=c.scores[:1])] if i else c._replace(seeds=[0], scores=c.scores[:1])
            for i, c in enumerate((maml, scratch))
        ),
        True,
    )
    assert one.answer is two.answer is False and two.p_algorithms < 0.01
    assert verdict(two) == "worse" and verdict(one) == "worse (these networks: one seed)" and doubts([two]) == []


def test_what_is_open_is_called_open():
    """And how many seeds would tell."""
    rng = np.random.default_rng(5)
    hard = rng.normal(size=100)
    reference = of(hard + np.array([[0.0], [0.4]]) + rng.normal(scale=0.1, size=(2, 100)) + 5, name="maml")
    baseline = of(hard + np.array([[0.5], [0.5]]) + rng.normal(scale=0.1, size=(2, 100)) + 5, name="joint", is_baseline=True)
    found = compare_contenders(reference, [baseline], True)
    (one,) = found
    assert one.better is None and one.better_networks is False and 3 <= one.seeds_needed <= 8
    assert verdict(one) == f"not decided, {one.seeds_needed} seeds would tell; worse for these networks"
    assert (
        doubts(found)[0].startswith("it is not decided whether maml beats the baseline joint: +") and "seeds would tell" in doubts(found)[0]
    )


def test_no_gain_is_said_where_the_interval_excludes_one():
    rng = np.random.default_rng(6)
    hard, noise = rng.normal(5, 1, size=400), [rng.normal(scale=0.05, size=(3, 400)) for _ in range(2)]
    baseline = of(hard + noise[1], name="joint", is_baseline=True)
    as_good, better, worse = (of(hard + noise[0] + shift, name="maml") for shift in (0.0, -0.5, 0.5))
    assert doubts(compare_contenders(as_good, [baseline], True))[0].startswith("maml gains nothing that matters over the baseline joint: ")
    assert doubts(compare_contenders(better, [baseline], True)) == []
    assert doubts(compare_contenders(worse, [baseline], True))[0].startswith("the baseline joint is better than maml: -0.5")


def test_one_seed_beside_several_tells_nothing_of_the_algorithms():
    rng = np.random.default_rng(0)
    one, several = (of(rng.normal(size=(seeds, 50))) for seeds in (1, 3))
    for pair in ((one, several), (several, one)):
        found = difference(*pair, True)
        assert found.p_algorithms is None and verdict(found).endswith("(these networks: one seed)")


def test_beside_what_diverged_nothing_is_decided():
    found = difference(of(np.full((1, 50), np.nan), name="lost"), of(np.ones((1, 50))), True)
    assert verdict(found) == "not decided: lost diverged"


def test_holm():
    assert holm([0.04, 0.01, 0.03, 0.9]) == pytest.approx([0.09, 0.04, 0.09, 0.9])


def test_what_diverged_or_is_equal_is_no_evidence():
    same = of(np.ones((1, 5)))
    assert difference(same, same, True).p_networks == 1.0
    (diverged,) = corrected([difference(same, of(np.full((1, 5), np.inf), is_baseline=True), True)])
    assert diverged.p_networks == 1.0 and verdict(diverged) == "diverged" and doubts([diverged]) == []
    assert difference(same, of(np.full((1, 5), 2.0)), True).p_networks == 1e-12
