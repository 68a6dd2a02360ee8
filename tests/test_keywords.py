"""The recipe of keyword spotting: it learns, and what is deployed is what was trained."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture
def keywords(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    pytest.importorskip("bitorch_runtime")
    monkeypatch.syspath_prepend(str(RECIPES))
    import keywords

    yield keywords
    for name in ("keywords", "keywords_tones"):
        sys.modules.pop(name, None)


def test_words_are_told_by_their_syllables_alone(keywords: ModuleType) -> None:
    sounds, words = keywords.clips(60, 3)
    assert sounds.shape == (60, 1, sys.modules["keywords_tones"].LENGTH)
    assert bool(sounds.isfinite().all())
    torch.testing.assert_close(sounds.square().mean((1, 2)), torch.ones(60))
    assert set(words.tolist()) == set(range(10))
    again, _ = keywords.clips(60, 3)
    assert torch.equal(sounds, again)
    assert not torch.equal(keywords.clips(60, 4)[0], sounds)
    assert len(set(sys.modules["keywords_tones"]._VOCABULARY)) == 10


@pytest.mark.parametrize("net", ["conv", "gru"])
def test_deployed_nets_are_the_trained_ones(keywords: ModuleType, net: str) -> None:
    options = keywords.Options(net=net, clips=100, tests=40, epochs=1)
    results = keywords.compare(options)  # raises where a number differs
    assert [result.name for result in results][:2] == ["float", "low-bit"]
    assert results[2].accuracy == results[1].accuracy


@pytest.mark.slow
def test_words_are_learned(keywords: ModuleType) -> None:
    results = keywords.compare(keywords.Options(clips=2000, tests=400, epochs=5))
    assert results[0].accuracy > 0.9
    assert results[1].accuracy > 0.85
    assert results[2].accuracy == results[1].accuracy
    assert results[2].seconds < results[0].seconds
