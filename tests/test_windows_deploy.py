"""Windows of every kind deploy whole: transposed, in three dimensions, padded, and images of another size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig
from bitorch.deployment.runtime.packed_model import PackedModel

BITS = ((1, 1), (1, 2), (2, 2), (4, 4))
_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORM: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def low_bit(model: nn.Module, x: Tensor, bits: tuple[int, int] = (2, 2), **config: Any) -> nn.Module:
    """The model with low-bit layers between the first and the last, and statistics of some batches."""
    torch.manual_seed(0)
    model.train()
    bitorch.quantize_(model, LowBitConfig(weight_bits=bits[0], activation_bits=bits[1], **config))
    with torch.no_grad():
        for _ in range(2):
            model(x)
    return model.eval()


def deployed(model: nn.Module, x: Tensor) -> PackedModel:
    """What deploy makes of it, verified on batches of one to three."""
    packed = bitorch.deploy(model, x)
    for batch in (x[:1], torch.cat([x, x.flip(-1)])[:3]):
        verification = bitorch.verify(model, packed, batch)
        assert verification.first_difference is None, str(verification)
    return packed


def operations(packed: PackedModel) -> list[str]:
    return [operation["op"] for operation in packed.operations()]


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Between(nn.Module):
    """Functions between two low-bit convolutions, of images of `dimensions`: a result of each."""

    def __init__(self, *functions: Callable[[Tensor], Tensor], dimensions: int = 2) -> None:
        super().__init__()
        conv, norm = _CONV[dimensions], _NORM[dimensions]
        self.first = nn.Sequential(conv(2, 8, 3, padding=1), norm(8), nn.ReLU())
        self.before = nn.Sequential(conv(8, 8, 3, padding=1), norm(8))
        self.functions = nn.ModuleList(one if isinstance(one, nn.Module) else Function(one) for one in functions)
        self.behind, self.last = conv(8, 8, 3, padding=1), conv(8, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.before(self.first(x))
        return tuple(self.last(self.behind(function(y))) for function in self.functions)


def image(*rows: int, channels: int = 2, batch: int = 2) -> Tensor:
    return torch.rand(batch, channels, *rows, generator=torch.Generator().manual_seed(1))


# Layers


class UNet(nn.Module):
    def __init__(self, kernel: int = 2, padding: int = 0) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 8, kernel, 2, padding)
        self.norm = nn.BatchNorm2d(8)
        self.up1 = nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.norm(self.up(self.down2(F.max_pool2d(one, 2)))).relu()
        y: Tensor = self.head(self.up1(torch.cat([two, one], 1)))
        return y


@pytest.mark.parametrize(("bits", "kernel", "padding"), [(BITS[1], 2, 0), (BITS[3], 4, 1)])
def test_unet(bits: tuple[int, int], kernel: int, padding: int) -> None:
    x = image(12, 20, channels=1)
    packed = deployed(low_bit(UNet(kernel, padding), x, bits), x)
    assert "conv_transpose" in operations(packed)


GEOMETRIES: dict[str, dict[str, Any]] = {
    "2s2": {"kernel_size": 2, "stride": 2},
    "4s2p1": {"kernel_size": 4, "stride": 2, "padding": 1},
    "3s2p1o1": {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    "3s1p1": {"kernel_size": 3, "stride": 1, "padding": 1},
    "1s2": {"kernel_size": 1, "stride": 2},
    "3s3d2": {"kernel_size": 3, "stride": 3, "dilation": 2, "padding": 2},
    "5s4g2": {"kernel_size": 5, "stride": 4, "groups": 2},
    "depthwise": {"kernel_size": 3, "stride": 2, "groups": 8, "padding": 1},
    "many cut": {"kernel_size": 5, "stride": 2, "padding": 4},
}


@pytest.mark.parametrize(("dimensions", "bits"), [(1, (2, 3)), (2, (1, 1)), (2, (2, 3)), (3, (1, 1))])
def test_transposed(dimensions: int, bits: tuple[int, int]) -> None:
    x = image(*(5, 6, 4)[:dimensions])
    layers = [_TRANSPOSED[dimensions](8, 8, **geometry) for geometry in GEOMETRIES.values()]
    config: dict[str, Any] = {"sign": "sign"} if bits == (1, 1) else {}
    packed = deployed(low_bit(Between(*layers, dimensions=dimensions), x, bits, **config), x)
    assert operations(packed).count("conv_transpose") == len(layers)


def test_zero_points_at_the_borders_of_transposed_and_deep_convolutions() -> None:
    """A learned range has a zero point: what lies outside contributes 0, not the code 0."""
    for dimensions, layer in ((2, nn.ConvTranspose2d(8, 8, 3, 2, 1)), (3, nn.Conv3d(8, 8, 3, padding=2, stride=2))):
        x = image(*(5, 6, 4)[:dimensions])
        model = Between(layer, dimensions=dimensions)
        bitorch.quantize_(model, LowBitConfig(weight_bits=2, activation_bits=2, range="learned", learned_by="lsq+"))
        bitorch.calibrate(model.eval(), [x])
        packed = deployed(model, x)
        assert any(operation.get("zero_point", 0) for operation in packed.program()[0])


def test_output_size_of_a_transposed_convolution() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.up, self.last = nn.Conv2d(2, 8, 3), nn.ConvTranspose2d(8, 8, 3, 2), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(self.up(self.first(x), output_size=[8, 9]))
            return y

    x = image(5, 6)
    packed = deployed(low_bit(Sized(), x), x)
    (up,) = (one for one in packed.program()[0] if one["op"] == "conv_transpose")
    assert up["output_padding"] == [1, 0]


def test_float_transposed_convolutions() -> None:
    for dimensions in (1, 2, 3):
        up = _TRANSPOSED[dimensions](8, 4, 3, 2, 1, output_padding=1, groups=2)
        x = image(*(5, 6, 4)[:dimensions])
        model = nn.Sequential(_CONV[dimensions](2, 8, 3, padding=1), nn.Sequential(_CONV[dimensions](8, 8, 1)), up)
        packed = deployed(low_bit(model, x), x)
        assert "conv_transpose_float" in operations(packed)


class Volumes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(1, 8, 3, padding=1),
            nn.BatchNorm3d(8),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Conv3d(8, 16, (3, 3, 1), padding=(1, 1, 0), bias=False),
            nn.BatchNorm3d(16),
            nn.ReLU(),
            nn.Conv3d(16, 16, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), groups=4),
            nn.BatchNorm3d(16),
            nn.ReLU(),
            nn.Conv3d(16, 16, 3, padding=2, dilation=2, groups=16),
            nn.BatchNorm3d(16),
            nn.ReLU(),
            nn.AvgPool3d(2, ceil_mode=True),
        )
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.features(x).mean((2, 3, 4)))
        return y


@pytest.mark.parametrize("bits", [BITS[0], BITS[2]])
def test_volumes(bits: tuple[int, int]) -> None:
    x = image(7, 8, 10, channels=1)
    packed = deployed(low_bit(Volumes(), x, bits), x)
    assert operations(packed).count("conv2d") == 3


def test_padding_modes_of_a_deep_convolution() -> None:
    modes: tuple[Any, ...] = ("zeros", "reflect", "replicate", "circular")
    x = image(3, 4, 5)
    layers = [nn.Conv3d(8, 8, 3, padding=1, padding_mode=mode) for mode in modes]
    deployed(low_bit(Between(*layers, dimensions=3), x), x)


# Pools

POOLS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "max 3d": (3, nn.MaxPool3d(3, 2, 1)),
    "max 3d dilated": (3, nn.MaxPool3d(2, 1, dilation=2)),
    "max 3d ceil": (3, nn.MaxPool3d(2, ceil_mode=True)),
    "max of slices": (3, nn.MaxPool3d((1, 2, 2))),
    "avg 3d": (3, nn.AvgPool3d((2, 3, 2), padding=(1, 0, 1))),
    "avg 3d ceil": (3, nn.AvgPool3d(3, 2, 1, ceil_mode=True, count_include_pad=False)),
    "avg 3d divisor": (3, nn.AvgPool3d(2, divisor_override=3)),
    "adaptive avg 3d": (3, nn.AdaptiveAvgPool3d((2, 3, 1))),
    "adaptive max 3d": (3, nn.AdaptiveMaxPool3d((2, 4, 3))),
    "mean 3d": (3, lambda x: x.mean((2, 3, 4), keepdim=True)),
    "max of all 3d": (3, lambda x: x.amax((2, 3, 4), keepdim=True)),
    "avg 2d ceil": (2, nn.AvgPool2d(3, 2, ceil_mode=True)),
    "avg 2d ceil padded": (2, nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
    "avg 2d divisor": (2, nn.AvgPool2d(2, divisor_override=7)),
    "avg 1d ceil": (1, nn.AvgPool1d(3, 2, 1, ceil_mode=True, count_include_pad=False)),
    "adaptive max 2d": (2, nn.AdaptiveMaxPool2d((3, 4))),
    "adaptive max 1d": (1, nn.AdaptiveMaxPool1d(4)),
    "max 2d indices": (2, lambda x: F.max_pool2d(x, 2, return_indices=True)[0]),
}


def of(table: dict[str, tuple[int, Callable[[Tensor], Tensor]]], dimensions: int) -> Between:
    """The functions of a table for images of so many dimensions."""
    return Between(*(one for count, one in table.values() if count == dimensions), dimensions=dimensions)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_pools(dimensions: int) -> None:
    x = image(*(7, 6, 5)[:dimensions])
    deployed(low_bit(of(POOLS, dimensions), x), x)


def test_adaptive_maxima_of_codes() -> None:
    """What never falls goes before a maximum: codes are compared, not floats."""
    x = image(7, 9)
    packed = deployed(low_bit(Between(nn.AdaptiveMaxPool2d((3, 4))), x), x)
    (pool,) = (one for one in packed.operations() if one["op"] == "adaptive_max_pool")
    assert pool["outputs"][0]["dtype"] == "codes"


class Frames(nn.Module):
    """[batch, frames, C, H, W]: windows over the pictures of each frame, then over the frames of each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.spatial = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(8), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.temporal = nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0))
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, frames = x.shape[:2]
        y = F.max_pool2d(self.first(x.flatten(0, 1)), 3, 2, 1)
        y = F.avg_pool2d(self.up(self.spatial(y)), 2, ceil_mode=True)
        y = self.temporal(y.unflatten(0, (batch, frames)).transpose(1, 2)).transpose(1, 2)
        z: Tensor = self.last(F.adaptive_max_pool2d(y.flatten(0, 1), (2, 3))).unflatten(0, (batch, frames))
        return z


def test_windows_of_frames() -> None:
    """The batch may be part of an axis: windows then leave the frames in front of theirs alone."""
    x = torch.rand(2, 4, 2, 10, 12, generator=torch.Generator().manual_seed(1))
    deployed(low_bit(Frames(), x, (2, 2)), x)


def test_indices_of_a_maximum_are_refused() -> None:
    class Indices(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            values, places = F.max_pool2d(x, 2, return_indices=True)
            return F.max_unpool2d(values, places, 2)

    x = image(8, 8)
    with pytest.raises(ValueError, match="max_unpool2d cannot be deployed"):
        bitorch.deploy(low_bit(Between(Indices()), x), x)


# Padding

PADS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "constant 3d": (3, lambda x: F.pad(x, (1, 0, 2, 1, 0, 3))),
    "value 3d": (3, nn.ConstantPad3d((1, 0, 0, 1, 2, 0), 0.5)),
    "replicate 3d": (3, nn.ReplicationPad3d((1, 0, 2, 1, 0, 2))),
    "circular 3d": (3, nn.CircularPad3d((1, 0, 2, 1, 0, 2))),
    "reflect 3d": (3, nn.ReflectionPad3d((1, 0, 2, 1, 1, 2))),
    "rows and channels 3d": (3, lambda x: F.pad(x[:, :5], (1, 1, 0, 0, 2, 0, 1, 2))),
    "cut": (2, lambda x: F.pad(x, (-1, 2, 1, -2))),
    "cut only": (2, lambda x: F.pad(x, (-1, 0, 0, -2))),
    "cut channels": (2, lambda x: F.pad(x, (0, 0, 0, 1, -1, 1))),
    "cut 3d": (3, lambda x: F.pad(x, (-1, 1, 0, 1, 1, -2))),
    "cut and mirrored": (2, lambda x: F.pad(x, (-1, 2, 1, -2), mode="reflect")),
    "circular 1d": (1, nn.CircularPad1d(2)),
}


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_padding(dimensions: int) -> None:
    x = image(*(5, 6, 4)[:dimensions])
    deployed(low_bit(of(PADS, dimensions), x), x)


