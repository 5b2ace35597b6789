"""Synthetic languages of one family."""

import numpy as np

from innerloop.episode import Episode
from innerloop.tasks.base import Split
from innerloop.tasks.language.language import LanguageTasks

START, STOP, THAT = 0, 1, 2  # a window begins, a sentence ends, a clause follows
GENDERS = 4  # of nouns; each has a determiner
DETERMINERS, NOUNS, VERBS, ADJECTIVES, ADVERBS = (range(a, b) for a, b in ((3, 7), (7, 31), (31, 47), (47, 59), (59, 64)))
VOCABULARY = 64
LIKED = 3  # nouns that a verb is mostly said of
CHANCES = {"determiner": 0.7, "adjective": 0.4, "adverb": 0.3, "object": 0.6, "clause": 0.15, "liked": 0.85}


class Grammars(LanguageTasks):
    """Every episode is in a language of its own. All have the same words, of the same kinds, and sentences of the same parts; each has its
    own order of them (subject, object, adjective, adverb and determiner before or after what they go with), its own genders of nouns, which
    show in the determiner, its own frequent words, and verbs that go with nouns of their own.

    length: tokens of a window, of 64 kinds. shots, queries: windows in the support and query set. Needs no data: languages are drawn from
    the episode's random numbers.
    """

    def __init__(self, length: int, shots: int, queries: int) -> None:
        super().__init__(VOCABULARY, length, shots, queries)

    def distribution(self, split: Split) -> "Grammars":
        return self

    def sample(self, rng: np.random.Generator) -> Episode:
        language = Language(rng)
        return self.episode(np.array([window(language, self.input_shape[0] + 1) for _ in range(self.shots + self.queries)]))


def window(language: "Language", length: int) -> list[int]:
    """Sentences from the beginning of one, cut off where the window ends."""
    tokens = [START]
    while len(tokens) < length:
        tokens += [*language.clause(), STOP]
    return tokens[:length]


class Language:
    """Draws its grammar, and then its sentences, from `rng`."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.first = dict(zip(("subject", "object", "adjective", "adverb", "determiner"), rng.random(5) < 0.5, strict=True))
        self.gender = rng.integers(GENDERS, size=len(NOUNS))
        self.liked = rng.permuted(np.tile(np.arange(len(NOUNS)), (len(VERBS), 1)), axis=1)[:, :LIKED]
        self.often = {words: Frequencies(words, rng) for words in (NOUNS, VERBS, ADJECTIVES, ADVERBS)}

    def clause(self, depth: int = 0) -> list[int]:
        verb = self.word(VERBS)
        predicate = self.put("adverb", [self.word(ADVERBS)] if self.chance("adverb") else [], [verb])
        if depth == 0 and self.chance("clause"):
            predicate = [*predicate, THAT, *self.clause(depth + 1)]
        elif self.chance("object"):
            liked = self.liked[verb - VERBS.start]
            noun = NOUNS.start + int(liked[int(self.rng.random() * LIKED)]) if self.chance("liked") else self.word(NOUNS)
            predicate = self.put("object", self.noun_phrase(noun), predicate)
        return self.put("subject", self.noun_phrase(self.word(NOUNS)), predicate)

    def noun_phrase(self, noun: int) -> list[int]:
        phrase = self.put("adjective", [self.word(ADJECTIVES)] if self.chance("adjective") else [], [noun])
        gender = int(self.gender[noun - NOUNS.start])
        return self.put("determiner", [DETERMINERS[gender]] if self.chance("determiner") else [], phrase)

    def put(self, part: str, words: list[int], rest: list[int]) -> list[int]:
        """On the side of the rest where this language has it."""
        return words + rest if self.first[part] else rest + words

    def chance(self, of: str) -> bool:
        return self.rng.random() < CHANCES[of]

    def word(self, words: range) -> int:
        return self.often[words].draw(self.rng)


class Frequencies:
    """Zipf's law over words in an order of their own."""

    def __init__(self, words: range, rng: np.random.Generator) -> None:
        self.words: np.ndarray = rng.permutation(np.array(words))
        shares = 1 / np.arange(1, len(words) + 1)
        self.up_to = np.cumsum(shares / shares.sum())

    def draw(self, rng: np.random.Generator) -> int:
        place = int(self.up_to.searchsorted(rng.random()))
        return int(self.words[min(place, len(self.words) - 1)])  # the sum of the shares is not quite 1
