"""Paired comparisons: the truth is found as often as it should be, seeds and episodes are told apart, other episodes are refused."""

import numpy as np
import pytest
from scipy import stats

from innerloop.compare import Comparison, Contender, compare, corrected, difference
from innerloop.config import InputError
from tests.conftest import TINY
from tests.test_command_line import call


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    directory = tmp_path_factory.mktemp("compared")
    call("train.py", "-m", *TINY, "test_episodes=40", "algo=joint,scratch,maml", "seed=0,1", f"hydra.sweep.dir={directory}")
    return directory


def test_difference_is_paired_by_episode_and_by_seed():
    rng = np.random.default_rng(0)
    hard, seed = rng.normal(size=200), np.array([[0.0], [1.0]])
    noise = [rng.normal(scale=0.1, size=(2, 200)) for _ in range(2)]
    one, other = Contender("one", [0, 1], hard + seed + noise[0]), Contender("other", [0, 1], hard + seed + noise[1] - 0.5)
    found = difference(one, other, lower_is_better=True)
    each = (other.scores - one.scores).mean(0)
    assert found.difference == pytest.approx(-0.5, abs=0.03) and found.better
    assert found.over_episodes == pytest.approx(1.96 * each.std(ddof=1) / 200**0.5)  # a tenth of what unpaired scores would give
    assert found.over_seeds < 0.05  # the seeds' own spread, 0.7, is in both
    assert found.p == pytest.approx(stats.ttest_rel(other.scores.mean(0), one.scores.mean(0)).pvalue)
    assert difference(one, other._replace(seeds=[2, 3]), True).over_seeds == pytest.approx(0.7, abs=0.1)
    assert not difference(other, one, lower_is_better=True).better


def test_where_there_is_no_difference_it_is_found_in_one_of_twenty():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(400):
        baseline, *others = (Contender(str(i), [0], rng.normal(size=(1, 60))) for i in range(4))
        found.append(any(one.better is not None for one in corrected([difference(baseline, other, True) for other in others])))
    assert 0.02 < np.mean(found) < 0.08  # all three together, by Holm's correction


def test_holm():
    def of(p):
        return Comparison("x", 1, 0.0, 0.1, 0.0, None, p, True)

    found = corrected([of(0.04), of(0.01), of(0.03), of(0.9)])
    assert [one.p for one in found] == pytest.approx([0.09, 0.04, 0.09, 0.9])
    assert [one.better for one in found] == [None, True, None, None]


def test_what_diverged_or_is_equal_is_no_evidence():
    same = Contender("same", [0], np.ones((1, 5)))
    assert difference(same, same, True).p == 1.0
    assert difference(same, same._replace(scores=np.full((1, 5), np.inf)), True).p == 1.0


def test_a_sweep_is_compared_with_its_first_run(sweep):
    stdout, _ = call("-m", "innerloop", "compare", str(sweep))
    assert "mse on sinusoid, 40 test episodes (" in stdout and "beside algo=joint: " in stdout
    assert "algo=maml" in stdout and "algo=scratch" in stdout and stdout.count("± ") == 2
    (scratch,) = [next(sweep.glob("scratch*"))]
    title, compared = compare([scratch, sweep], step=1)
    assert "beside algo=scratch seed" not in title and [one.name for one in compared] == ["algo=joint", "algo=maml"]
    assert [one.seeds for one in compared] == [2, 2]


def test_what_cannot_be_compared_is_refused(sweep, tmp_path):
    run = next(sweep.glob("maml*"))
    call("-m", "innerloop", "eval", str(run), "task.shots=3")
    evaluation = next(run.glob("evaluations/*.json"))
    with pytest.raises(
        InputError, match=r"not scored on the same test episodes \(task.shots=3 there and 10 here\); score one of them again"
    ):
        compare([run, evaluation])
    with pytest.raises(InputError, match="nothing to compare with the first run"):
        compare([run])
    with pytest.raises(InputError, match="was not scored after 9 adaptation steps, but after 0, 1, 2"):
        compare([sweep], step=9)
    (tmp_path / "error.txt").write_text("failed")
    with pytest.raises(InputError, match="no run below .* is finished"):
        compare([tmp_path])
    (evaluation.with_suffix(".csv")).unlink()
    _, stderr = call("-m", "innerloop", "compare", str(run), str(evaluation), code=1)
    assert stderr.startswith("Error: ") and "is not there; score the run again: innerloop eval" in stderr
