"""Objects of unseen classes in scenes: boxes and masks."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import multiclass_jaccard_index
from torchvision.ops import box_iou, nms

import innerloop
from innerloop.config import InputError
from innerloop.detection import (
    ap50,
    decode_boxes,
    detection_loss,
    encode_boxes,
    mean_iou,
    overlaps,
    segmentation_loss,
    surest,
)
from innerloop.models.dense import Dense
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from innerloop.tasks.images.scenes import Scene, Scenes
from tests.command_line import call
from tests.conftest import TINY, compose_run
from tests.tiny_data import image_files, write_tree

FEW = [*TINY, "task=scenes", "task.shots=2", "task.queries=3", "model.filters=4", "algo.inner_lr=0.1"]
COMMON = dict(
    of="glyphs", kind="boxes", root=None, split=None, channels=1, size=48, grid=6, ways=3, shots=5, queries=10, objects=[1, 3]
)  # fmt: skip


def scenes(**changed):
    return Scenes(**(COMMON | changed))


def test_boxes_are_where_the_ink_is():
    """Of scenes with one object, the box is the smallest around its pixels; a box decodes to itself."""
    (x, y), _ = scenes(objects=[1, 1]).distribution("test").sample(np.random.default_rng(0))
    boxes = decode_boxes(y[..., 1:]) * 8
    for image, targets, found in zip(x, y, boxes, strict=True):
        rows, columns = (torch.nonzero(image[0].amax(axis) > 0.1)[:, 0] for axis in (1, 0))
        (box,) = found[targets[:, 0] > 0]
        around = torch.stack([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]).float()
        assert (box - around).abs().max() <= 2  # what is faint at its rim counts too
    labels = np.array([1.0, 2.0])
    given = np.array([[0.5, 0.5, 2.25, 3.0], [3.0, 1.0, 5.5, 5.0]])
    targets = torch.from_numpy(encode_boxes(given, labels, 6))
    there = targets[:, 0] > 0
    torch.testing.assert_close(decode_boxes(targets[:, 1:])[there], torch.tensor(given, dtype=torch.float32))
    assert targets[there, 0].tolist() == labels.tolist()


def test_masks_and_boxes_are_of_the_same_scenes():
    (x, y), _ = scenes(objects=[2, 3]).distribution("val").sample(np.random.default_rng(3))
    (same, masks), _ = scenes(objects=[2, 3], kind="masks").distribution("val").sample(np.random.default_rng(3))
    assert torch.equal(x, same)
    for mask, targets in zip(masks.view(-1, 48, 48), y, strict=True):
        assert set(mask.unique().tolist()) - {0} == set(targets[targets[:, 0] > 0, 0].long().tolist())
        for (top, left, bottom, right), label in zip(decode_boxes(targets[:, 1:]) * 8, targets[:, 0], strict=True):
            inside = mask[round(top.item()) : round(bottom.item()), round(left.item()) : round(right.item())]
            assert not label or set(inside.unique().tolist()) <= {0, int(label)}


def test_a_box_beside_the_centre_of_its_cell_is_kept_as_it_is():
    given = np.array([[3.05, 5.6, 3.35, 5.9]])
    targets = torch.from_numpy(encode_boxes(given, np.array([1.0]), 8))
    torch.testing.assert_close(decode_boxes(targets[:, 1:])[targets[:, 0] > 0], torch.tensor(given, dtype=torch.float32))
    turned = decode_boxes(torch.tensor([[-0.4, 0.0, 0.1, 0.0]]).expand(4, 4))  # by the network, its sides the wrong way round
    assert (turned[:, 2] >= turned[:, 0]).all()


def test_points_are_the_middles_of_boxes():
    """As boxes of a cell's size: one counts as found where it is no more than a third of a cell off."""
    (x, y), _ = scenes().distribution("val").sample(np.random.default_rng(3))
    (same, points), _ = scenes(kind="points").distribution("val").sample(np.random.default_rng(3))
    assert torch.equal(x, same) and torch.equal(points[..., 0], y[..., 0])
    there = y[..., 0] > 0
    boxes, found = decode_boxes(y[..., 1:])[there], decode_boxes(points[..., 1:])[there]
    torch.testing.assert_close((found[:, :2] + found[:, 2:]) / 2, (boxes[:, :2] + boxes[:, 2:]) / 2)
    torch.testing.assert_close(found[:, 2:] - found[:, :2], torch.ones(len(found), 2))
    sure = torch.cat([20 * nn.functional.one_hot(points[..., 0].long(), 4), points[..., 1:]], -1)[None]
    for off, worth in ((0.3, 1.0), (0.4, 0.0)):
        moved, down = sure.clone(), torch.where(sure[..., -4] >= 0.5, off, -off)  # no side crosses the centre of its cell
        moved[..., -4] -= down
        moved[..., -2] += down
        assert ap50(moved, points[None]).item() == pytest.approx(worth)


