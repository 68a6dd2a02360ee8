"""The benchmark of generation: a small GPT, whose packed layers give the tokens of the low-bit ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def generation(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    pytest.importorskip("bitorch_runtime")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import generation

    yield generation
    for name in ("generation", "generation_model"):
        sys.modules.pop(name, None)


def test_tokens_with_kept_keys_are_those_of_the_whole_text(generation: ModuleType) -> None:
    torch.manual_seed(0)
    model = generation.GPT(vocabulary=20, width=16, blocks=2, heads=2, context=32).eval()
    prompt = torch.randint(20, (5,))
    tokens = generation.generate(model, model.caches(), prompt, 8)
    with torch.no_grad():
        whole = model(torch.cat([prompt, torch.tensor(tokens[:-1])]))
    assert whole[4:].argmax(1).tolist() == tokens


def test_packed_layers_generate_the_same_tokens(generation: ModuleType) -> None:
    torch.manual_seed(0)
    options = generation.Options(tokens=12, prompt=4, rounds=1)
    model = generation.GPT(width=64, blocks=2, heads=2).eval()
    for method in ("bitnet", "w1a8", "w2a8", "w4a8", "w4", "w4a4"):
        row = generation.measure(model, method, options)  # raises where a token differs
        assert set(row.rates) == set(generation.NETS)
        assert all(rate > 0 for rate in row.rates.values())
        assert row.packed_bytes < 0.6 * row.float_bytes
