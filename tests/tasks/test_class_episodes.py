"""ClassEpisodes on a table whose images say which row and class they are."""

import numpy as np
import pytest
import torch

from innerloop.config import InputError
from innerloop.episode import Episode
from innerloop.runs.build import build_run
from innerloop.tasks.class_episodes import ClassEpisodes, Classes
from innerloop.tasks.meta_dataset import MetaDatasetEpisodes
from tests.conftest import compose_run

CLASSES, PER_CLASS = 12, 20
ROWS = CLASSES * PER_CLASS
MEMBERS = list(np.arange(ROWS).reshape(CLASSES, PER_CLASS))
NAMES = [f"class{c:02}" for c in range(CLASSES)]


def numbered_images() -> np.ndarray:
    """(rows, 1, 2, 2) uint8: the top left pixel is the row, the others are 0."""
    images = np.zeros((ROWS, 1, 2, 2), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(ROWS)
    return images


def make(ways: int = 5, shots: int = 2, queries: int = 3, quarter_turns: list[int] | None = None) -> ClassEpisodes:
    return ClassEpisodes(Classes(numbered_images(), MEMBERS, NAMES, quarter_turns), ways, shots, queries)


def draw(episodes: ClassEpisodes, index: int) -> Episode:
    return episodes.sample(np.random.default_rng([7, index]))


def rows_of(x: torch.Tensor) -> list[int]:
    return (x.flatten(1).amax(1) * 255).round().int().tolist()


def class_of_way(episode: Episode) -> dict[int, int]:
    return {way: row // PER_CLASS for row, way in zip(rows_of(episode.query.x), episode.query.y.tolist(), strict=True)}


def test_shapes_and_types():
    support, query = draw(make(), 0)
    assert support.x.shape == (10, 1, 2, 2) and query.x.shape == (15, 1, 2, 2)
    assert support.x.dtype == torch.float32 and support.y.dtype == torch.int64


def test_support_and_query_share_no_image():
    episodes = make(shots=10, queries=10)  # every image of a class is used
    for index in range(20):
        support, query = draw(episodes, index)
        assert len({*rows_of(support.x), *rows_of(query.x)}) == 5 * PER_CLASS


def test_classes_are_balanced_and_labels_name_one_class_in_both_sets():
    for index in range(20):
        episode = draw(make(), index)
        assert episode.support.y.bincount().tolist() == [2] * 5
        assert episode.query.y.bincount().tolist() == [3] * 5
        named = class_of_way(episode)
        assert len(set(named.values())) == 5
        assert all(row // PER_CLASS == named[way] for row, way in zip(rows_of(episode.support.x), episode.support.y.tolist(), strict=True))


def test_queries_may_be_spread_unevenly_over_any_number_of_ways():
    drawn = build_run(compose_run("task=glyphs", "algo=protonet", "task.ways=[3,5]", "task.train_ways=5", "task.balanced=false"))
    counts = [drawn.data.test_episodes.meta_batch([i]).query.y[0].bincount().tolist() for i in range(20)]
    assert {sum(of) // 15 for of in counts} == {3, 4, 5} and any(max(of) > 15 for of in counts)


def test_labels_are_redrawn_in_every_episode():
    """With as many ways as classes every episode has every class: only the labels can differ, and each class gets each label."""
    episodes = make(ways=CLASSES)
    label_of_first = [next(way for way, c in class_of_way(draw(episodes, i)).items() if c == 0) for i in range(300)]
    counts = np.bincount(label_of_first, minlength=CLASSES)
    assert counts.min() > 0 and counts.max() < 60  # 25 expected


def test_every_class_and_every_image_is_drawn():
    seen = {row for index in range(200) for examples in draw(make(), index) for row in rows_of(examples.x)}
    assert seen == set(range(ROWS))


def test_examples_come_in_random_order():
    orders = {tuple(examples.y.tolist()) for index in range(20) for examples in draw(make(), index)}
    assert len(orders) == 40
    assert tuple(sorted(draw(make(), 0).query.y.tolist())) not in orders


def test_the_same_generator_state_gives_the_same_episode_and_another_gives_another():
    episodes = make()
    first, again, other = draw(episodes, 3), draw(make(), 3), draw(episodes, 4)
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))
    assert not torch.equal(first.query.x, other.query.x)


def test_quarter_turns_turn_all_images_of_their_class_counterclockwise():
    turns = [c % 4 for c in range(CLASSES)]
    corner = {0: (0, 0), 1: (1, 0), 2: (1, 1), 3: (0, 1)}  # where the top left pixel goes
    for index in range(10):
        for examples in draw(make(quarter_turns=turns), index):
            for image, row in zip(examples.x, rows_of(examples.x), strict=True):
                assert round(image[0][corner[turns[row // PER_CLASS]]].item() * 255) == row


def test_a_turned_image_keeps_its_label():
    images = numbered_images()
    both = ClassEpisodes(Classes(images, [MEMBERS[1], MEMBERS[1]], ["upright", "turned"], [0, 1]), ways=2, shots=1, queries=9)
    episode = draw(both, 0)
    upright = [{y.item() for x, y in zip(e.x, e.y, strict=True) if x[0, 0, 0] > 0} for e in episode]
    assert upright[0] == upright[1] and len(upright[0]) == 1


def test_too_many_ways_are_refused_in_one_sentence():
    with pytest.raises(InputError) as refused:
        make(ways=13)
    assert (
        str(refused.value)
        == "task.ways=13 asks for more than the 12 classes there are; lower task.ways (or task.train_ways), or give the split more"
    )


def test_too_many_images_are_refused_by_the_name_of_the_smallest_class():
    members = [*MEMBERS[:4], MEMBERS[4][:6], *MEMBERS[5:]]
    with pytest.raises(InputError) as refused:
        ClassEpisodes(Classes(numbered_images(), members, NAMES), ways=5, shots=2, queries=5)
    assert str(refused.value).startswith("class 'class04' has 6 examples but an episode needs shots + queries = 7; lower task.shots")
    assert "\n" not in str(refused.value)


def test_all_classes_of_an_episode_are_of_one_group():
    """Of each group in turn; and where one has too few, its name is said."""
    groups = ["a", "b", "c"] * 4
    episodes = ClassEpisodes(Classes(numbered_images(), MEMBERS, NAMES, groups=groups), ways=3, shots=2, queries=3)
    drawn = [{c % 3 for c in class_of_way(draw(episodes, index)).values()} for index in range(30)]
    assert all(len(of) == 1 for of in drawn) and set.union(*drawn) == {0, 1, 2}
    with pytest.raises(InputError, match="task.ways=5 asks for more than the 4 classes there are of 'a'; lower task.ways"):
        ClassEpisodes(Classes(numbered_images(), MEMBERS, NAMES, groups=groups), ways=5, shots=2, queries=3)


def test_several_small_classes_are_named():
    members = [rows[: 3 + c] for c, rows in enumerate(MEMBERS)]
    with pytest.raises(InputError) as refused:
        ClassEpisodes(Classes(numbered_images(), members, NAMES), ways=5, shots=2, queries=8)
    assert str(refused.value).startswith("class 'class00' and 6 more (class01, class02, class03, ...) has 3 examples but an episode needs")


def test_what_is_no_image_stays_as_it_is():
    for inputs in (np.arange(ROWS)[:, None], np.arange(ROWS, dtype=np.float32)[:, None]):
        support, query = draw(ClassEpisodes(Classes(inputs, MEMBERS, NAMES), ways=5, shots=2, queries=3), 0)
        assert support.x.dtype == torch.from_numpy(inputs).dtype and query.x.shape == (15, 1)
        assert query.x.max() > 1


def test_augmentation_is_a_function_of_the_generator():
    """Each image is changed by itself; torch's own generator goes on as if nothing had been drawn."""

    def brighter(image):
        return image + torch.rand(())

    episodes = ClassEpisodes(Classes(numbered_images(), MEMBERS, NAMES), 5, 2, 3, augment=[brighter])
    torch.manual_seed(1)
    first = draw(episodes, 0)
    after = torch.rand(())
    torch.manual_seed(2)
    assert torch.equal(first.query.x, draw(episodes, 0).query.x) and not torch.equal(first.query.x, draw(episodes, 1).query.x)
    torch.manual_seed(1)
    assert after == torch.rand(()) and len(first.query.x[:, 0, 1, 1].unique()) == 15
    assert torch.equal(first.query.y, draw(make(), 0).query.y)


def test_an_augmentation_that_changes_the_size_is_refused():
    episodes = ClassEpisodes(Classes(numbered_images(), MEMBERS, NAMES), 5, 2, 3, augment=[lambda image: image[:, 1:]])
    with pytest.raises(InputError, match="task.augment makes images of .*, and the task's are .*; set the size of what it does"):
        draw(episodes, 0)


def test_exactly_as_many_as_there_are_is_fine():
    assert draw(make(ways=CLASSES, shots=5, queries=15), 0).query.y.bincount().tolist() == [15] * CLASSES


def sized(sizes, groups=None):
    """Classes of so many examples each, which are numbers of their own."""
    ends = np.cumsum(sizes)
    members = [np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    return Classes(np.arange(ends[-1], dtype=np.float32)[:, None], members, [f"c{i}" for i in range(len(sizes))], groups=groups)


def test_meta_datasets_rule():
    """The published procedure, number by number, and its bounds."""
    sizes = np.random.default_rng(0).integers(2, 400, 80)
    classes = sized(sizes)
    episodes = MetaDatasetEpisodes(classes, (5, 50), (1, 100), 10)
    of_row = np.repeat(np.arange(80), sizes)
    seen = []
    for index in range(200):
        support, query = episodes.sample(np.random.default_rng(index))
        rows = [part.x[:, 0].long().numpy() for part in (support, query)]
        assert not set(rows[0]) & set(rows[1]) and len(set(rows[0])) == len(rows[0])
        drawn = {int(y): of_row[row] for row, y in zip(rows[0], support.y, strict=True)}
        assert all(drawn[int(y)] == of_row[row] for row, y in zip(rows[1], query.y, strict=True))
        ways, counts = len(drawn), support.y.bincount()
        most = min(10, min(sizes[c] for c in drawn.values()) // 2)
        assert 5 <= ways <= 50 and query.y.bincount().tolist() == [most] * ways
        assert len(support.y) <= 500 and counts.min() >= 1 and (counts.numpy() <= sizes[[drawn[i] for i in range(ways)]] - most).all()
        seen.append((ways, len(support.y), counts.max() / counts.min()))
    ways, support, ratio = np.array(seen).T
    assert ways.min() < 10 and ways.max() > 45 and support.min() < 100 and 450 < support.max() <= 500 and np.median(ratio) > 3
    one, other = (episodes.sample(np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(one.support.x, other.support.x) and torch.equal(one.query.y, other.query.y)


def test_meta_datasets_rule_in_a_group():
    groups = ["a"] * 6 + ["b"] * 30
    episodes = MetaDatasetEpisodes(sized([20] * 36, groups), (5, 50), (1, 100), 10)
    ways = {(row >= 120): [] for row in (0, 200)}
    for index in range(100):
        support, _ = episodes.sample(np.random.default_rng(index))
        of_b = support.x[:, 0] >= 120
        assert of_b.all() or not of_b.any()
        ways[bool(of_b[0])].append(int(support.y.max()) + 1)
    assert max(ways[False]) == 6 and max(ways[True]) > 20
    with pytest.raises(InputError, match="has 1 examples"):
        MetaDatasetEpisodes(sized([20] * 6 + [1]), (5, 50), (1, 100), 10)
    with pytest.raises(InputError, match="asks for more than the 4 classes"):
        MetaDatasetEpisodes(sized([20] * 4), (5, 50), (1, 100), 10)


def test_strangers_come_after_an_episode_that_is_as_without_them():
    turns, groups = [c % 4 for c in range(CLASSES)], ["a", "b"] * 6
    classes = Classes(numbered_images(), MEMBERS, NAMES, turns, groups)
    for ways, strangers in ((5, 3), (3, 7)):  # one other class in the group, and three
        without, with_them = (ClassEpisodes(classes, ways, 2, 3, strangers=count) for count in (0, strangers))
        for index in range(20):
            known, open_set = draw(without, index), draw(with_them, index)
            assert torch.equal(open_set.support.x, known.support.x) and torch.equal(open_set.query.x[: 3 * ways], known.query.x)
            assert open_set.query.y.tolist() == [*known.query.y.tolist(), *[-1] * strangers]
            ours, others = ({row // PER_CLASS for row in rows_of(x)} for x in (known.query.x, open_set.query.x[3 * ways :]))
            assert not ours & others and len({c % 2 for c in ours | others}) == 1
            for image, row in zip(open_set.query.x[3 * ways :], rows_of(open_set.query.x[3 * ways :]), strict=True):
                assert round(np.rot90(image.numpy(), -turns[row // PER_CLASS], axes=(-2, -1))[0, 0, 0] * 255) == row


def test_strangers_of_meta_datasets_rule_and_where_there_are_none():
    classes = Classes(numbered_images(), MEMBERS, NAMES)
    episode = MetaDatasetEpisodes(classes, (5, 9), (1, 5), 4, strangers=6).sample(np.random.default_rng(0))
    known = int((episode.query.y >= 0).sum())
    ours, others = ({row // PER_CLASS for row in rows_of(x)} for x in (episode.query.x[:known], episode.query.x[known:]))
    assert (episode.query.y[known:] == -1).sum() == 6 and not ours & others
    widest = MetaDatasetEpisodes(classes, (5, 50), (1, 5), 4, strangers=2)
    ways = [int(widest.sample(np.random.default_rng(i)).support.y.max()) + 1 for i in range(100)]
    assert max(ways) == CLASSES - 1  # one is left for them
    with pytest.raises(InputError, match="task.strangers=2 are of other classes than the episode's, and task.ways=12 takes all; lower it"):
        ClassEpisodes(classes, CLASSES, 2, 3, strangers=2)
