"""The example of a vision transformer on digits, run small: trained a little, deployed whole, verified."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

import bitorch
import vit_digits
from example import Budget

pytest.importorskip("sklearn")


def test_digits_move_in_training_and_stay_in_test() -> None:
    generator = torch.Generator().manual_seed(0)
    x, labels = vit_digits.drawn(40, generator)
    again, _ = vit_digits.drawn(40, torch.Generator().manual_seed(0))
    assert x.shape == (40, 1, 32, 32)
    assert torch.equal(x, again)
    assert set(labels.tolist()) == set(range(10))
    unseen, answers = vit_digits.unseen(360, generator)
    assert unseen.shape == (360, 1, 32, 32)
    assert 0 <= float(unseen.min()) < float(unseen.max()) <= 1
    assert vit_digits.accuracy(nn.functional.one_hot(answers, 10).float(), answers) == 1.0


def test_the_packed_transformer_is_the_trained_one(tmp_path: Path) -> None:
    text = io.StringIO()
    path = tmp_path / "net.bit.safetensors"
    options = vit_digits.Options(budget=Budget(steps=2, batch=4, test=6, lr=1e-4), out=path)
    outcome = vit_digits.main(options, Console(file=text, width=120))
    assert outcome.scores[1] == outcome.scores[2]
    assert {"matmul_codes", "softmax", "normalize", "constant"} <= {one["op"] for one in outcome.packed.operations()}
    assert "verified on 6 examples: equal" in text.getvalue()
    assert bitorch.PackedModel.load(path).nbytes == outcome.packed.nbytes


@pytest.mark.slow
def test_digits_are_read() -> None:
    outcome = vit_digits.main(vit_digits.Options(), Console(file=io.StringIO()))
    assert float(outcome.scores[2].rstrip("%")) > 88
    assert outcome.scores[1] == outcome.scores[2]