def test_an_episode_has_its_classes_and_no_drawing_twice():
    tasks = scenes(objects=[3, 3])
    episodes = tasks.distribution("test")
    first, second = (episodes.sample(np.random.default_rng(7)) for _ in range(2))
    assert all(torch.equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True))
    assert set(first.support.y[..., 0].unique().tolist()) == {0, 1, 2, 3}
    names = [set(tasks.contents(split)) for split in ("train", "val", "test")]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]


def test_there_may_be_nothing_in_a_scene():
    (_, y), query = scenes(objects=[0, 1]).distribution("test").sample(np.random.default_rng(0))
    counts = (torch.cat([y, query.y])[..., 0] > 0).sum(1)
    assert counts.max() == 1 and counts.min() == 0 and counts[0] == 1
    assert torch.isfinite(detection_loss(torch.zeros(1, 2, 36, 8), torch.zeros(1, 2, 36, 5))).all()


def test_full_scenes_take_no_more():
    scene = Scene(1, 48, 8)
    rng = np.random.default_rng(0)
    for _ in range(60):
        scene.put(rng, np.full((1, 20, 20), 255, np.uint8), 1)
    assert 2 <= len(scene.boxes) < 60
    covered = sum((b - t) * (r - l) for t, l, b, r in scene.boxes)  # noqa: E741
    assert covered == (scene.pixels > 0).sum()  # none over another


def random_episode(generator, ways=2, scenes=6, cells=36):
    """Predictions that are more or less right, with doubles, misses and equal scores; scenes with and without objects."""
    y, share = torch.zeros(scenes, cells, 5), torch.rand(1, generator=generator)
    for scene in range(scenes):
        count = int(torch.randint(0, 4, (1,), generator=generator))
        at = torch.randperm(cells, generator=generator)[:count]
        y[scene, at, 0] = torch.randint(1, ways + 1, (count,), generator=generator).float()
        y[scene, at, 1:] = torch.rand(count, 4, generator=generator) * 1.5 + 0.2
    scores = torch.randn(scenes, cells, ways + 1, generator=generator) + 3 * nn.functional.one_hot(y[..., 0].long(), ways + 1)
    boxes = y[..., 1:] + share * torch.randn(y[..., 1:].shape, generator=generator)
    return torch.cat([scores.round() if share < 0.4 else scores, boxes], -1), y


