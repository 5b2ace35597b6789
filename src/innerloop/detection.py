"""Objects in scenes: what detectors and segmenters are trained on and scored by. Class 0 is what is no object."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import batched_nms

from innerloop.objective import Objective, precise, where_finite

OVERLAP = 0.5  # intersection over union from which a box counts as found, and another one as the same


def centres(cells: int, like: Tensor) -> Tensor:
    """Of the cells of a square grid, row by row (cells, 2): down and right, in cells."""
    side = round(cells**0.5)
    ticks = torch.arange(side, dtype=like.dtype, device=like.device) + 0.5
    return torch.stack(torch.meshgrid(ticks, ticks, indexing="ij"), -1).view(-1, 2)


def encode_boxes(boxes: np.ndarray, labels: np.ndarray, side: int) -> np.ndarray:
    """A scene's boxes (n, 4), top, left, bottom and right in cells, and their classes from 1 on -> targets (side * side, 5): the class of
    each cell, and how far the sides of its box are from its centre. A box belongs to the cell that its middle is in."""
    targets = np.zeros((side * side, 5), np.float32)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    rows, columns = np.minimum(middles.astype(int), side - 1).T
    at = np.stack([rows, columns], 1) + 0.5
    targets[rows * side + columns] = np.concatenate([labels[:, None], at - boxes[:, :2], boxes[:, 2:] - at], 1)
    return targets


def decode_boxes(distances: Tensor) -> Tensor:
    """Distances of sides from the centre of each cell (..., cells, 4), negative beside it -> boxes, none of them inside out."""
    at = centres(distances.shape[-2], distances)
    low = at - distances[..., :2]
    return torch.cat([low, torch.maximum(at + distances[..., 2:], low)], -1)


def detection_loss(predictions: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy over cells with an object and over those without, and smooth L1 of the boxes, of each task.

    predictions (tasks, n, cells, classes + 4), targets (tasks, n, cells, 5) -> (tasks,).
    """
    predictions, there = precise(predictions), y[..., 0] > 0
    scores, distances = predictions[..., :-4], predictions[..., -4:]
    wrong = F.cross_entropy(scores.flatten(0, -2), y[..., 0].long().flatten(), reduction="none").view(there.shape)
    off = F.smooth_l1_loss(distances, y[..., 1:], reduction="none").mean(-1)
    return mean_where(wrong + off, there) + mean_where(wrong, ~there)


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Of each task (tasks, ...) -> (tasks,); 0 where there is nothing."""
    values, mask = values.flatten(1), mask.flatten(1)
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)


def ap50(predictions: Tensor, y: Tensor) -> Tensor:
    """Average precision at an overlap of 0.5 as COCO has it, averaged over the classes that a task's scenes show: (tasks,)."""
    boxes, scores = decode_boxes(predictions[..., -4:].float()), predictions[..., :-4].float().softmax(-1)[..., 1:]
    of = (boxes, scores, decode_boxes(y[..., 1:].float()), y[..., 0].long())
    arrays = zip(*(part.detach().cpu().numpy() for part in of), strict=True)
    found = torch.tensor([average_precision(*task) for task in arrays], device=predictions.device)
    return where_finite(found, predictions)


def average_precision(boxes: np.ndarray, scores: np.ndarray, true_boxes: np.ndarray, labels: np.ndarray) -> float:
    """Of one task: boxes (n, cells, 4), scores (n, cells, classes), true boxes (n, cells, 4) where labels (n, cells) are not 0."""
    kinds = scores.shape[-1]
    ranked = np.argsort(-scores, axis=1, kind="stable")  # (n, cells, classes)
    among, of_truth = overlaps(boxes, boxes), overlaps(boxes, true_boxes)
    sums = []
    for kind in range(kinds):
        truth = labels == kind + 1
        if not truth.any():
            continue
        order = ranked[:, :, kind]
        kept, right = matches(among, of_truth, order, truth)
        sums.append(area(np.take_along_axis(scores[:, :, kind], order, 1)[kept], right[kept], truth.sum()))
    return float(np.mean(sums)) if sums else 0.0


def overlaps(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union (n, a, b) of boxes (n, a, 4) and (n, b, 4)."""
    some, others = some[:, :, None], others[:, None]
    sides = (np.minimum(some[..., 2:], others[..., 2:]) - np.maximum(some[..., :2], others[..., :2])).clip(min=0)
    shared = sides.prod(-1)
    return shared / np.maximum((some[..., 2:] - some[..., :2]).prod(-1) + (others[..., 2:] - others[..., :2]).prod(-1) - shared, 1e-12)


def matches(among: np.ndarray, of_truth: np.ndarray, order: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes of each scene are no doubles of a surer one, and which of them are right, both (n, cells) from the surest to the last.

    A right one has the largest overlap with an object that no surer one has taken.
    """
    scenes = np.arange(len(order))
    gone, free = np.zeros(order.shape, bool), truth.copy()
    kept, right = np.zeros(order.shape, bool), np.zeros(order.shape, bool)
    for rank, box in enumerate(order.T):
        kept[:, rank] = stays = ~gone[scenes, box]
        gone |= stays[:, None] & (among[scenes, box] > OVERLAP)
        there = np.where(free, of_truth[scenes, box], -1.0)
        best = there.argmax(1)
        right[:, rank] = hits = stays & (there[scenes, best] >= OVERLAP)
        free[scenes[hits], best[hits]] = False
    return kept, right


def area(scores: np.ndarray, right: np.ndarray, objects: int) -> float:
    """Below the curve of precision over recall, at 101 recalls, the precision of each being the best from there on."""
    right = right[np.argsort(-scores, kind="stable")]
    hits = right.cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    at = np.searchsorted(hits / objects, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, 0.0)[np.minimum(at, len(precision))].mean())


def surest(predictions: Tensor) -> tuple[Tensor, Tensor]:
    """Of one scene (cells, classes + 4): boxes (n, 4) and classes (n,) of the cells to which an object is likelier than none, the surest of
    those that overlap."""
    scores, labels = predictions[:, :-4].softmax(-1).max(-1)
    boxes = decode_boxes(predictions[:, -4:])
    there = labels > 0
    kept = batched_nms(boxes[there], scores[there], labels[there], OVERLAP)
    return boxes[there][kept], labels[there][kept]


def segmentation_loss(predictions: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels of objects and over the others, of each task: logits (tasks, n, pixels, classes), labels
    (tasks, n, pixels) -> (tasks,)."""
    wrong = F.cross_entropy(precise(predictions).flatten(0, -2), y.flatten(), reduction="none").view(y.shape)
    return mean_where(wrong, y > 0) + mean_where(wrong, y == 0)


def mean_iou(predictions: Tensor, y: Tensor) -> Tensor:
    """Intersection over union of the pixels of each class, averaged over the classes but 0 that a task's scenes show: (tasks,)."""
    given, kinds = predictions.argmax(-1).flatten(1), predictions.shape[-1]
    given, true = (F.one_hot(labels, kinds)[..., 1:].bool() for labels in (given, y.flatten(1)))
    union, there = (given | true).sum(1), true.any(1)
    ious = (given & true).sum(1) / union.clamp(min=1)
    return where_finite((ious * there).sum(1) / there.sum(1).clamp(min=1), predictions)


DETECTION = Objective("ap50", detection_loss, ap50, False)
SEGMENTATION = Objective("mean_iou", segmentation_loss, mean_iou, False)
