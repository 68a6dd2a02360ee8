"""What low-bit convolutions fill borders with: zeros, as the float layer did, unless somebody says otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig
from bitorch.config.quantizer_choice import SignGradient
from bitorch.deployment.can_deploy import can_deploy
from bitorch.layers import QConv1d, QConv2d
from bitorch.layers.config import config as layer_config
from bitorch.quantizations import InputDoReFa, Sign
from bitorch.train import Settings

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
MODULES = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
SIGNS: list[SignGradient] = ["sign", "approxsign", "rsign"]


def signs(**fields: Any) -> LowBitConfig:
    return LowBitConfig(
        **{"weight_bits": 1, "activation_bits": 1, "sign": "sign", "first": "same", "last": "same", **fields}
    )


def converted(layer: nn.Module, **fields: Any) -> nn.Sequential:
    model = nn.Sequential(layer)
    bitorch.quantize_(model, signs(**fields))
    return model


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(("pad_value", "expected"), [(0, 0.5), (-1, -3.5), (1, 4.5)])
def test_one_pixel(sign: SignGradient, pad_value: float, expected: float) -> None:
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.constant_(layer.weight, 0.5)
    model = converted(layer, sign=sign, pad_value=pad_value)
    assert model(torch.ones(1, 1, 1, 1)).item() == expected
    if pad_value == 0:
        assert model(torch.ones(1, 1, 1, 1)).item() == layer(torch.ones(1, 1, 1, 1)).item()


def oracle(x: Tensor, layer: Any, pad_value: float, dims: int) -> Tensor:
    """D of ±1 inputs, in 64-bit integers, with borders that hold pad_value."""
    codes = torch.where(x >= 0, 1, -1)
    widths = [width for border in reversed(layer._borders()) for width in border]
    mode = {"zeros": "constant"}.get(layer.padding_mode, layer.padding_mode)
    padded = np.pad(codes.numpy(), [(0, 0), (0, 0), *layer._borders()], **numpy_mode(mode, pad_value))
    assert len(widths) == 2 * dims
    weight = torch.where(layer.weight >= 0, 1, -1)
    return CONVOLUTIONS[dims - 1](torch.from_numpy(padded), weight, None, layer.stride, 0, layer.dilation, layer.groups)


def numpy_mode(mode: str, value: float) -> dict[str, Any]:
    if mode == "constant":
        return {"mode": "constant", "constant_values": int(value)}
    return {"mode": {"replicate": "edge", "circular": "wrap"}.get(mode, mode)}


MODES: list[Literal["zeros", "reflect", "replicate", "circular"]] = ["zeros", "reflect", "replicate", "circular"]


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("pad_value", [0, -1, 1])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", [1, "same"])
def test_every_kind_of_convolution(dims: int, pad_value: float, mode: Any, padding: Any) -> None:
    if dims == 3 and mode == "reflect" and padding == "same":
        padding = 2  # more of another kind
    torch.manual_seed(1)
    kernel = 3 if padding == 1 else 2  # 2 and "same": one border is wider than the other
    for groups in (1, 2):
        layer = MODULES[dims - 1](4, 6, kernel, padding=padding, groups=groups, bias=False, padding_mode=mode)
        model = converted(layer, pad_value=pad_value)
        x = torch.randn(2, 4, *[4] * dims)
        low_bit: Any = model[0]
        expected = oracle(x, low_bit, pad_value, dims).float() * low_bit.weight_scale()
        assert torch.equal(model(x), expected)
        gradient = torch.randn_like(expected)
        model(x).backward(gradient)
        assert low_bit.weight.grad.isfinite().all()


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("pad_value", [0, -1, 1])
@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.one_in(3)
def test_deployed_bit_for_bit(sign: SignGradient, pad_value: float, dims: int) -> None:
    torch.manual_seed(2)
    norm = (nn.BatchNorm1d, nn.BatchNorm2d)[dims - 1]
    conv = MODULES[dims - 1]
    model = nn.Sequential(
        conv(3, 33, 3, padding=2, stride=2),
        norm(33),
        conv(33, 40, 3, padding=1, dilation=2, bias=False),
        norm(40),
        conv(40, 10, 3, padding="same", groups=2),
        norm(10),
    )
    bitorch.quantize_(model, signs(sign=sign, pad_value=pad_value, weight_bits=2))
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    x = torch.randn(3, 3, *[9] * dims)
    model(x)
    model.eval()
    assert can_deploy(model, x)
    packed = bitorch.deploy(model, x)
    other = torch.randn(2, 3, *[9] * dims)
    assert bitorch.verify(model, packed, other)
    y = packed(other)
    assert isinstance(y, Tensor)
    assert torch.equal(y, model(other))
    partial = bitorch.deploy(model, x, partial=True)
    assert torch.equal(partial.model(x), model(x))
    assert all(row.became.startswith("Packed") for row in partial.rows if row.bits)


def test_the_field_is_checked() -> None:
    assert LowBitConfig(1, 2).pad_value == 0
    assert signs(pad_value=-1).pad_value == -1.0
    for wrong in (0.5, 2, -0.25, float("nan")):
        with pytest.raises(
            ValueError, match=r"pad_value must be 0 \(zero padding, as the float layer has it\), -1 or 1, got"
        ):
            signs(pad_value=wrong)
    for wrong_type in ("0", None, True, [1]):
        with pytest.raises(TypeError, match="pad_value must be -1, 0 or 1, got"):
            signs(pad_value=wrong_type)
    with pytest.raises(ValueError, match="pad_value=-1 is for activations of ±1 and needs sign=…"):
        LowBitConfig(1, 2, pad_value=-1)
    with pytest.raises(ValueError, match="pad_value=1 is for activations of ±1 and needs sign=…"):
        LowBitConfig(4, 4, range="learned", pad_value=1)


def test_it_is_in_dicts_rules_tables_and_settings(tmp_path: Path) -> None:
    config = signs(pad_value=-1)
    assert LowBitConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    rules = [("*", config), ("0", signs(pad_value=1)), ("1", signs())]
    for name in ("rules.yaml", "rules.json"):
        bitorch.save_rules(tmp_path / name, rules)
        loaded = bitorch.load_rules(tmp_path / name)
        assert [rule.config.pad_value for rule in loaded] == [-1, 1, 0]  # type: ignore[union-attr]
    (tmp_path / "one.yaml").write_text("- {weight_bits: 1, activation_bits: 1, sign: sign, pad_value: -1}")
    (rule,) = bitorch.load_rules(tmp_path / "one.yaml")
    assert rule.config == LowBitConfig(1, 1, sign="sign", pad_value=-1)
    (tmp_path / "two.yaml").write_text("- {weight_bits: 1, activation_bits: 1, sign: sign, pad_value: middle}")
    with pytest.raises(ValueError, match="entry 1: pad_value must be a number, got 'middle'"):
        bitorch.load_rules(tmp_path / "two.yaml")
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1),
                          nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4, 2))  # fmt: skip
    table = bitorch.quantize_(model, rules)
    assert [row.pad_value for row in table.layers] == [1, 0, -1, None, None]
    header, _, *lines = str(table).splitlines()
    column = header.split().index("pad")
    assert [line.split()[column - 1] for line in lines[:3]] == ["1", "0", "-1"]  # "weight shape" is two words
    assert [row.pad_value for row in bitorch.set_bits(model, bitorch.Bits(weight=2)).layers] == [1, 0, -1, None, None]
    assert [row.pad_value for row in bitorch.float_(model).layers] == [None] * 5
    settings = Settings(bits=(1, 1, 32), sign="sign", pad_value=-1)
    assert settings.config.pad_value == -1
    assert Settings.from_dict(settings.to_dict()) == settings
    with pytest.raises(ValueError, match="rules say what each layer gets, and so does bits, sign, pad_value"):
        Settings(rules=Path("rules.yaml"), bits=(1, 1, 32), sign="sign", pad_value=-1)
    old = {
        name: value for name, value in Settings(bits=(1, 1, 32), sign="sign").to_dict().items() if name != "pad_value"
    }
    assert Settings.from_dict(old).pad_value == -1  # what such a run was trained with


def test_a_second_conversion_asks_for_the_same() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3))
    bitorch.quantize_(model, signs(pad_value=-1))
    bitorch.quantize_(model, signs(pad_value=-1))
    with pytest.raises(ValueError, match="'0' is low-bit already, with other quantizers, another `pad_value`"):
        bitorch.quantize_(model, signs())
    narrow = nn.Sequential(nn.Conv2d(2, 4, 3))  # without borders there is nothing to differ in
    bitorch.quantize_(narrow, signs(pad_value=-1))
    bitorch.quantize_(narrow, signs())


def test_other_activations_and_ends_keep_zeros() -> None:
    model = nn.Sequential(*[nn.Conv2d(2, 2, 3, padding=1) for _ in range(3)])
    table = bitorch.quantize_(model, signs(pad_value=-1, first=8, last=8))
    assert [row.pad_value for row in table.layers] == [None, -1, None]
    assert [layer.pad_value for layer in model] == [0, -1, 0]
    model.eval()
    assert bitorch.can_deploy(model, torch.rand(1, 2, 4, 4))


@pytest.mark.parametrize(
    "build", [lambda: QConv2d(1, 1, 3, padding=1), lambda: QConv2d(1, 1, 3, padding=1, pad_value=None)]
)
def test_layers_that_are_built_follow_the_layers_config(build: Callable[[], QConv2d], monkeypatch: Any) -> None:
    assert build().pad_value == -1
    monkeypatch.setattr(layer_config, "padding_value", 1.0)
    assert build().pad_value == 1
    assert QConv2d(1, 1, 3, padding=1, input_quantization=InputDoReFa(2)).pad_value == 0
    assert converted(nn.Conv2d(1, 1, 3, padding=1))[0].pad_value == 0
    assert QConv2d(1, 1, 3, padding=1, input_quantization=Sign(), pad_value=0).pad_value == 0


@pytest.mark.parametrize(("bits", "pad_value"), [(1, -1.0), (2, -1.0), (2, 2.0), (3, -2 / 7), (7, -1.0)])
@pytest.mark.parametrize("dims", [1, 2])
def test_borders_beyond_the_levels_of_unsigned_inputs(bits: int, pad_value: float, dims: int) -> None:
    """As BITorch pads, with −1 where the levels are 0 … 1: the codes are stored wider, and all sums are the same."""
    torch.manual_seed(3)
    low_bit = (QConv1d, QConv2d)[dims - 1]
    layer: Any = low_bit(
        4, 6, 3, padding=1, input_quantization=InputDoReFa(bits), weight_quantization="sign", pad_value=pad_value
    )
    x = torch.rand(2, 4, *[5] * dims)
    n = 2**bits - 1
    codes = torch.from_numpy(np.pad((x * n).round().numpy(), [(0, 0), (0, 0), *[(1, 1)] * dims],
                                    constant_values=round(pad_value * n)))  # fmt: skip
    weight = torch.where(layer.weight >= 0, 1, -1)
    sums = CONVOLUTIONS[dims - 1](codes.long(), weight)
    model = nn.Sequential(layer).eval()
    torch.testing.assert_close(model(x).detach(), sums / n)
    packed: Any = bitorch.deploy(model, x)
    assert torch.equal(packed(x), model(x).detach())
    assert bitorch.verify(model, packed, x).first_difference is None
    with pytest.raises(ValueError, match=r"is beyond the levels .*deployed whole, it is packed"):
        bitorch.deploy(model, x, partial=True)


def test_borders_beyond_the_levels_in_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    layer = QConv2d(2, 3, 3, padding=1, input_quantization=InputDoReFa(2), pad_value=-1)
    model, x = nn.Sequential(layer).eval(), torch.rand(1, 2, 4, 4)
    bitorch.export_onnx(model, x, path=tmp_path / "net.onnx", dialect="integer")
    assert bitorch.verify_onnx(model, tmp_path / "net.onnx", x)
    assert bitorch.can_export(model, x, dialect="qonnx")
    assert "its border is beyond the codes" in str(bitorch.can_export(model, x, dialect="qcdq"))
