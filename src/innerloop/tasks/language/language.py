"""Language modelling: a task is a language, an author, a subject; its examples are windows of text."""

import numpy as np
import torch

from innerloop.config import check_count
from innerloop.episode import Episode, Examples
from innerloop.objective import LANGUAGE
from innerloop.tasks.base import Tasks


class LanguageTasks(Tasks):
    """Predict each token of a window from those before it. Inputs (length,) int64 and targets, the same one token further.

    vocabulary: how many tokens there are. length: tokens of a window. shots, queries: windows in the support and query set.
    """

    objective = LANGUAGE
    reader = None

    def __init__(self, vocabulary: int, length: int, shots: int, queries: int) -> None:
        for name, value in (("length", length), ("shots", shots), ("queries", queries)):
            check_count(f"task.{name}", value)
        self.input_shape, self.outputs, self.shots, self.queries = (length,), vocabulary, shots, queries
        self.vocabulary = vocabulary

    @property
    def support_size(self) -> dict[str, int]:
        return {"examples": self.shots, "tokens": self.shots * self.input_shape[0]}

    def episode(self, windows: np.ndarray) -> Episode:
        """Of (shots + queries, length + 1) tokens."""
        tokens = torch.from_numpy(windows.astype(np.int64))
        return Episode(
            *(Examples(part[:, :-1].contiguous(), part[:, 1:].contiguous()) for part in (tokens[: self.shots], tokens[self.shots :]))
        )
