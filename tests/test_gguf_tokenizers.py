"""Tokenizers in GGUF files: tokens, merges and how a text is split, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bitorch.hub.gguf_files.vocabulary import vocabulary_of

pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

TEXT = "It's 1234 o'clock, and the cat sat on the mat.\n\n  Ünïcödé: 你好, 👍 — that's ALL FOLKS'LL say; x = 10_000\t!"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(pattern: str) -> Any:
    steps = tokenizers.pre_tokenizers
    words = steps.Split(tokenizers.Regex(pattern), behavior="isolated")
    return steps.Sequence([words, steps.ByteLevel(add_prefix_space=False, use_regex=False)])


def plain() -> Any:
    return tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)


#: By llama.cpp's names.
SPLITS: dict[str, Callable[[], Any]] = {
    "gpt-2": plain,
    "smollm": lambda: tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.Digits(individual_digits=True), plain()]
    ),
    "qwen2": lambda: split(_WORDS + r"\p{N}" + _REST),
    "llama-bpe": lambda: split(_WORDS + r"\p{N}{1,3}" + _REST),
}


def trained(pre: Any, ignore_merges: bool = False, bos: str | None = "<s>", **more: Any) -> Any:
    """Return a tokenizer of 400 tokens, whose merges go over digits, so that it matters how a text is split."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = plain()
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 20, trainer)
    tokenizer.pre_tokenizer = pre
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{"bos_token": bos, "eos_token": "</s>", **more})


@pytest.mark.parametrize("pre", SPLITS)
def test_tokens_and_merges_are_the_tokenizers(pre: str) -> None:
    tokenizer = trained(SPLITS[pre](), ignore_merges=pre == "llama-bpe")
    tokenizer.add_tokens(["<user>"])
    tokenizer.chat_template = "{{ messages }}"
    found = vocabulary_of(tokenizer, len(tokenizer) + 2)
    assert found.pre == pre
    numbers = {token: number for number, token in enumerate(found.tokens)}
    assert {token: numbers[token] for token in tokenizer.get_vocab()} == tokenizer.get_vocab()
    assert found.types == [3, 3, *[1] * (len(tokenizer) - 3), 4, 5, 5]
    first, second = found.merges[0].split(" ")
    assert first + second in numbers
    assert len(found.merges) == len(tokenizer) - 3 - 256
    assert found.special == {"bos": 0, "eos": 1}
    assert not found.adds_bos
    assert found.chat_template == "{{ messages }}"


def test_bos_is_added_where_the_tokenizer_does_so() -> None:
    tokenizer = trained(plain())
    processors = tokenizers.processors
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    assert vocabulary_of(tokenizer, 400).adds_bos
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    with pytest.raises(ValueError, match="tokenizer puts eos behind each text"):
        vocabulary_of(tokenizer, 400)


def of_words() -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a")), eos_token="a"
    )


def of_lowercase() -> Any:
    tokenizer = trained(plain())
    tokenizer.backend_tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    return tokenizer


@pytest.mark.parametrize(
    ("make", "size", "message"),
    [
        (lambda: trained(plain(), eos_token=None), 400, "tokenizer has no eos token, .* set tokenizer.eos_token"),
        (lambda: trained(plain()), 300, "tokenizer has a token [0-9]+, and the model's embedding 300 rows"),
        (of_words, 400, "tokenizer is a WordLevel that is not byte-level; save_gguf knows .* Leave tokenizer out"),
        (of_lowercase, 400, "tokenizer normalizes a text by {'type': 'Lowercase'}"),
        (lambda: trained(split(r"\w+")), 400, "tokenizer splits a text by .*; save_gguf knows"),
        (lambda: trained(tokenizers.pre_tokenizers.ByteLevel()), 400, "tokenizer splits a text by"),
        (lambda: trained(SPLITS["llama-bpe"]()), 400, "ignore_merges=False, and splits as llama-bpe"),
    ],
)
def test_other_tokenizers_are_refused(make: Callable[[], Any], size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vocabulary_of(make(), size)


def test_what_is_no_tokenizer_of_transformers_is_a_type_error() -> None:
    for tokenizer in ("gpt2", trained(plain()).backend_tokenizer):
        with pytest.raises(TypeError, match="tokenizer must be one of transformers with a backend_tokenizer"):
            vocabulary_of(tokenizer, 400)
