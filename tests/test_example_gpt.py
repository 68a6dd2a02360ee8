"""The example of a GPT on the standard library, run small: trained a little, deployed with its tied table, verified."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

import bitorch

pytest.importorskip("tokenizers")

import gpt  # it imports tokenizers
from gpt_text import corpus


def test_the_text_is_the_same_each_time_and_split_by_files() -> None:
    text, again = corpus(300, 60_000), corpus(300, 60_000)
    assert torch.equal(text.train, again.train)
    assert torch.equal(text.validation, again.validation)
    assert text.vocabulary == 300
    assert int(text.train.max()) < 300
    assert text.tokenizer.decode(text.train[:20].tolist()) in text.tokenizer.decode(text.train[:40].tolist())
    with pytest.raises(ValueError, match="vocabulary must be at least 256, one token for each byte; got 255"):
        corpus(255, 60_000)
    with pytest.raises(ValueError, match="characters must be enough for two files, got 1"):
        corpus(300, 1)


@pytest.mark.parametrize("method", ["float", "w2a8"])
def test_trained_a_little_and_deployed(method: gpt.Method, tmp_path: Path) -> None:
    out, shown = tmp_path / "gpt.bit.safetensors", io.StringIO()
    sizes = {"width": 16, "layers": 1, "heads": 2, "context": 8, "vocabulary": 300, "characters": 60_000}
    options = gpt.Options(method=method, **sizes, steps=20, batch=8, lr=1e-2, out=out)
    outcome = gpt.show(options, Console(file=shown, width=100))
    assert 1 < outcome.perplexity < 300  # as many as there are tokens, where nothing was learned
    assert outcome.rate > 0
    assert f"{outcome.nbytes:,}" in shown.getvalue()
    assert out.exists() == (method != "float")
    if method != "float":
        operations, arrays = bitorch.PackedModel.load(out).program()
        (table,) = (op["table"] for op in operations if op["op"] == "embedding")
        assert arrays[table].shape == (300, 16)
        assert [op["weight_bits"] for op in operations if op.get("weight") == table] == [8]