def test_average_precision_is_cocos():
    """As torchmetrics has it from pycocotools, whose recalls are float64 numbers."""
    detection = pytest.importorskip("torchmetrics.detection")
    pytest.importorskip("pycocotools")
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        predictions, y = random_episode(generator)
        metric = detection.MeanAveragePrecision(iou_thresholds=[0.5], rec_thresholds=np.linspace(0, 1, 101).tolist())
        boxes, scores, true = decode_boxes(predictions[..., -4:]), predictions[..., :-4].softmax(-1)[..., 1:], decode_boxes(y[..., 1:])
        given, wanted = [], []
        for scene in range(len(y)):
            kept = []
            for kind in range(2):
                order = scores[scene, :, kind].argsort(descending=True, stable=True)
                alone = order[nms(boxes[scene, order], torch.arange(36, 0, -1).float(), 0.5)]
                kept += [(boxes[scene, i], scores[scene, i, kind], torch.tensor(kind)) for i in alone]
            given.append(dict(zip(("boxes", "scores", "labels"), map(torch.stack, zip(*kept, strict=True)), strict=True)))
            there = y[scene, :, 0] > 0
            wanted.append({"boxes": true[scene, there], "labels": y[scene, there, 0].long() - 1})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric.update(given, wanted)
            found = metric.compute()["map_50"].item()
        assert ap50(predictions[None], y[None]).item() == pytest.approx(max(found, 0.0), abs=1e-6)


def test_average_precision_by_hand():
    y = torch.zeros(1, 1, 36, 5)
    y[0, 0, 7], y[0, 0, 21] = torch.tensor([1.0, 0.5, 0.5, 0.5, 0.5]), torch.tensor([2.0, 1, 1, 1, 1])
    perfect = torch.cat([20 * nn.functional.one_hot(y[..., 0].long(), 3), y[..., 1:]], -1)
    assert ap50(perfect, y).item() == 1.0
    half = perfect.clone()
    half[0, 0, 21, :3] = torch.tensor([20.0, 0, 0])  # finds the object of class 2 nowhere: its box has no score that counts
    half[0, 0, 21, 3:] = 0
    assert ap50(half, y).item() == pytest.approx(0.5, abs=0.01)
    assert torch.isnan(ap50(perfect * torch.nan, y)).all()
    boxes, labels = surest(perfect[0, 0])
    torch.testing.assert_close(boxes[labels.argsort()], decode_boxes(y[0, 0, :, 1:])[[7, 21]])
    some, others = torch.rand(2, 5, 4).sort(-1)[0]
    torch.testing.assert_close(torch.from_numpy(overlaps(some[None].numpy(), others[None].numpy())[0]), box_iou(some, others))


def test_mean_iou_is_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    predictions, y = torch.randn(3, 2, 50, 4, generator=generator), torch.randint(0, 4, (3, 2, 50), generator=generator)
    y[0][y[0] == 2] = 0  # a class that the first task does not show
    for found, p, labels in zip(mean_iou(predictions, y), predictions, y, strict=True):
        each = multiclass_jaccard_index(p.flatten(0, 1).argmax(-1), labels.flatten(), 4, average="none")[1:]
        there = torch.tensor([(labels == kind).any() for kind in (1, 2, 3)])
        assert found.item() == pytest.approx(each[there].mean().item(), abs=1e-6)


def test_losses_are_of_each_task():
    generator = torch.Generator().manual_seed(0)
    predictions, y = random_episode(generator)
    both = detection_loss(torch.stack([predictions, predictions * 2]), torch.stack([y, y]))
    torch.testing.assert_close(both[0], detection_loss(predictions[None], y[None])[0])
    there = y[..., 0] > 0
    wrong = nn.functional.cross_entropy(predictions[..., :-4].flatten(0, 1), y[..., 0].long().flatten(), reduction="none").view(6, 36)
    off = nn.functional.smooth_l1_loss(predictions[..., -4:], y[..., 1:], reduction="none").mean(-1)
    torch.testing.assert_close(both[0], (wrong + off)[there].mean() + wrong[~there].mean())


def test_pixels_of_objects_count_as_much_as_the_others():
    generator = torch.Generator().manual_seed(0)
    logits, y = torch.randn(2, 3, 50, 4, generator=generator), torch.randint(0, 4, (2, 3, 50), generator=generator)
    y[1] = 0  # nothing in any scene of the second task
    wrong = nn.functional.cross_entropy(logits.movedim(-1, 1), y, reduction="none")
    expected = [wrong[0][y[0] > 0].mean() + wrong[0][y[0] == 0].mean(), wrong[1].mean()]
    torch.testing.assert_close(segmentation_loss(logits, y), torch.stack(expected))


