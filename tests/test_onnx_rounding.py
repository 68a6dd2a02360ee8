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

from bitorch.deployment.graph.graph import Node
from bitorch.deployment.onnx.rounded_once import _goes_wrong, write_rounded_once
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
    wrong = _goes_wrong(node, x.unsqueeze(0))[0]
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
