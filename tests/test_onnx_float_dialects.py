"""Dialects qcdq and qonnx: low-bit layers as float ones of quantized operands, which give the same classes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import torch
from torch import Tensor, nn

import bitorch
from bitorch.layers import QConvTranspose2d
from bitorch.models import LeNet8
from bitorch.quantizations import InputLSQ, WeightDoReFa, WeightLSQ
from golden_nets import GOLDEN, Golden
from onnx_dialect_runs import node_by_node, outputs_of
from random_nets import RandomGraph, RandomNet

try:
    import qonnx
except ModuleNotFoundError:
    qonnx = None

needs_qonnx = pytest.mark.skipif(qonnx is None, reason="qonnx is not installed")
DIALECTS = ["qcdq", pytest.param("qonnx", marks=needs_qonnx)]
CONFIGS: dict[str, dict[str, Any]] = {
    "W1A1": {"weight_bits": 1, "activation_bits": 1, "sign": "sign"},
    "W1A1, shifted": {"weight_bits": 1, "activation_bits": 1, "sign": "rsign", "pad_value": -1},
    "W1A2": {"weight_bits": 1, "activation_bits": 2},
    "W1A2 per channel": {"weight_bits": 1, "activation_bits": 2, "weight_scale": "channel"},
    "W2A2": {"weight_bits": 2, "activation_bits": 2},
    "W4A4": {"weight_bits": 4, "activation_bits": 4},
    "8-bit ends": {"weight_bits": 1, "activation_bits": 2, "first": 8, "last": 8},
    "ternary": {"weight_bits": 2, "activation_bits": 2, "weights": "twn"},
    "LSQ": {"weight_bits": 2, "activation_bits": 2, "range": "learned"},
    "LSQ+": {"weight_bits": 3, "activation_bits": 3, "range": "learned", "learned_by": "lsq+"},
    "PACT": {"weight_bits": 2, "activation_bits": 2, "range": "learned", "learned_by": "pact"},
    "calibrated": {"weight_bits": 2, "activation_bits": 4, "range": "calibrated"},
}


def lenet(config: dict[str, Any], images: Tensor) -> nn.Module:
    """A small net with statistics of these images."""
    torch.manual_seed(0)
    model = LeNet8()
    bitorch.quantize_(model, bitorch.LowBitConfig(**config))
    if config.get("range", "unit") != "unit":
        bitorch.calibrate(model, [images])
    model.train()
    model(images)
    return model.eval()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("config", CONFIGS)
def test_the_same_classes(config: str, dialect: str, tmp_path: Path) -> None:
    images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    model = lenet(CONFIGS[config], images)
    images = images if dialect == "qcdq" else images[:4]  # which run one by one
    export = bitorch.export_onnx(model, images[:1], path=tmp_path / "net.onnx", dialect=dialect)
    (scores,) = outputs_of(export, [images])
    with torch.no_grad():
        expected = model(images)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(scores.argmax(1), expected.argmax(1))


def check(model: nn.Module, inputs: list[Tensor], dialect: str, path: Path) -> None:
    """Every node but batch norms gives what PyTorch makes of the same inputs, within float sums."""
    for node, expected, found in node_by_node(model, inputs, dialect, path):
        assert found.shape == expected.shape, node
        if node.kind != "batch_norm":  # whose factors make any rounding large here
            within = 2e-5 * float(expected.abs().amax()) + 1e-7
            assert float((found - expected).abs().amax()) <= within, str(node)


#: Seeds by dialect: the package qonnx takes its time.
_TRIALS = [
    *(("qcdq", seed) for seed in range(12)),
    *(pytest.param("qonnx", seed, marks=needs_qonnx) for seed in (0, 1)),
]


@pytest.mark.parametrize(("dialect", "seed"), _TRIALS)
def test_random_nets(dialect: str, seed: int, tmp_path: Path) -> None:
    model = RandomNet(seed)
    image = torch.rand(2, model.in_channels, model.image_size, model.image_size)
    check(model, [image], dialect, tmp_path / "net.onnx")


@pytest.mark.parametrize(("dialect", "seed"), _TRIALS)
def test_random_graphs(dialect: str, seed: int, tmp_path: Path) -> None:
    model = RandomGraph(seed)
    check(model.eval(), [torch.rand(2, *shape) for shape in model.in_shapes], dialect, tmp_path / "net.onnx")


#: Those of which no number lies exactly between two codes, where another rounding takes the other one.
_WITHOUT_TIES = [
    golden
    for golden in GOLDEN
    if golden.net in ("attends", "words", "tokens", "pads", "volumes", "codes", "signal", "positions", "branches")
    and golden.setting.name not in ("W4A4", "W8A8")
]


@pytest.mark.parametrize("golden", _WITHOUT_TIES, ids=lambda golden: golden.name)
def test_what_small_nets_lack(golden: Golden, tmp_path: Path) -> None:
    check(golden.model(), golden.example(), "qcdq", tmp_path / "net.onnx")


@needs_qonnx
@pytest.mark.parametrize("net", ["attends", "words", "pads"])
def test_what_small_nets_lack_in_qonnx(net: str, tmp_path: Path) -> None:
    golden = next(golden for golden in _WITHOUT_TIES if golden.net == net)
    check(golden.model(), [x[:1] for x in golden.example()], "qonnx", tmp_path / "net.onnx")


class Transposed(nn.Module):
    """Transposed convolutions of groups, with a step for each output channel."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        channels = 4
        self.up = QConvTranspose2d(
            channels,
            6,
            3,
            2,
            1,
            groups=groups,
            input_quantization=InputLSQ(3),
            weight_quantization=WeightLSQ(3, channels=6),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(x)
        return y


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_with_steps_of_channels(groups: int, dialect: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, image = Transposed(groups), torch.rand(2, 4, 5, 6)
    bitorch.calibrate(model, [image])
    check(model.eval(), [image], dialect, tmp_path / "net.onnx")


def test_what_a_file_of_qcdq_holds(tmp_path: Path) -> None:
    images = torch.rand(4, 1, 8, 8)
    model = lenet(CONFIGS["W2A2"], images)
    bitorch.export_onnx(model, images, path=tmp_path / "net.onnx", dialect="qcdq")
    file = onnx.load(tmp_path / "net.onnx")
    weights = [onnx.numpy_helper.to_array(one) for one in file.graph.initializer]
    grids = [sorted(set(one.ravel().tolist())) for one in weights if one.dtype == "int8" and one.ndim > 1]
    assert grids == [[-3, -1, 1, 3]] * 3
    operators = [node.op_type for node in file.graph.node]
    assert operators.count("QuantizeLinear") == operators.count("Clip") == 3
    assert operators.count("DequantizeLinear") == 6
    assert {node.domain for node in file.graph.node} == {""}
    assert file.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_weights_that_int8_does_not_hold_are_refused_by_name_before_there_is_int16(tmp_path: Path) -> None:
    images = torch.rand(4, 1, 8, 8)
    model = lenet(CONFIGS["8-bit ends"], images)
    assert bitorch.can_export(model, images, dialect="qcdq")
    found = bitorch.can_export(model, images, dialect="qcdq", opset=17)
    assert [problem.name for problem in found.problems] == ["layers.0", "layers.14"]
    with pytest.raises(ValueError, match="which int8 does not hold"):
        bitorch.export_onnx(model, images, path=tmp_path / "net.onnx", dialect="qcdq", opset=17)
    assert not (tmp_path / "net.onnx").exists()


@needs_qonnx
@pytest.mark.parametrize("config", ["W1A1", "W2A2", "LSQ"])
def test_qonnx_is_clean_already(config: str, tmp_path: Path) -> None:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.util.cleanup import cleanup_model

    images = torch.rand(4, 1, 8, 8)
    model = lenet(CONFIGS[config], images)
    export = bitorch.export_onnx(model, images, path=tmp_path / "net.onnx", dialect="qonnx")
    net = ModelWrapper(str(export.path))
    assert net.check_all_tensor_shapes_specified()
    cleaned = cleanup_model(net)
    made = Counter(node.op_type for node in onnx.load(export.path).graph.node)
    assert Counter(node.op_type for node in cleaned.graph.node) == made
    scores = execute_onnx(cleaned, {cleaned.graph.input[0].name: images[:1].numpy()})
    (expected,) = outputs_of(export, [images[:1]])
    assert torch.equal(torch.from_numpy(next(iter(scores.values()))), expected)


@needs_qonnx
def test_quantizers_of_qonnx_say_their_bits(tmp_path: Path) -> None:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_datatypes import InferDataTypes

    images = torch.rand(4, 1, 8, 8)
    model = lenet({"weight_bits": 2, "activation_bits": 2}, images)
    export = bitorch.export_onnx(model, images, path=tmp_path / "net.onnx", dialect="qonnx")
    net = ModelWrapper(str(export.path)).transform(InferDataTypes(allow_scaledint_dtypes=True))
    types = {net.get_tensor_datatype(node.output[0]).name for node in net.get_nodes_by_op_type("Quant")}
    assert types == {"SCALEDINT<2>", "SCALEDINT<3>"}  # −3, −1, 1 and 3 are of 3 bits


def test_a_prototype_of_weights_is_its_codes(tmp_path: Path) -> None:
    """Codes times scale are the weight that the layer computes with."""
    images = torch.rand(4, 1, 8, 8)
    model = lenet({"activation_bits": 2, "weights": WeightDoReFa(3, variant="paper")}, images)
    export = bitorch.export_onnx(model, images, path=tmp_path / "net.onnx", dialect="qcdq")
    values = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(export.path).graph.initializer}
    layer = next(module for module in model.modules() if isinstance(module, bitorch.layers.QConv2d))
    expected = layer.weight_quantization(layer.weight).detach()
    node = next(
        n for n in onnx.load(export.path).graph.node if n.op_type == "DequantizeLinear" and n.input[0] in values
    )
    found = torch.from_numpy(values[node.input[0]].astype("float32") * values[node.input[1]])
    assert torch.allclose(found, expected, rtol=1e-6, atol=0)
