"""Dialect `integer`: in ONNX Runtime every code and every sum of a file is the model's."""

from __future__ import annotations

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
from bitorch.deployment.deploy import pixels_of
from bitorch.deployment.onnx import lines
from bitorch.deployment.onnx.export import OnnxExport
from bitorch.deployment.onnx.stored_weights import unpacked
from bitorch.deployment.onnx.verification import verify_onnx
from bitorch.deployment.onnx.writer import Writer
from bitorch.models import LeNet8
from golden_nets import GOLDEN, Golden

#: Many kinds of nodes in little time; the rest is in `make sweep`.
_QUICK = ("lenet-8.W1A1", "lenet-8.W1A2", "branches.W8A8", "pools.W2A2", "codes.W1A1", "signal.W4A4", "volumes.W4A4")


def settled(model: nn.Module, *images: torch.Tensor, **config: Any) -> nn.Module:
    """A low-bit model with random statistics, in eval mode."""
    torch.manual_seed(3)
    bitorch.quantize_(model, bitorch.LowBitConfig(**config))
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            norm.running_mean = torch.randn_like(norm.weight) / 4
            norm.running_var = torch.rand_like(norm.weight) + 0.5
    if "range" in config:
        bitorch.calibrate(model, images)
    return model.eval()


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize(
    "golden",
    [pytest.param(one, id=one.name, marks=() if one.name in _QUICK else pytest.mark.slow) for one in GOLDEN],
)
def test_every_number_is_that_of_the_model(golden: Golden, tmp_path: Path) -> None:
    model, example = golden.model(), golden.example()
    path = tmp_path / "net.onnx"
    bitorch.export_onnx(model, *example, path=path, pixels=golden.setting.pixels)
    given = [pixels_of(x) if golden.setting.pixels and x.is_floating_point() else x for x in example]
    verification = verify_onnx(model, path, *given)
    assert verification, str(verification)


def exported(tmp_path: Path, opset: int | None = None, **config: Any) -> tuple[nn.Module, OnnxExport]:
    images = torch.rand(8, 1, 8, 8)
    model = settled(LeNet8(), images, **config)
    return model, bitorch.export_onnx(model, images[:1], path=tmp_path / "net.onnx", opset=opset)


@pytest.mark.parametrize("bits", [(1, 1), (1, 2), (2, 2), (3, 3), (4, 4)])
def test_convolutions_that_lead_to_codes_take_proved_lines(bits: tuple[int, int], tmp_path: Path) -> None:
    model, written = exported(tmp_path, weight_bits=bits[0], activation_bits=bits[1])
    assert set(written.on_lines) == {"layers.3/sum", "layers.7/sum"}
    assert operators(written.path).count("QLinearConv") == 2
    assert "ConvInteger" not in operators(written.path)
    verification = verify_onnx(model, written.path, torch.rand(64, 1, 8, 8))
    assert verification, str(verification)


