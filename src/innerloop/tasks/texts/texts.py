"""Few-shot classification of texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from innerloop.config import check_count
from innerloop.episode import PADDING
from innerloop.tasks import readers
from innerloop.tasks.base import Split
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.class_tasks import ClassTasks
from innerloop.tasks.tokenizers import BYTES, read_tokenizer, trained_tokenizer


class Texts(ClassTasks):
    """Tell classes of texts apart. Inputs are (length,) int64 ids of tokens, 0 where the text has ended.

    texts: with the class of each. parts: the classes of train, val and test. tokenizer: a tokenizer.json, or the folder of one, as language
    models come with; its token 0 counts as padding. null makes tokens of `vocabulary` kinds, pieces of words found by byte-pair encoding
    (Sennrich et al. 2016, arXiv 1508.07909) in the training texts alone, so that what val and test say stays unseen; whatever is no such
    piece is spelt out in bytes. length: texts are cut off there.
    """

    def __init__(
        self, texts: Sequence[tuple[str, str]], parts: dict[str, list[str]], tokenizer: str | None, vocabulary: int, length: int,
        **shape: Any,
    ) -> None:  # fmt: skip
        super().__init__(**shape)
        check_count("task.vocabulary", vocabulary, least=BYTES + 1)
        check_count("task.length", length)
        self.input_shape, self.parts = (length,), parts
        trained = set(parts["train"])
        if tokenizer:
            self.tokenizer = read_tokenizer(tokenizer)
        else:
            self.tokenizer = trained_tokenizer([text for text, name in texts if name in trained], vocabulary)
        self.vocabulary = self.tokenizer.get_vocab_size() if tokenizer else vocabulary
        self.tokenizer.enable_truncation(length)
        self.tokenizer.enable_padding(pad_id=PADDING, pad_token="[PAD]", length=length)
        self.reader = readers.Texts(self.tokenizer.to_str(), length)
        self.tokens = np.array([encoding.ids for encoding in self.tokenizer.encode_batch([text for text, _ in texts])], np.int64)
        names = np.array([name for _, name in texts])
        self.rows = {name: np.flatnonzero(names == name) for part in parts.values() for name in part}

    def classes(self, split: Split) -> Classes:
        return Classes(self.tokens, [self.rows[name] for name in self.parts[split]], self.parts[split])

    @property
    def as_vectors(self) -> nn.Module:
        assert self.vocabulary
        return BagOfTokens(self.vocabulary)


class BagOfTokens(nn.Module):
    """How often each token occurs, scaled to length 1: x (n, length) -> (n, vocabulary)."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, x: Tensor) -> Tensor:
        counts = torch.zeros(len(x), self.vocabulary, device=x.device).scatter_add(1, x, (x != PADDING).float())
        return nn.functional.normalize(counts, dim=1)
