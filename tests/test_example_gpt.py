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
from gpt_net import GPT, Cache, generate
from gpt_text import corpus
from gpt_training import Training, trained

TRAINING = Training(width=16, layers=1, heads=2, context=12, vocabulary=300, characters=60_000, steps=20, batch=8)


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


def test_a_cache_gives_the_logits_of_a_text_read_at_once() -> None:
    torch.manual_seed(0)
    model, tokens = GPT(300, 16, 2, 2, 12).eval(), torch.randint(300, (1, 12))
    caches = [Cache(), Cache()]
    with torch.inference_mode():
        parts = [model(tokens[:, :5], caches), *(model(tokens[:, i : i + 1], caches) for i in range(5, 12))]
        torch.testing.assert_close(torch.cat(parts, 1), model(tokens))
        with pytest.raises(ValueError, match="13 tokens, 12 of them in the cache, but the net has 12 positions"):
            model(tokens[:, :1], caches)
    first, *rest = generate(model, 2, tokens[0, :3], 4)
    assert [first, *rest] == [first, *generate(model, 2, torch.cat([tokens[0, :3], torch.tensor([first])]), 3)]


def test_trained_a_little_deployed_and_set_beside_float(tmp_path: Path) -> None:
    out, shown = tmp_path / "gpt.bit.safetensors", io.StringIO()
    options = gpt.Options(("float", "w2a8"), TRAINING, seeds=2, threads=(1,), out=out)
    outcomes = gpt.show(options, Console(file=shown, width=120))
    for outcome in outcomes.values():
        assert all(1 < found < 280 for found in outcome.perplexities)  # a net that has learned nothing has 300
        assert len(set(outcome.perplexities)) == 2
        rates = outcome.measured.rates[1]
        assert rates.read > 0
        assert rates.generated > 0
    float_net, packed = (outcome.measured for outcome in outcomes.values())
    assert packed.nbytes < float_net.nbytes
    assert packed.memory < float_net.memory / 2  # no PyTorch
    assert f"{packed.nbytes:,}" in shown.getvalue()
    operations, arrays = bitorch.PackedModel.load(out).program()
    (table,) = (op["table"] for op in operations if op["op"] == "embedding")
    assert arrays[table].shape == (300, 16)
    assert [op["weight_bits"] for op in operations if op.get("weight") == table] == [8]


def test_trained_nets_are_kept_and_no_others_are_taken(tmp_path: Path) -> None:
    text, console = corpus(300, 60_000), Console(file=io.StringIO())
    model, perplexity = trained("bitnet", 3, TRAINING, text, tmp_path, console)
    again, same = trained("bitnet", 3, TRAINING, text, tmp_path, Console(file=(shown := io.StringIO())))
    assert (same, shown.getvalue()) == (perplexity, "")
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
    other = Training(**{**vars(TRAINING), "steps": 21})
    with pytest.raises(ValueError, match=r"was trained with .* name another --folder"):
        trained("bitnet", 3, other, text, tmp_path, console)
    with pytest.raises(ValueError, match="there must be a method and a seed at least"):
        gpt.show(gpt.Options(seeds=0), console)