@pytest.mark.parametrize("zero", [64, 255])
def test_lines_through_a_code_far_off(zero: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_ZEROS", (zero,))
    model, written = exported(tmp_path, weight_bits=4, activation_bits=4)
    assert set(written.on_lines) == {"layers.3/sum", "layers.7/sum"}
    kept = [onnx.numpy_helper.to_array(one) for one in onnx.load(written.path).graph.initializer]
    assert any(one.dtype == np.uint8 and one.shape == () and one == zero for one in kept)
    verification = verify_onnx(model, written.path, torch.rand(16, 1, 8, 8))
    assert verification, str(verification)


@pytest.mark.parametrize("opset", [21, 25])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_files_are_as_small_as_packed_ones(bits: int, opset: int, tmp_path: Path) -> None:
    model, written = exported(tmp_path, opset, weight_bits=bits, activation_bits=2)
    packed = bitorch.deploy(model, torch.rand(1, 1, 8, 8))
    assert written.nbytes <= 1.25 * packed.nbytes + 20_000
    assert written.nbytes == written.path.stat().st_size
    kept = {tensor.data_type for tensor in onnx.load(written.path).graph.initializer}
    assert (onnx.TensorProto.UINT4 in kept) is (bits == 4)
    assert (onnx.TensorProto.UINT2 in kept) is (bits == 2 and opset == 25)
    assert verify_onnx(model, written.path, torch.rand(8, 1, 8, 8))


@pytest.mark.parametrize("opset", [21, 25])
@pytest.mark.parametrize("bits", range(1, 9))
def test_weights_of_any_bits_come_out_as_they_went_in(bits: int, opset: int) -> None:
    stored = np.random.default_rng(bits).integers(0, 2**bits, (3, 5, 7), dtype=np.uint8)
    writer = Writer(opset)
    writer.input("x", "float32", ())
    value = unpacked(writer, stored, bits)
    writer.output("out", value, "int32", (5, 7))
    session = onnxruntime.InferenceSession(writer.model("one", {}).SerializeToString())
    (found,) = session.run(None, {"x": np.zeros(3, np.float32)})
    assert (found == stored).all()


@pytest.mark.parametrize("is_needed", [False, True])
@pytest.mark.parametrize("channels", [8, 24])
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 2},
        {"kernel_size": 1},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 3, "groups": 4, "padding": 1},
        {"kernel_size": (3, 5), "groups": 8, "padding": (1, 2)},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    ],
    ids=str,
)
def test_windows(arguments: dict[str, Any], channels: int, is_needed: bool, tmp_path: Path) -> None:
    """Both as sums that lead to codes and as sums that are added to something."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, channels, 3, padding=1)
            self.window = nn.Conv2d(channels, channels, **arguments)
            self.norm, self.end = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 1)
            self.last = nn.Conv2d(channels, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.norm(self.window(torch.relu(self.first(x)))))
            z = self.end(y)
            scores: torch.Tensor = self.last(torch.relu(z + y if is_needed else z))
            return scores.flatten(1)

    x = torch.rand(4, 3, 9, 8)
    model = settled(Net(), weight_bits=2, activation_bits=2)
    written = bitorch.export_onnx(model, x[:1], path=tmp_path / "net.onnx")
    assert ("window/sum" in written.on_lines) is not is_needed
    verification = verify_onnx(model, written.path, x)
    assert verification, str(verification)


def test_transposed_convolutions_with_groups(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(),
        nn.ConvTranspose2d(8, 12, 3, 2, padding=1, output_padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(12, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1),
    )  # fmt: skip
    settled(model, weight_bits=2, activation_bits=2)
    x = torch.rand(3, 3, 7, 6)
    written = bitorch.export_onnx(model, x[:1], path=tmp_path / "net.onnx")
    verification = verify_onnx(model, written.path, x)
    assert verification, str(verification)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_linear_layers_of_tokens(bits: int, tmp_path: Path) -> None:
    widths = ((6, 10), (10, 12), (12, 8), (8, 3))
    layers = [layer for before, after in widths for layer in (nn.Linear(before, after), nn.ReLU())]
    model = settled(nn.Sequential(*layers), weight_bits=bits, activation_bits=bits)
    x = torch.rand(4, 5, 6)
    written = bitorch.export_onnx(model, x[:1], path=tmp_path / "net.onnx")
    assert "MatMulInteger" in operators(written.path)
    verification = verify_onnx(model, written.path, x)
    assert verification, str(verification)


def test_sums_that_float32_has_not_are_refused_by_name(tmp_path: Path) -> None:
    wide = nn.Conv2d(1024, 8, 3, groups=2)
    model = nn.Sequential(nn.Conv2d(3, 1024, 1), nn.ReLU(), wide, nn.ReLU(), nn.Conv2d(8, 2, 1))
    settled(model, weight_bits=8, activation_bits=8)
    can = bitorch.can_export(model, torch.rand(1, 3, 4, 4))
    assert not can
    assert "2 (QConv2d" in str(can)
    assert "beyond 2^24" in str(can)
    with pytest.raises(ValueError, match=r"dialect 'integer' cannot say it: its sums reach"):
        bitorch.export_onnx(model, torch.rand(1, 3, 4, 4), path=tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []
