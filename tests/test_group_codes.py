"""Linear layers of codes whose weight has a scale for each group of inputs, deployed bit for bit: whole and in part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig, quantize_
from bitorch.deployment.partial.evaluation_pass import EvaluationPass
from bitorch.deployment.partial.packed_layers import PackedLinear
from bitorch.layers import QConv2d, QLinear
from bitorch.operators.packed import packed_linear
from bitorch.quantizations import (
    InputDoReFa,
    InputDynamic,
    InputLSQ,
    Quantization,
    Sign,
    WeightAbsMax,
    WeightAbsMean,
    WeightDoReFa,
)

INPUTS: dict[str, Callable[[], Quantization]] = {
    "unit, 4 bits": lambda: InputDoReFa(4),
    "sign": Sign,
    "learned, 8 bits": lambda: InputLSQ(8, offset=True),
    "powers of two": lambda: InputLSQ(4, power_of_two=True),
    "rows": lambda: InputDynamic(8),
}
WEIGHTS: dict[str, Quantization] = {
    **{f"{bits} bits": WeightAbsMax(bits, group_size=16) for bits in (1, 3, 4, 8)},
    "groups of 1": WeightAbsMax(3, group_size=1),
    "groups of 3": WeightAbsMax(4, group_size=3),
    "ternary": WeightAbsMean(group_size=24),
}
PAIRS = [("rows", weights) for weights in WEIGHTS] + [
    (of_inputs, "4 bits") for of_inputs in INPUTS if of_inputs != "rows"
]
PAIRS += [("sign", "1 bits"), ("learned, 8 bits", "8 bits")]


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, 96, generator=torch.Generator().manual_seed(1))


def net(of_inputs: str, weights: str) -> nn.Module:
    """Three layers, the one between without a bias."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 96, bias=False), nn.Hardswish(), nn.Linear(96, 5))
    config = LowBitConfig(activations=INPUTS[of_inputs](), weights=WEIGHTS[weights], first="same", last="same")
    quantize_(model, config)
    return calibrated(model)


def calibrated(model: nn.Module) -> nn.Module:
    """In eval mode, with ranges where there are some to find."""
    if any(isinstance(module, InputLSQ) for module in model.modules()):
        bitorch.calibrate(model, [inputs(64)])
    return model.eval()


def gives_the_same(packed: bitorch.PackedModel, model: nn.Module, x: Tensor) -> bool:
    y = packed(x)
    assert isinstance(y, Tensor)
    with torch.no_grad():
        return torch.equal(y, model(x))


@pytest.mark.parametrize(("of_inputs", "weights"), PAIRS)
def test_whole(of_inputs: str, weights: str) -> None:
    """One file of packed codes, which gives what the model gives, bit for bit; vectors and rows of them."""
    model = net(of_inputs, weights)
    x = inputs(9) if weights == "4 bits" else inputs(2, 7)
    packed = bitorch.deploy(model, x[:1])
    assert isinstance(packed, bitorch.PackedModel)
    assert bitorch.verify(model, packed, x)
    assert gives_the_same(packed, model, x)
    kinds = [one["op"] for one in packed.operations()]
    assert kinds.count("linear_groups") == 3
    assert not {"linear", "linear_float", "linear_weight_only"} & set(kinds)


@pytest.mark.parametrize("of_inputs", ["rows", "learned, 8 bits"])
def test_one_group_is_a_scale_for_each_channel(of_inputs: str) -> None:
    """So it takes the operation that has stages behind its sums."""
    torch.manual_seed(0)
    layer = QLinear(
        96, 5, input_quantization=INPUTS[of_inputs](), weight_quantization=WeightAbsMax(4, group_size=96)
    )  # fmt: skip
    calibrated(layer)
    x = inputs(9)
    packed = bitorch.deploy(layer, x)
    assert isinstance(packed, bitorch.PackedModel)
    assert "linear" in [one["op"] for one in packed.operations()]
    assert gives_the_same(packed, layer, x)
    assert torch.equal(PackedLinear(layer)(x), layer(x))


