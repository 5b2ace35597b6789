"""Text as numbers: tokenizers that are read, or found in the training texts."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from innerloop.config import InputError

BYTES = 256


def trained_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Of lower-cased texts."""
    return byte_pairs(texts, vocabulary, normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), ["[PAD]"])


def read_tokenizer(name: str) -> Tokenizer:
    """A tokenizer.json, or that of a folder, without the limits of length that it may have been saved with."""
    path = Path(name).expanduser()
    try:
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json" if path.is_dir() else path))
    except Exception as error:  # of no narrower class
        raise InputError(f"task.tokenizer={name} cannot be read ({error}); name a tokenizer.json or the folder of one") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def byte_pairs(
    texts: Sequence[str], vocabulary: int, normalizer: normalizers.Normalizer | None = None, special: Sequence[str] = ()
) -> Tokenizer:
    """Byte-pair encoding, found in the texts."""
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
