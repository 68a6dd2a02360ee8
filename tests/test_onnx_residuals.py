"""Dialect `integer` where sums are added to residuals: in which order, by which table, and in how many steps."""

from __future__ import annotations

from itertools import product as combinations
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

import bitorch
from bitorch.deployment.graph.graph import Node
from bitorch.deployment.onnx import tables_of_sums
from bitorch.deployment.onnx.low_bit_sums import Product
from bitorch.deployment.onnx.tables_of_sums import every_sum
from bitorch.deployment.onnx.verification import verify_onnx
from bitorch.deployment.onnx.writer import Writer
from test_onnx_integer import operators, settled


class Residuals(nn.Module):
    """A pool, two blocks of two convolutions with what they read added, and one that halves the image."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.first, self.pool = nn.Conv2d(3, channels, 3, padding=1), nn.MaxPool2d(2)
        self.norm = nn.BatchNorm2d(channels)
        self.blocks = nn.ModuleList(self._branch(channels, channels, 1) for _ in range(2))
        self.halved, self.beside = self._branch(channels, 2 * channels, 2), nn.Conv2d(channels, 2 * channels, 1, 2)
        self.beside_norm, self.last = nn.BatchNorm2d(2 * channels), nn.Linear(2 * channels, 4)

    @staticmethod
    def _branch(before: int, after: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.norm(self.first(x))))
        for block in self.blocks:
            x = torch.relu(block(x) + x)
        x = torch.relu(self.halved(x) + self.beside_norm(self.beside(x)))
        scores: torch.Tensor = self.last(x.mean((2, 3)))
        return scores


def exported(tmp_path: Path, **config: Any) -> tuple[nn.Module, Path, torch.Tensor]:
    x = torch.rand(2, 3, 34, 34)
    model = settled(Residuals(), x, **config)
    return model, bitorch.export_onnx(model, x[:1], path=tmp_path / "net.onnx").path, x


@pytest.mark.parametrize(
    ("config", "tables"),
    [
        ({"weight_bits": 1, "activation_bits": 1, "sign": "sign"}, 4),
        ({"weight_bits": 1, "activation_bits": 2}, 4),
        ({"weight_bits": 4, "activation_bits": 4}, 0),
        ({"weight_bits": 2, "activation_bits": 2, "range": "learned", "weight_scale": "channel"}, 4),
        ({"weight_bits": 8, "activation_bits": 8}, 0),
    ],
    ids=str,
)
def test_every_number_is_that_of_the_model(config: dict[str, Any], tables: int, tmp_path: Path) -> None:
    model, path, x = exported(tmp_path, **config)
    assert operators(path).count("GatherElements") == tables
    kept = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
    assert onnx.TensorProto.DOUBLE not in kept  # which would be twice the bytes
    verification = verify_onnx(model, path, x)
    assert verification, str(verification)


def test_a_large_table_is_read_one_channel_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables_of_sums, "_NEAR", 0)
    model, path, x = exported(tmp_path, weight_bits=1, activation_bits=2)
    nodes = [node for node in onnx.load(path).graph.node if node.op_type == "GatherElements"]
    assert {node.attribute[0].i for node in nodes} == {1}
    verification = verify_onnx(model, path, x)
    assert verification, str(verification)


def optimized(path: Path) -> onnx.ModelProto:
    """What ONNX Runtime makes of a file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimized"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


@pytest.mark.parametrize("bits", [(1, 2), (8, 8)])
def test_no_channels_are_moved_between_the_pool_and_the_mean(bits: tuple[int, int], tmp_path: Path) -> None:
    _, path, _ = exported(tmp_path, weight_bits=bits[0], activation_bits=bits[1])
    assert operators(path).count("Transpose") > 15
    left = [node.op_type for node in optimized(path).graph.node if node.op_type in ("Transpose", "ReorderOutput")]
    assert len(left) <= 5, left  # three behind the pool, for floats and for codes, and one in front of the mean


def test_tables_are_computed_when_the_file_is_loaded(tmp_path: Path) -> None:
    _, path, _ = exported(tmp_path, weight_bits=1, activation_bits=2)
    kinds = {node.op_type for node in optimized(path).graph.node}
    assert "GatherElements" in kinds
    assert "Range" not in kinds
    assert not any(
        node.op_type == "Cast" and node.attribute[0].i == onnx.TensorProto.DOUBLE for node in optimized(path).graph.node
    )


@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize("zero", [0, 1, 3])
def test_the_ends_of_sums(zero: int, sign: bool) -> None:
    """By trying all codes of three inputs."""
    weight = torch.tensor([[3, -1, 2], [-3, -3, 0], [1, 1, 1]])
    largest = 1 if sign else 3 - zero
    settings = {"weight": weight, "largest": (largest, 3), "sign": sign, "zero_point": zero}
    found = Product.of(Node("sum", "product", ("x",), (3,), lambda x: x, settings)).ends
    codes = (-1, 0, 1) if sign else [q - zero for q in range(4)]
    sums = [int(total) for q in combinations(codes, repeat=3) for total in weight @ torch.tensor(q)]
    assert found == (min(sums), max(sums))


def test_every_sum_stands_where_its_index_points() -> None:
    settings = {"weight": torch.tensor([[3, -1, 2]]), "largest": (3, 3), "sign": False, "zero_point": 0}
    product = Product.of(Node("sum", "product", ("x",), (1,), lambda x: x, settings))
    writer = Writer(21)
    writer.input("x", "float32", ())
    writer.output("out", every_sum(writer, product), "int32", (1,))
    session = onnxruntime.InferenceSession(writer.model("one", {}).SerializeToString())
    (found,) = session.run(None, {"x": np.zeros(1, np.float32)})
    assert product.ends == (-3, 15)
    assert [int(found[d, 0]) for d in range(-3, 16)] == [*range(-3, 16)]