def test_padding_of_tokens() -> None:
    """[batch, tokens, features]: along tokens, features, or both; the mirrored axis is one of rows."""

    class Tokens(nn.Module):
        def __init__(self, pad: Sequence[int], mode: str, features: int) -> None:
            super().__init__()
            self.pad, self.mode = tuple(pad), mode
            self.first, self.inner, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(features, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(F.pad(self.inner(self.first(x)), self.pad, mode=self.mode))
            return y

    x = image(6, channels=5)
    pads = (((0, 0, 1, 2), "constant", 8), ((1, 2), "circular", 11), ((0, 0, -1, 1), "constant", 8))
    for pad, mode, features in pads:
        deployed(low_bit(Tokens(pad, mode, features), x), x)


# Other sizes

SIZES: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "bilinear": (2, nn.Upsample(scale_factor=2, mode="bilinear")),
    "corners": (2, nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
    "size": (2, lambda x: F.interpolate(x, size=(11, 3), mode="bilinear")),
    "factor": (2, lambda x: F.interpolate(x, scale_factor=(1.7, 0.6), mode="bilinear")),
    "recomputed": (2, lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True)),
    "bicubic": (2, nn.Upsample(scale_factor=2, mode="bicubic")),
    "bicubic corners": (2, lambda x: F.interpolate(x, size=(9, 4), mode="bicubic", align_corners=True)),
    "linear": (1, nn.Upsample(scale_factor=1.5, mode="linear")),
    "trilinear": (3, nn.Upsample(scale_factor=2, mode="trilinear")),
    "trilinear corners": (3, lambda x: F.interpolate(x, size=(9, 6, 2), mode="trilinear", align_corners=True)),
    "area": (2, lambda x: F.interpolate(x, size=(3, 4), mode="area")),
}
NEAREST: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "twice": (2, nn.Upsample(scale_factor=2)),
    "thrice along columns": (2, lambda x: F.interpolate(x, scale_factor=(1, 3))),
    "any size": (2, lambda x: F.interpolate(x, size=(13, 4))),
    "exact": (2, lambda x: F.interpolate(x, size=(13, 4), mode="nearest-exact")),
    "1d": (1, nn.Upsample(scale_factor=2)),
    "3d": (3, nn.Upsample(scale_factor=2)),
    "3d any size": (3, lambda x: F.interpolate(x, size=(7, 9, 3))),
    "shuffled": (2, lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, (2)), 2)),
}


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_other_sizes(dimensions: int) -> None:
    x = image(*(7, 6, 5)[:dimensions])
    packed = deployed(low_bit(of(SIZES, dimensions), x), x)
    assert "resize" in operations(packed)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_the_nearest_pixels_move_as_codes(dimensions: int) -> None:
    x = image(*(8, 6, 4)[:dimensions])
    packed = deployed(low_bit(of(NEAREST, dimensions), x), x)
    kinds = [one["outputs"][0]["dtype"] for one in packed.operations() if one["op"] in ("resize", "take", "permute")]
    assert set(kinds) == {"codes"}


def test_antialias_is_refused() -> None:
    x = image(8, 8)
    model = Between(lambda y: F.interpolate(y, size=(4, 4), mode="bilinear", antialias=True))
    with pytest.raises(ValueError, match="antialias=True makes images smaller with windows of its own"):
        bitorch.deploy(low_bit(model, x), x)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.0, 1e30])
def test_degenerate_values(value: float) -> None:
    x = image(8, 6, channels=1)
    x[0, 0, 2, 3] = value
    for model in (UNet(), nn.Sequential(nn.Conv2d(1, 4, 1), nn.Upsample(scale_factor=2, mode="bilinear"), UNet().head)):
        if isinstance(model, nn.Sequential):
            model = nn.Sequential(model[0], nn.Conv2d(4, 8, 1), *model[1:])
        quantized = low_bit(model, x.nan_to_num(0.5, 0.5).clamp(-1, 1))
        packed = bitorch.deploy(quantized, x.nan_to_num(0.5, 0.5).clamp(-1, 1))
        assert bitorch.verify(quantized, packed, x).first_difference is None
