"""A finished run, fitted to a task of one's own."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from innerloop.config import InputError, check_count
from innerloop.episode import Episode, Examples
from innerloop.files import check_new_folder
from innerloop.objective import CLASSIFICATION
from innerloop.runs.learner_file import load_weights, read_learner, write_files, write_weights
from innerloop.training.temperature import answers_to
from innerloop.use.examples import Example, read_examples, stacked
from innerloop.use.network import AdaptedNetwork, adapted_network
from innerloop.use.ready import make_ready

Item = TypeVar("Item")
FITTED = "fitted.safetensors"
AT_ONCE = 256  # inputs in a forward pass
LEFT_OUT = 100  # at most, for an estimate


class Answer(NamedTuple):
    """value: the class, or the numbers, or None where the input could not be read, and then `reason` says why. confidence: from 0 to 1,
    of a class. label: the true one, where it is known."""

    name: str
    value: Any
    confidence: float | None
    reason: str = ""
    label: Any = None


class Learner:
    """Learns a new task from a few examples: fit once, predict as often as you like.

        learner = innerloop.load("outputs/.../RUN")   # or a folder that `save`, or `innerloop export`, wrote
        learner.fit("support/")                       # a folder for each class; or a CSV file; or arrays: fit(x, y)
        learner.predict("new/")                       # a label for each file

    Inputs are what the run was trained on: pictures (files, PIL images, uint8 arrays), texts (strings, .txt files), recordings (.wav),
    rows of numbers (arrays, CSV files, data frames), points of a function. No answer depends on the other inputs. It has the methods of a
    scikit-learn estimator, so cross_val_score(learner, x, y) works.

    path: folder of a finished run, or of a saved learner; the run's data need not be there. steps: of adaptation; None: as many as the
    run was scored after. trust: build also classes that neither innerloop nor your own project names.
    classes_: after fit, of a classifier, in the order of predict_proba's columns. network: after fit, the adapted network, a plain
    torch.nn.Module: inputs (n, ...) -> logits (n, classes) or values (n, targets).

    Raises InputError, one sentence, for whatever does not fit.
    """

    def __init__(self, path: str | Path, steps: int | None = None, trust: bool = False) -> None:
        if steps is not None:
            check_count("steps", steps, least=0)
        self.path, self.steps, self.trust = path, steps, trust
        folder = Path(path).expanduser()
        make_ready(folder, trust)
        self.about, self.known, self.reader, self.algorithm = read_learner(folder, trust)
        self.is_classifier = self.known.objective is CLASSIFICATION
        self._flat = True
        self.network: AdaptedNetwork | None = None
        self._support: Examples | None = None
        if fitted := self.about.get("fitted"):
            self._restore(folder, fitted)

    def __repr__(self) -> str:
        return f"Learner({str(self.path)!r})"

    def fit(self, support: Any, y: Any = None) -> Self:
        """support: a folder with a folder for each class, a zip of one, a CSV file (with a column class, or y), a data frame, or examples
        whose labels (values) are in y. Any number of each class, and any number of classes that the run allows. Returns itself."""
        examples = list(read_examples(self.reader, support, y))
        x, labels = stacked_support(examples), [example.label for example in examples]
        targets = self._classes_of(labels) if self.is_classifier else self._values_of(labels)
        if self.is_classifier and self.algorithm.any_ways:
            self.algorithm.ways = len(self.classes_)
        self._support, self._examples = Examples(x, targets), len(x)
        outputs = len(self.classes_) if self.is_classifier else self.known.outputs
        self.network = adapted_network(self.algorithm, self.support, self._steps, outputs)
        return self

    @property
    def support(self) -> Examples:
        """What it was fitted to: x (n, ...), y (n,) numbers of classes_, or (n, targets). Raises InputError where that is not known."""
        if self._support is None:
            raise InputError("there is no support set here, as a saved learner has none; call fit(support) first")
        return self._support

    def predict(self, new: Any) -> np.ndarray:
        """The label (of a function: the value) of each of the inputs: a folder of files, a CSV file, a data frame, or a list of inputs."""
        answers = [check_read(answer) for answer in self.answers(new)]
        values = [answer.value for answer in answers]
        if self.is_classifier:
            return self.classes_[[self._index[value] for value in values]] if values else self.classes_[:0]
        found = np.array(values, np.float32).reshape(len(values), self.known.outputs)
        return found[:, 0] if self._flat and self.known.outputs == 1 else found

    def predict_proba(self, new: Any) -> np.ndarray:
        """How likely each class is (n, classes), in the order of classes_. One temperature, fitted on the run's validation episodes, makes
        it as sure as it is right, on tasks like those."""
        self._check_fitted()
        if not self.is_classifier:
            raise InputError("a run of functions has no classes, and so no probabilities; use predict")
        examples = list(read_examples(self.reader, new))
        for example in examples:
            check_read(example)
        if not examples:
            return np.zeros((0, len(self.classes_)))
        return self._probabilities(stacked(examples)).numpy().astype(np.float64)

    def score(self, new: Any, y: Any = None) -> float:
        """The share of right answers; of functions, the coefficient of determination R^2. new: labelled as the support set is."""
        answers = [check_read(answer) for answer in self.answers(new, y)]
        if not answers or any(answer.label is None for answer in answers):
            raise InputError("to score, each input needs its label; name a folder by class, a CSV file with the column class, or give y")
        if self.is_classifier:
            return float(np.mean([str(answer.value) == str(answer.label) for answer in answers]))
        truth = np.array([np.atleast_1d(answer.label) for answer in answers], np.float64)
        found = np.array([np.atleast_1d(answer.value) for answer in answers], np.float64)
        return float(1 - ((truth - found) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())

    def save(self, directory: str | Path) -> None:
        """Writes the learner, and what it was fitted to, into a new folder, which innerloop.load reads. No pickle; no support set."""
        folder = Path(directory).expanduser()
        check_new_folder(folder)
        about = {key: value for key, value in self.about.items() if key != "fitted"}
        if self.network is not None:
            classes = [label.item() if hasattr(label, "item") else label for label in self.classes_] if self.is_classifier else None
            about["fitted"] = {"classes": classes, "steps": self._steps, "flat": self._flat, "examples": self._examples}
            write_weights(folder / FITTED, self.network)
        write_files(folder, about, self.algorithm)

    def answers(self, new: Any, y: Any = None) -> Iterator[Answer]:
        """An answer for each input, also for those that cannot be read: what `innerloop predict` prints."""
        self._check_fitted()
        for some in batched(read_examples(self.reader, new, y), AT_ONCE):
            there = [example for example in some if example.x is not None]
            found = iter(self._answered(stacked(there)) if there else [])
            for example in some:
                value, confidence = next(found) if example.x is not None else (None, None)
                yield Answer(example.name, value, confidence, example.reason, example.label)

    def leave_one_out(self) -> list[Answer]:
        """Each example of the support set (100 at most) answered after a fit to the others: what to expect of new ones. Empty where a class
        has but one example. A saved learner has no support set any more."""
        x, y = self.support
        if len(x) < 2 or (self.is_classifier and torch.bincount(y).min() < 2):
            return []
        rows = np.random.default_rng(0).permutation(len(x))[:LEFT_OUT].tolist()
        answers = []
        for some in batched(rows, 10):
            out = torch.tensor(some)
            others = torch.tensor([[row for row in range(len(x)) if row != left] for left in some])
            tasks = Episode(Examples(x[others], y[others]), Examples(x[out][:, None], y[out][:, None]))
            logits = answers_to(self.algorithm, tasks, self._steps)[:, 0]
            for left, (value, confidence) in zip(some, self._read_off(logits), strict=True):
                label = self.classes_[y[left]] if self.is_classifier else y[left].numpy()
                answers.append(Answer(str(left), value, confidence, label=label))
        return answers

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """What __init__ took, for scikit-learn."""
        return {"path": self.path, "steps": self.steps, "trust": self.trust}

    def set_params(self, **params: Any) -> Self:
        """Starts anew with other arguments of __init__."""
        self.__init__(**{**self.get_params(), **params})  # type: ignore[misc]
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags  # only scikit-learn asks

        kind = "classifier" if self.is_classifier else "regressor"
        return Tags(
            estimator_type=kind, target_tags=TargetTags(required=True), transformer_tags=None,
            classifier_tags=ClassifierTags() if self.is_classifier else None,
            regressor_tags=None if self.is_classifier else RegressorTags(),
            input_tags=InputTags(two_d_array=len(self.known.input_shape) == 1, three_d_array=True),
        )  # fmt: skip

    def __sklearn_is_fitted__(self) -> bool:
        return self.network is not None

    @property
    def _steps(self) -> int:
        return int(self.about["steps"]) if self.steps is None else self.steps

    def _check_fitted(self) -> None:
        if self.network is None:
            raise InputError("this learner has seen no examples yet; call fit(support) first")

    def _restore(self, folder: Path, fitted: dict[str, Any]) -> None:
        """The network that was fitted: its form from a support set of nothing, its weights from their file."""
        classes, outputs = fitted["classes"], self.known.outputs
        if classes is not None:
            self._set_classes(np.array(classes))
            outputs = len(classes)
        if self.is_classifier and self.algorithm.any_ways:
            self.algorithm.ways = outputs
        self._flat = fitted["flat"]
        dtype = torch.long if self.known.vocabulary else torch.float32
        least = outputs if classes is not None else 2
        self._examples = fitted.get("examples", least)
        for count in dict.fromkeys([least, self._examples]):  # some networks hold the support set, and are as large as it was
            y = torch.arange(count) % outputs if classes is not None else torch.zeros(count, outputs)
            nothing = Examples(torch.zeros(count, *self.known.input_shape, dtype=dtype), y)
            self.network = adapted_network(self.algorithm, nothing, 0, outputs)
            try:
                return load_weights(self.network, folder / FITTED)
            except (OSError, ValueError) as error:
                reason = str(error)
        raise InputError(f"{folder / FITTED} is damaged or not there ({reason}); fit the learner again")

    def _set_classes(self, classes: np.ndarray) -> None:
        self.classes_ = classes
        self._index = {label: index for index, label in enumerate(classes.tolist())}

    def _classes_of(self, labels: Sequence[Any]) -> Tensor:
        """Labels as numbers; sets classes_. Raises InputError for too few classes, and for more than the network has outputs for."""
        if not labels or any(label is None for label in labels):
            raise InputError("the support set needs a class for each example; name a folder by class, a CSV file with class, or give y")
        classes, numbers = np.unique(np.array(labels), return_inverse=True)
        if len(classes) < 2:
            raise InputError(f"the support set has one class, {classes[0]}; it takes two or more")
        if not self.algorithm.any_ways and len(classes) > self.known.outputs:
            raise InputError(
                f"the support set has {len(classes)} classes, and this run's network has {self.known.outputs} outputs; leave some out, or "
                f"train one with task.ways={len(classes)}, or with algo=protonet, which takes any number"
            )
        self._set_classes(classes)
        return torch.from_numpy(numbers.reshape(-1))

    def _values_of(self, labels: Sequence[Any]) -> Tensor:
        """Targets (n, outputs). Raises InputError where they are missing, or of another width."""
        if not labels or any(label is None for label in labels):
            raise InputError("the support set needs a value for each example; name a CSV file with a column y, or give y")
        self._flat = all(np.ndim(label) == 0 for label in labels)
        try:
            values = torch.tensor(np.array([np.atleast_1d(np.asarray(label, np.float32)) for label in labels]))
        except ValueError as error:
            raise InputError(f"the values of the support set are no numbers ({error}); mend them") from error
        if values.shape[1:] != (self.known.outputs,) or not values.isfinite().all():
            raise InputError(f"each example has {tuple(values.shape[1:])} values; this run predicts {self.known.outputs} finite numbers")
        return values

    @torch.no_grad()
    def _answered(self, x: Tensor) -> Iterator[tuple[Any, float | None]]:
        assert self.network is not None
        return self._read_off(self.network(x))

    def _read_off(self, predictions: Tensor) -> Iterator[tuple[Any, float | None]]:
        """Predictions (n, outputs) -> the answer of each, and how sure it is."""
        if not self.is_classifier:
            yield from ((row[0] if self._flat and len(row) == 1 else row, None) for row in predictions.numpy())
            return
        sure, answer = self._softmax(predictions).max(-1)
        yield from ((self.classes_.tolist()[index], float(much)) for index, much in zip(answer.tolist(), sure, strict=True))

    @torch.no_grad()
    def _probabilities(self, x: Tensor) -> Tensor:
        assert self.network is not None
        return torch.cat([self._softmax(self.network(some)) for some in x.split(AT_ONCE)])

    def _softmax(self, logits: Tensor) -> Tensor:
        if not logits.isfinite().all():
            raise InputError("the fit diverged: its answers are no numbers; take fewer steps, or a run with a lower algo.inner_lr")
        return (logits[:, : len(self.classes_)].double() / self.about["temperature"]).softmax(-1)


def stacked_support(examples: Sequence[Example]) -> Tensor:
    for example in examples:
        check_read(example)
    if not examples:
        raise InputError("the support set has no examples; give some of each class")
    return stacked(examples)


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """As itertools.batched of Python 3.12."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def check_read(read: Any) -> Any:
    """Raises InputError for what could not be read."""
    if read.reason:
        raise InputError(read.reason)
    return read