def test_between_other_layers() -> None:
    """Codes behind such a layer, and thresholds of the next one: its sums are floats, and no integer staircase."""
    torch.manual_seed(0)
    model = nn.Sequential(
        QLinear(96, 64, input_quantization=InputDoReFa(4), weight_quantization=WEIGHTS["4 bits"]),
        nn.BatchNorm1d(64),
        QLinear(64, 64, input_quantization=InputDoReFa(2), weight_quantization=WeightDoReFa(2, variant="paper")),
        nn.BatchNorm1d(64),
        QLinear(64, 8, input_quantization=InputDoReFa(3), weight_quantization=WeightAbsMax(4, group_size=32)),
    )
    model(inputs(50))  # what the norms have seen
    x = inputs(20)
    packed = bitorch.deploy(model.eval(), x)
    assert isinstance(packed, bitorch.PackedModel)
    assert bitorch.verify(model, packed, x)
    assert gives_the_same(packed, model, x)


def test_attention_and_a_tied_weight() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)
    quantize_(model, LowBitConfig(4, 8, weights="absmax", range="dynamic", group_size=32, first="same", last="same"))
    x = torch.randn(2, 5, 64)
    whole = bitorch.deploy(model.eval(), x)
    assert isinstance(whole, bitorch.PackedModel)
    assert bitorch.verify(model, whole, x)
    assert [one["op"] for one in whole.operations()].count("linear_groups") == 6
    part = bitorch.deploy(model, x, partial=True)
    assert isinstance(part, bitorch.PartialDeployment)
    with torch.no_grad():
        assert torch.equal(part(x), model(x))
    first, second = (QLinear(96, 96, input_quantization=InputDynamic(8), weight_quantization=WEIGHTS["4 bits"])
                     for _ in range(2))  # fmt: skip
    second.weight, second.weight_quantization = first.weight, first.weight_quantization
    tied = nn.Sequential(first, nn.ReLU(), second).eval()
    packed = bitorch.deploy(tied, inputs(3))
    assert isinstance(packed, bitorch.PackedModel)
    assert gives_the_same(packed, tied, inputs(3))
    assert sum(array.shape == (96, 48) for array in packed.program()[1].values()) == 1


@pytest.mark.parametrize(("of_inputs", "weights"), PAIRS[::3])
def test_in_part(of_inputs: str, weights: str, tmp_path: Path) -> None:
    """Packed modules in PyTorch give the layers' numbers, and so does their file."""
    model, x = net(of_inputs, weights), inputs(2, 5)
    packed = bitorch.deploy(model, x, partial=True)
    assert isinstance(packed, bitorch.PartialDeployment)
    assert [row.became for row in packed.rows] == ["PackedLinear"] * 3
    with torch.no_grad():
        for one in (x, x[0], x[0, 0], x[:0], x.double(), x.bfloat16()):
            assert torch.equal(packed(one), model(one))
    packed.save(tmp_path / "net.pt")
    again = bitorch.PartialDeployment.load(tmp_path / "net.pt", net(of_inputs, weights))
    assert torch.equal(again(x), packed(x))


class Cubes(Quantization):
    """Codes that nobody but PyTorch knows how to make."""

    name, bit_width, unsigned, max_code = "cubes", 4, True, 15

    def codes(self, x: Tensor) -> Tensor:
        return (15 * x.clamp(0, 1) ** 3).round()

    def scale(self, x: Tensor) -> Tensor:
        return torch.tensor(0.07)

    def quantize(self, x: Tensor) -> Tensor:
        return self.codes(x) * self.scale(x)


def test_in_part_with_codes_of_pytorch() -> None:
    layer = QLinear(96, 5, input_quantization=Cubes(), weight_quantization=WEIGHTS["4 bits"]).eval()
    packed, x = PackedLinear(layer), inputs(4)
    assert torch.equal(packed(x), layer(x))
    assert torch.equal(packed(x), layer(x))


