"""What models return: dicts, dataclasses and other things beside tensors; the names of a packed net's outputs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from bitorch.deployment.runtime.packed_model import PackedModel


class TwoHeads(nn.Module):
    """A body and two heads, and a function that puts together what leaves."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten())
        self.scores = nn.Linear(24, 5)
        self.value = nn.Linear(24, 1)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        y = self.body(x)
        return self.function(self.scores(y), self.value(y), x)


def two_heads(function: Callable[[Tensor, Tensor, Tensor], Any]) -> nn.Module:
    torch.manual_seed(0)
    model = TwoHeads(function)
    bitorch.quantize_(model, bitorch.LowBitConfig(weight_bits=1, activation_bits=2, last=8))
    return model.eval()


@dataclass
class Prediction:
    logits: Tensor
    loss: Tensor | None = None
    steps: int = 3


@dataclass
class ModelOutput(OrderedDict[str, Any]):
    """As Hugging Face's: a dataclass and a dict of its fields that are not None."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past: Any = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                self[field.name] = value


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Cache:
    """No tensor, though it may hold some."""


OUTPUTS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Any], list[str], list[str]]] = {
    "dict": (lambda s, v, x: {"logits": s, "value": v}, ["logits", "value"], []),
    "the names of layers": (lambda s, v, x: {"value": s, "scores": v}, ["value", "scores"], []),
    "one of it": (lambda s, v, x: {"body.0": s, "x": v}, ["body.0", "x@2"], []),
    "dataclass": (lambda s, v, x: Prediction(s), ["logits"], ["steps (int)"]),
    "ModelOutput": (lambda s, v, x: ModelOutput(logits=s, past=Cache()), ["logits"], ["past (Cache)"]),
    "namedtuple": (lambda s, v, x: Pair(s, v), ["first", "second"], []),
    "nested": (
        lambda s, v, x: {"a": {"b": s}, "c": [v, Prediction(s)], "n": None, "t": "text", "f": 0.5},
        ["a.b", "c.0", "c.1.logits"],
        ["c.1.steps (int)", "t (str)", "f (float)"],
    ),
    "twice": (lambda s, v, x: {"one": s, "other": s, "third": s}, ["one", "other", "third"], []),
    "tuple": (lambda s, v, x: (s, v, s), ["scores", "value", "scores@2"], []),
    "keys that are none": (lambda s, v, x: {0: s, 1.5: v}, ["0", "1.5"], []),
    "keys that are equal": (lambda s, v, x: {1: s, "1": v}, ["1", "1@2"], []),
    "dots": (lambda s, v, x: {"a.b": s, "a": {"b": v}}, ["a.b", "a.b@2"], []),
    "control characters": (lambda s, v, x: {"a\nb": s, "ü/é": v}, ["a_b", "ü/é"], []),
    "the input": (lambda s, v, x: {"image": x, "x": s}, ["image", "x@2"], []),
    "the input by its name": (lambda s, v, x: {"s": s, "x": x}, ["s", "x"], []),
    "numbers": (lambda s, v, x: {"y": v.squeeze(1), "also": v, "twice": v.squeeze(1)}, ["y", "also", "twice"], []),
    "one tensor, two shapes": (lambda s, v, x: (v, v[:, 0], v.view(-1, 1, 1)), ["value", "value@2", "value@3"], []),
    "of a layer inside": (lambda s, v, x: {"scores/sum": v, "scores/codes": s}, ["scores/sum", "scores/codes"], []),
    "a list of dicts": (lambda s, v, x: [{"s": s}, {"s": v}], ["output_0.s", "output_1.s"], []),
}


def flat(value: Any) -> list[Tensor]:
    """The tensors, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for item in value.values() for t in flat(item)]
    if isinstance(value, (list, tuple)):
        return [t for item in value for t in flat(item)]
    return flat(vars(value)) if isinstance(value, Prediction) else []


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.one_in(2)
def test_outputs(name: str, pixels: bool, tmp_path: Path) -> None:
    function, names, left_out = OUTPUTS[name]
    if pixels and name == "the input by its name":  # the floats are another tensor than the pixels
        names = ["s", "x@2"]
    model, x = two_heads(function), torch.rand(2, 1, 6, 6)
    can = bitorch.can_deploy(model, x)
    assert can, str(can)
    assert list(can.left_out) == left_out
    assert all(text in str(can) for text in left_out)
    packed = bitorch.deploy(model, x, pixels=pixels)
    assert [spec.name for spec in packed.outputs] == names
    assert packed.provenance is not None
    assert packed.provenance.get("left_out", []) == left_out
    path = tmp_path / "net.bit.safetensors"
    packed.save(path)
    given = torch.randint(0, 256, (3, 1, 6, 6), dtype=torch.uint8) if pixels else torch.rand(3, 1, 6, 6)
    with torch.no_grad():
        expected = flat(model(bitorch.data.to_float(given) if pixels else given))
    for net in (packed, PackedModel.load(path)):
        found = net(given)
        found = {names[0]: found} if isinstance(found, Tensor) else found
        assert list(found) == names
        for tensor, other in zip(found.values(), expected, strict=True):
            assert torch.equal(tensor, other)
    native = bitorch_runtime.load(path)(given.numpy())
    native = {names[0]: native} if isinstance(native, np.ndarray) else native
    assert list(native) == names
    verification = bitorch.verify(model, packed, given)
    assert verification, str(verification)
    partial = bitorch.deploy(model, x, partial=True)
    with torch.no_grad():
        assert all(map(torch.equal, flat(partial.model(x)), flat(model(x))))


def test_a_report_of_named_outputs_knows_its_layers() -> None:
    model = two_heads(lambda s, v, x: {"logits": s, "value": v})
    bytes_of = {row.name: row.packed_bytes for row in bitorch.report(model, torch.rand(2, 1, 6, 6)).rows}
    assert bytes_of["scores"] > 0
    assert bytes_of["value"] > 0


def test_no_tensor() -> None:
    model, x = two_heads(lambda s, v, x: {"steps": 3}), torch.rand(2, 1, 6, 6)
    assert "the model returns no tensor, but dict" in str(bitorch.can_deploy(model, x))
    with pytest.raises(ValueError, match="the model returns no tensor, but dict"):
        bitorch.deploy(model, x)
    with pytest.raises(ValueError, match="the model returns no tensor, but dict"):
        bitorch.deploy(model, x, partial=True)
