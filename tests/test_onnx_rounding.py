"""Batch normalisation rounded once: with rational numbers as the oracle, where rounding twice goes wrong."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import numpy as np
import onnxruntime
import torch

from bitorch.deployment.graph.graph import Graph, Node
from bitorch.deployment.onnx.rounded_once import _goes_wrong, _unsure, is_safe_in_float64, write_rounded_once
from bitorch.deployment.onnx.writer import Writer


def nearest(value: Fraction) -> np.float32:
    """The float32 next to a rational number, the even one of two."""
    near = np.float32(float(value))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return min(around, key=lambda one: (abs(Fraction(float(one)) - value), int(one.view(np.int32)) & 1))


def node_of(multiply: torch.Tensor, offset: torch.Tensor) -> Node:
    settings = {"multiply": multiply, "offset": offset}
    return Node("norm", "batch_norm", ("x",), (len(multiply),), lambda x: x, settings)


def test_rounded_once() -> None:
    torch.manual_seed(0)
    # x·multiply is a halfway number and a little more; the offset is small, so that it is all there in the product.
    low = torch.randint(2**11, 2**12, (4000,)) * 2 + 1
    high = torch.randint(2**11, 2**12, (4000,)) * 2 + 1
    x, multiply = low.float(), high.float()
    offset = torch.where(torch.rand(4000) < 0.5, -1.0, 1.0) * 2.0**-45
    node = node_of(multiply, offset)
    wrong = _goes_wrong(x, multiply, offset)
    writer = Writer(21)
    writer.input("x", "float32", (4000,))
    writer.output("norm", write_rounded_once(writer, replace(node), "x"), "float32", (4000,))
    session = onnxruntime.InferenceSession(writer.model("one", {}).SerializeToString())
    (found,) = session.run(None, {"x": x.unsqueeze(0).numpy()})
    numbers = zip(x.tolist(), multiply.tolist(), offset.tolist(), strict=True)
    exact = [Fraction(a) * Fraction(b) + Fraction(c) for a, b, c in numbers]
    expected = np.array([nearest(value) for value in exact])
    assert (found[0] == expected).all()
    twice = (x.double() * multiply.double() + offset.double()).float().numpy()
    assert ((twice != expected) == wrong.numpy()).all()
    assert wrong.any()


def test_where_the_sum_has_room_in_float64_it_is_exact() -> None:
    """Outside of the sums that are gone through one by one, the rest of the float64 sum is 0."""
    torch.manual_seed(1)
    channels, most = 64, 3000
    multiply, offset = torch.randn(channels), torch.randn(channels) * 10.0 ** torch.randint(-9, 4, (channels,))
    offset[0], multiply[1], offset[2] = 0.0, 0.0, 2.0**-60
    scale = torch.rand(()) * 0.01
    signs = torch.where(torch.rand(channels) < 0.5, -1.0, 1.0)

    def x(d: torch.Tensor) -> torch.Tensor:
        return d.float() * scale * signs

    ends = (torch.full((channels,), end) for end in (-most, most))
    first, end = _unsure(node_of(multiply, offset), x, *ends)
    d = torch.arange(-most, most + 1).unsqueeze(1).expand(-1, channels)
    product, add = x(d).double() * multiply.double(), offset.double()
    total = product + add
    back = total - product
    lost = (product - (total - back)) + (add - back)
    assert bool((lost[(d < first) | (d >= end)] == 0).all())
    gone_through = ((end - first).clamp(min=0) > 0).float().mean()
    assert 0.2 < float(gone_through) < 1
    assert int((end - first).median()) < most / 10


@pytest.mark.parametrize("is_wrong", [False, True])
def test_one_sum_that_is_rounded_twice_wrongly_is_found(is_wrong: bool) -> None:
    """As one of many: D·multiply lies halfway between two float32, and the offset is too small for float64."""
    multiply = torch.full((3,), 6145.0)
    multiply[0] = 2.0**13
    # 4099 · 6145 has 25 bits and ends in a 1.
    offset = torch.tensor([2.0**-45, 0.0, -(2.0**-45) if is_wrong else 0.5])
    weight = torch.ones(3, 4099)
    settings = {"weight": weight, "largest": (1, 1)}
    total = Node("sum", "product", (), (3,), lambda: torch.zeros(1, 3), settings)
    norm = Node("norm", "batch_norm", ("sum",), (3,), lambda x: x, {"multiply": multiply, "offset": offset})
    graph = Graph((total, norm), ("norm",))
    assert is_safe_in_float64(graph, norm, set()) is not is_wrong
