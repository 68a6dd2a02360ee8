"""A byte-level BPE tokenizer as llama.cpp reads it: tokens, merges, and how a text is split before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...short_repr import short_repr

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
#: Patterns that split a text in front of byte-level BPE, by llama.cpp's names for them.
_BY_PATTERN = {_WORDS + r"\p{N}" + _REST: "qwen2", _WORDS + r"\p{N}{1,3}" + _REST: "llama-bpe"}
#: Whether llama.cpp takes a word that is a token as it is, without merges.
_IGNORES_MERGES = {"gpt-2": False, "smollm": False, "qwen2": False, "llama-bpe": True}
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # gguf.TokenType


@dataclass(frozen=True)
class Vocabulary:
    """What the file says of a tokenizer.

    Attributes:
        pre: llama.cpp's name for how a text is split.
        tokens, types: one for each row of the embedding.
        merges: "a b", the first ones first.
        special: ids of "bos", "eos", "unk" and "pad", of those that there are.
        adds_bos: whether a text begins with "bos".
        chat_template: None without one.
    """

    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    special: Mapping[str, int]
    adds_bos: bool
    chat_template: str | None


def vocabulary_of(tokenizer: Any, size: int) -> Vocabulary:
    """Return what llama.cpp needs of a tokenizer of transformers.

    Args:
        size: rows of the embedding; those behind the last token get names that no text has.

    Raises:
        TypeError: no tokenizer with a backend of the package tokenizers.
        ValueError: one that is no byte-level BPE, splits a text as llama.cpp does not, or does not fit the embedding.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise TypeError(
            f"tokenizer must be one of transformers with a backend_tokenizer, got {type(tokenizer).__name__}; wrap one "
            "of the package tokenizers: PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=…)"
        )
    content = json.loads(backend.to_str())
    pre = _pre(content)
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "tokenizer has no eos token, and llama.cpp would take token 11 for it; set tokenizer.eos_token"
        )
    added = {entry["id"]: entry for entry in content["added_tokens"]}
    texts = {number: text for text, number in content["model"]["vocab"].items()}
    texts |= {number: entry["content"] for number, entry in added.items()}
    if max(texts) >= size:
        raise ValueError(
            f"tokenizer has a token {max(texts)}, and the model's embedding {size} rows; call "
            "model.resize_token_embeddings before training, or pass the tokenizer of this model"
        )
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "unk", "pad")}
    return Vocabulary(
        pre,
        [texts.get(number, f"[PAD{number}]") for number in range(size)],
        [_type(added.get(number), number in texts) for number in range(size)],
        [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]],
        {name: number for name, number in special.items() if number is not None},
        _adds_bos(tokenizer),
        tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None,
    )


def _type(added: Mapping[str, Any] | None, is_token: bool) -> int:
    if added is not None:
        return _CONTROL if added["special"] else _USER_DEFINED
    return _NORMAL if is_token else _UNUSED


def _adds_bos(tokenizer: Any) -> bool:
    found = tokenizer("a")["input_ids"]
    if found and found[-1] == tokenizer.eos_token_id != tokenizer.bos_token_id:
        raise ValueError("tokenizer puts eos behind each text, which a prompt must not have; take that out of it")
    return bool(found) and found[0] == tokenizer.bos_token_id


def _pre(content: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for how a tokenizer splits a text; ValueError without one."""
    model = content["model"]
    if model["type"] != "BPE" or model.get("byte_fallback") or (content["decoder"] or {}).get("type") != "ByteLevel":
        raise ValueError(f"tokenizer is a {model['type']} that is not byte-level; {_WITHOUT}")
    if content["normalizer"] not in (None, {"type": "NFC"}):
        raise ValueError(f"tokenizer normalizes a text by {short_repr(content['normalizer'])}; {_WITHOUT}")
    pre = _name_of_split(content["pre_tokenizer"])
    if pre is None:
        raise ValueError(f"tokenizer splits a text by {short_repr(content['pre_tokenizer'])}; {_WITHOUT}")
    if bool(model.get("ignore_merges")) != _IGNORES_MERGES[pre]:
        raise ValueError(f"tokenizer has ignore_merges={model.get('ignore_merges')}, and splits as {pre}; {_WITHOUT}")
    return pre


_WITHOUT = (
    "save_gguf knows the byte-level BPE of GPT-2, SmolLM, Qwen2 and Llama 3. Leave tokenizer out: the file then takes "
    "token ids"
)


def _name_of_split(pre_tokenizer: Mapping[str, Any] | None) -> str | None:
    if pre_tokenizer is None:
        return None
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    *before, last = steps
    if last["type"] != "ByteLevel" or last["add_prefix_space"] or len(before) > 1:
        return None
    if last.get("use_regex", True):
        if not before:
            return "gpt-2"
        return "smollm" if before == [{"type": "Digits", "individual_digits": True}] else None
    if not before or before[0]["type"] != "Split" or before[0]["behavior"] != "Isolated" or before[0]["invert"]:
        return None
    return _BY_PATTERN.get(before[0]["pattern"].get("Regex", ""))
