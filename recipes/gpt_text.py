"""Text that ships with Python, the sources of its standard library, as byte-pair tokens: to train on, and to test."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch import Tensor

#: One of so many files is never trained on.
_HELD_OUT = 16
#: Folders of the library that are no text of its own kind: installed packages, and tests with their tables.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "__pycache__", "pydoc_data", "encodings"}


@dataclass(frozen=True)
class Corpus:
    """Tokens, int64 [count], and what they stand for."""

    train: Tensor
    validation: Tensor
    tokenizer: Tokenizer

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return int(self.tokenizer.get_vocab_size())


def corpus(vocabulary: int, characters: int) -> Corpus:
    """Read the standard library, train a byte-pair tokenizer on the part that is trained on, and take both parts apart.

    The same Python gives the same tokens.

    Args:
        vocabulary: how many tokens the tokenizer may have, at least 256, as many as there are bytes.
        characters: how many of the library's to read.

    Raises:
        ValueError: either is too small.
    """
    if vocabulary < 256:
        raise ValueError(f"vocabulary must be at least 256, one token for each byte; got {vocabulary}")
    texts = list(_texts(characters))
    train = [text for index, text in enumerate(texts) if index % _HELD_OUT != 0]
    held_out = texts[::_HELD_OUT]
    if not train:
        raise ValueError(f"characters must be enough for two files, got {characters}")
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(vocab_size=vocabulary, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(train, trainer)
    return Corpus(_tokens(tokenizer, train), _tokens(tokenizer, held_out), tokenizer)


def _texts(characters: int) -> Iterator[str]:
    """The files of the library in the order of their names, until there are enough characters."""
    left = characters
    for path in _files(Path(sysconfig.get_path("stdlib"))):
        if left <= 0:
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        yield text
        left -= len(text)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.is_dir() and path.name not in _LEFT_OUT:
            yield from _files(path)
        elif path.suffix == ".py":
            yield path


def _tokens(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    return torch.cat([torch.tensor(each.ids, dtype=torch.int64) for each in tokenizer.encode_batch(texts)])