@pytest.mark.parametrize("dialect", ["integer", "qcdq", "qonnx"])
@pytest.mark.parametrize("shape", [(3,), (3, 7), (2, 3, 4)], ids=str)
def test_onnx(dialect: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """The integer dialect has the numbers of the runtime; the others those of the values."""
    model, x, path = net("unit, 4 bits", "3 bits"), inputs(*shape), tmp_path / "net.onnx"
    bitorch.export_onnx(model, x[:1], path=path, dialect=dialect)
    if dialect == "qonnx":  # ONNX Runtime has not its operators
        return
    assert bitorch.verify_onnx(model, path, x)
    if dialect == "integer":
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            assert np.array_equal(found, model(x).numpy())


def test_c(tmp_path: Path) -> None:
    packed = bitorch.deploy(net("rows", "3 bits"), inputs(1))
    assert isinstance(packed, bitorch.PackedModel)
    header = bitorch.export_c(packed, tmp_path / "net.h")
    assert header.constant_bytes < 96 * 48 * 4  # less than half of float32


def test_onnx_of_rows_and_of_wide_groups(tmp_path: Path) -> None:
    bitorch.export_onnx(net("rows", "4 bits"), inputs(1), path=tmp_path / "rows.onnx")
    assert bitorch.verify_onnx(net("rows", "4 bits"), tmp_path / "rows.onnx", inputs(5))
    weights = WeightAbsMax(8, group_size=2000)
    wide = QLinear(4000, 1, input_quantization=InputDoReFa(8), weight_quantization=weights).eval()
    with pytest.raises(ValueError, match=r"the sums of its groups reach .* float32 has not every integer"):
        bitorch.export_onnx(wide, torch.rand(1, 4000), path=tmp_path / "wide.onnx")


def test_nan_and_other_calls() -> None:
    layer = QLinear(96, 5, input_quantization=InputDynamic(8), weight_quantization=WEIGHTS["4 bits"]).eval()
    packed, x = PackedLinear(layer), inputs(4)
    x[1, 3] = torch.nan
    assert torch.equal(packed(x).isnan(), layer(x).isnan())
    assert torch.equal(packed(x)[2:], layer(x)[2:])
    weight, scale = packed.packed_weight, packed.scale
    wrong_scales = {
        "as many groups as divide the 96 inputs, got 10": scale[:, :2].repeat(1, 5),
        "scale must be float32, 0-dim or": scale[:4],
        "scale must be float32": scale.double(),
    }
    for text, wrong in wrong_scales.items():
        with pytest.raises(ValueError, match=text):
            packed_linear(x, weight, wrong, None, 4, 8, "rows", 128, "signed")


def test_what_is_refused() -> None:
    conv = QConv2d(4, 4, 3, input_quantization=InputDoReFa(4), weight_quantization=WeightAbsMax(4, group_size=36))
    with pytest.raises(ValueError, match="has a scale for each group of inputs, so there are no codes to compute"):
        bitorch.deploy(conv.eval(), torch.randn(1, 4, 5, 5))
    wide = QLinear(70000, 1, input_quantization=InputDoReFa(8), weight_quantization=WeightAbsMax(8, group_size=1000))
    with pytest.raises(ValueError, match="70000 inputs per output could overflow the int32 sums of the runtime"):
        bitorch.deploy(wide.eval(), torch.rand(1, 70000))
    values = QLinear(96, 5, exact=False, input_quantization=InputDynamic(8), weight_quantization=WEIGHTS["4 bits"])
    with pytest.raises(ValueError, match="exact=False computes on floats"):
        bitorch.deploy(values.eval(), inputs(1))


def test_evaluation_on_packed_weights() -> None:
    model, x = net("rows", "4 bits"), inputs(3)
    with torch.no_grad():
        expected = model(x)
        evaluation = EvaluationPass(model, "packed", batches=2)
        with evaluation.running():
            assert torch.equal(model(x), expected)
            assert torch.equal(model(x), expected)
    assert evaluation.forms.packed == ("0", "2", "4")


def test_the_scales_of_a_file_are_those_of_training() -> None:
    model = net("learned, 8 bits", "4 bits")
    first = model.get_submodule("0")
    assert isinstance(first, QLinear)
    found = WeightAbsMax(4, group_size=16).group_codes(first.weight)
    assert found is not None
    packed = bitorch.deploy(model, inputs(1))
    assert isinstance(packed, bitorch.PackedModel)
    step = first.input_quantization.scale(inputs(1)).detach()
    kept = [array for array in packed.program()[1].values() if array.shape == (48, 6)]
    assert any(np.array_equal(array, (step * found.scale).detach()) for array in kept)