def test_a_classifiers_body_is_taken_by_name(tmp_path):
    """And what does not fit is said."""
    classifier = run(
        compose_run(*TINY, "task=glyphs", "model.filters=4", "model.norm=group", "model.pool=max", "algo=joint", "algo.inner_lr=0.1"),
        tmp_path / "classifier",
    )
    assert classifier["algo"] == "joint"
    theirs = build_run(compose_run(*FEW, f"model.base={tmp_path / 'classifier'}")).learner.algorithm.model
    saved = torch.load(tmp_path / "classifier/checkpoints/best.ckpt", weights_only=False)["state_dict"]
    for name, value in theirs.body.state_dict().items():
        assert torch.equal(value, saved[f"algorithm.model.body.{name}"])
    with pytest.raises(InputError, match="model.base has no body for this network"):
        build_run(compose_run(*FEW, "model.filters=8", f"model.base={tmp_path / 'classifier'}"))


@pytest.mark.parametrize("kind", ["boxes", "masks"])
@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_both_engines_score_alike_and_the_report_draws(kind, engine, tmp_path):
    results = run(compose_run(*FEW, f"task.kind={kind}", f"engine={engine}", "outer_steps=1"), tmp_path / engine)
    assert results["metric"] == {"boxes": "ap50", "masks": "mean_iou"}[kind]
    other = {"loop": "vmap", "vmap": "loop"}[engine]
    again = run(compose_run(*FEW, f"task.kind={kind}", f"engine={other}", "outer_steps=1"), tmp_path / other)
    assert results["val_loss"] == pytest.approx(again["val_loss"], rel=1e-3)
    if engine == "loop":
        call("-m", "innerloop", "report", tmp_path / engine)
        assert "Objects of unseen classes" in (tmp_path / engine / "report.html").read_text()
        with pytest.raises(InputError, match="finds objects in scenes, which a learner does not do"):
            innerloop.load(tmp_path / engine)


@pytest.mark.parametrize("algo", ["fomaml", "anil", "boil", "metasgd", "reptile", "joint", "scratch"])
def test_other_algorithms_find_objects_too(algo, tmp_path):
    assert run(compose_run(*FEW, f"algo={algo}"), tmp_path)["metric"] == "ap50"


def test_photographs_are_objects_too(tmp_path):
    root = write_tree(tmp_path / "images", image_files())
    given = ["task.of=images", f"task.root={root}", "task.channels=3", "task.size=32", "task.grid=4", "task.ways=2"]
    results = run(compose_run(*FEW, *given), tmp_path / "run")
    assert results["task"] == "scenes"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"objects": [0, 0]}, "must allow for one object"),
        ({"grid": 7}, "task.grid=7 must divide task.size=48"),
        ({"kind": "lines"}, "kind must be one of boxes, masks, points"),
        ({"of": "emoji"}, "of must be one of glyphs, omniglot, images"),
        ({"of": "omniglot"}, "needs task.root"),
        ({"size": 8}, "task.size"),
        ({"shots": 0}, "task.shots"),
    ],
)
def test_what_does_not_fit_is_said(changed, sentence):
    with pytest.raises(InputError, match=sentence):
        scenes(**changed)


def test_too_many_classes_are_refused():
    with pytest.raises(InputError, match="in the test split, task.ways=5000 asks for more than"):
        scenes(ways=5000).distribution("test")


def test_models_and_tasks_that_do_not_fit_are_said(tmp_path):
    with pytest.raises(InputError, match="Conv4 gives .* and this task asks for"):
        build_run(compose_run(*TINY, "task=scenes", "model=conv4"))
    with pytest.raises(InputError, match="does not ask for; use model=conv4"):
        build_run(compose_run(*TINY, "task=glyphs", "model=dense"))
    with pytest.raises(InputError, match="set task.grid to one of them"):
        Dense((1, 48, 48), 8, 64, 4, "group", None)
