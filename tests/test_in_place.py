"""`model = bitorch.quantize_(model, …)`: the table says that the model was changed in place."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import bitorch


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


def tables() -> dict[str, Any]:
    """By function, what it returns."""
    model = net()
    config = bitorch.LowBitConfig(2, 2, range="calibrated")
    found: dict[str, Any] = {"quantize_": bitorch.quantize_(model, config)}
    found["calibrate"] = bitorch.calibrate(model, [torch.rand(8, 4)])
    found["set_bits"] = bitorch.set_bits(model, (4, 4))
    found["float_"] = bitorch.float_(model)
    return found


USES: dict[str, Callable[[Any], object]] = {
    "call": lambda model: model(torch.rand(1, 4)),
    "train": lambda model: model.train(),
    "eval": lambda model: model.eval(),
    "parameters": lambda model: list(model.parameters()),
    "to": lambda model: model.to("cpu"),
    "state_dict": lambda model: model.state_dict(),
    "layer": lambda model: model.fc,
    "item": lambda model: model[0],
    "loop": lambda model: list(model),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("function", ["quantize_", "calibrate", "set_bits", "float_"])
def test_a_table_used_as_the_model_says_so(function: str, use: str) -> None:
    model = tables()[function]
    with pytest.raises((AttributeError, TypeError)) as raised:
        USES[use](model)
    message = str(raised.value)
    assert f"{function}" in message
    assert "in place, and this is the table of what was done. Write bitorch." in message
    assert "(model, …) without `model =` in front" in message


@pytest.mark.parametrize(
    "call",
    [
        lambda table: bitorch.quantize_(table, bitorch.LowBitConfig(1, 2)),
        lambda table: bitorch.calibrate(table, [torch.rand(8, 4)]),
        lambda table: bitorch.set_bits(table, (2, 2)),
        lambda table: bitorch.float_(table),
        lambda table: bitorch.check(table, (torch.rand(8, 4), torch.zeros(8, dtype=torch.long))),
        lambda table: bitorch.deploy(table, torch.rand(1, 4)),
        lambda table: bitorch.deploy(table, torch.rand(1, 4), partial=True),
        lambda table: bitorch.can_deploy(table, torch.rand(1, 4)),
        lambda table: bitorch.report(table, torch.rand(1, 4)),
        lambda table: bitorch.sensitivity(table, [(torch.rand(8, 4), torch.zeros(8, dtype=torch.long))]),
    ],
)
def test_functions_that_get_a_table_say_so(call: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match=r"got Conversion\. quantize_, set_bits and float_ work in place"):
        call(tables()["quantize_"])


def test_a_table_is_still_a_plain_value() -> None:
    for table in tables().values():
        assert pickle.loads(pickle.dumps(table)) == table == copy.deepcopy(table)
        assert hash(table) == hash(copy.copy(table))
        assert not hasattr(table, "parameters")
        assert "layer" in str(table)
