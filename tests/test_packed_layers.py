"""Packed layers are their low-bit layers in eval mode, bit for bit, wherever PyTorch calls them."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bitorch_runtime
from bitorch import LowBitConfig, calibrate, deploy, quantize_
from bitorch.deployment.partial.pack_layers import pack_layers
from bitorch.deployment.partial.packed_layers import PackedConv1d, PackedConv2d, PackedLinear
from bitorch.layers import QConv1d, QConv2d, QConv2d_NoAct, QConv3d, QLinear
from bitorch.layers.low_bit import LowBit
from bitorch.operators import packed as torch_ops
from bitorch.operators import packed_programs
from bitorch.quantizations import (
    ApproxSign,
    GradientDoReFa,
    InputDoReFa,
    ProgressiveSign,
    Quantization,
    Sign,
    SteHeaviside,
    SwishSign,
    WeightDoReFa,
)
from bitorch.quantizations.sign_grid import SignGrid

pytestmark = [
    # While it traces an autograd.Function, torch._dynamo makes an instance of it, against which autograd warns.
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    # The first import of torch._inductor imports TorchScript code of PyTorch's own, which warns of itself.
    pytest.mark.filterwarnings(r"ignore:.torch\.jit\.\w+. is deprecated:DeprecationWarning"),
]

PACKED: dict[type[LowBit], Any] = {QLinear: PackedLinear, QConv1d: PackedConv1d, QConv2d: PackedConv2d}
#: Values at which quantizers decide, and beyond.
SPECIAL = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 0.5, 1.0, -1.0, 1 / 6, 0.1, 3e38, -3e38, torch.inf, -torch.inf])


def assert_same(ours: Tensor, expected: Tensor) -> None:
    """Equal to the last bit, and NaN where NaN is. The sign of PyTorch's zero sums depends on how it adds them."""
    torch.testing.assert_close(ours, expected, rtol=0, atol=0, equal_nan=True)


def check(layer: LowBit, *inputs: Tensor) -> nn.Module:
    """Pack a layer, and compare it with the layer."""
    packed: nn.Module = PACKED[type(layer)](layer.eval())
    for x in inputs:
        with torch.no_grad():
            expected = layer(x)
        y = packed(x)
        assert not y.requires_grad
        assert_same(y, expected)
    return packed


def values(shape: tuple[int, ...], seed: int, nan: bool = False) -> Tensor:
    """Random numbers around the quantizers' ranges, with special ones among them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * 1.5
    special = torch.cat([SPECIAL, torch.tensor([torch.nan])]) if nan else SPECIAL
    picks = special[torch.randint(len(special), shape, generator=generator)]
    return torch.where(torch.rand(shape, generator=generator) < (0.02 if nan else 0.2), picks, x)


def paper(weight: int, activation: int, **more: Any) -> dict[str, Any]:
    return {
        "weight_quantization": WeightDoReFa(weight, variant="paper"),
        "input_quantization": InputDoReFa(activation, variant="paper"),
        **more,
    }


signs = st.sampled_from([Sign, ApproxSign, SwishSign, SteHeaviside, ProgressiveSign])
bit_widths = st.integers(1, 8)
variants = st.sampled_from(["paper", "bitorch"])
quantizers = st.fixed_dictionaries(
    {
        "weight_quantization": st.builds(WeightDoReFa, bit_widths, variant=variants) | signs.map(lambda cls: cls()),
        "input_quantization": st.builds(InputDoReFa, bit_widths, variant=variants) | signs.map(lambda cls: cls()),
        "bias": st.booleans(),
    }
)
floats = st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.float16, torch.float64])


def randomized(layer: LowBit, seed: int) -> LowBit:
    """Weights of several magnitudes, and biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 10.0 ** (seed % 4 - 2))
    return layer


@settings(deadline=None, max_examples=80)
@given(
    quantization=quantizers,
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 20)),
    batch=st.lists(st.integers(0, 5), max_size=3),
    dtype=floats,
    weight_dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    nan=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_linear(
    quantization: dict[str, Any],
    sizes: tuple[int, int],
    batch: list[int],
    dtype: torch.dtype,
    weight_dtype: torch.dtype,
    nan: bool,
    seed: int,
) -> None:
    layer = randomized(QLinear(*sizes, dtype=weight_dtype, **quantization), seed)
    check(layer, values((*batch, sizes[0]), seed, nan).to(dtype))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[LowBit, Tensor]:
    """A QConv1d or QConv2d of any geometry, and an input that is large enough."""
    dimensions = draw(st.sampled_from([1, 2, 2]))

    def sizes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(dimensions))

    quantization: dict[str, Any] = draw(quantizers)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels = groups * draw(st.integers(1, 5))
    out = groups * draw(st.integers(1, 4))
    kernel, dilation = sizes(1, 4), sizes(1, 2)
    mode: Any = draw(st.sampled_from(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"]))
    padding: Any = draw(st.sampled_from(["same", "valid", "numbers", "numbers"]))
    padding = sizes(0, 2) if padding == "numbers" else padding
    stride = (1,) * dimensions if padding == "same" else sizes(1, 3)
    grid = quantization["input_quantization"].eval().max_code
    is_unsigned = quantization["input_quantization"].unsigned
    pad_value = draw(st.none() | st.integers(0 if is_unsigned else -1, grid).map(lambda code: code / grid))
    cls: Any = (QConv1d, QConv2d)[dimensions - 1]
    layer: LowBit = cls(
        channels,
        out,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        padding_mode=mode,
        pad_value=pad_value,
        **quantization,
    )
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    image = [draw(st.integers(max(span, 3), span + 6)) for span in spans]
    batch = draw(st.integers(0 if mode == "zeros" else 1, 3))
    seed = draw(st.integers(0, 1000))
    x = values((batch, channels, *image), seed, draw(st.booleans())).to(draw(floats))
    if dimensions == 2 and draw(st.booleans()):
        x = x.to(memory_format=torch.channels_last)
    return randomized(layer, seed), x


@settings(deadline=None, max_examples=150)
@given(convolutions())
def test_convolution(case: tuple[LowBit, Tensor]) -> None:
    layer, x = case
    packed = check(layer, x)
    if len(x):
        assert_same(packed(x[0]), layer(x[0]).detach())
    wide = torch.stack([x, x], dim=-1)[..., 0]  # no order of its dimensions is contiguous
    assert_same(packed(wide), packed(x))


@pytest.mark.parametrize("weight_bits", range(1, 9))
def test_every_pair_of_bits(weight_bits: int) -> None:
    for activation_bits in range(1, 9):
        check(
            randomized(QConv2d(5, 6, 3, padding=1, **paper(weight_bits, activation_bits)), activation_bits),
            values((1, 5, 5, 4), activation_bits),
        )


def test_sums_beyond_what_float32_holds() -> None:
    layer = QLinear(4000, 8, **paper(8, 8))
    with torch.no_grad():
        layer.weight.copy_(torch.ones(8, 4000) - torch.eye(8, 4000))
    check(layer, torch.ones(2, 4000), torch.rand(2, 4000))


def test_infinite_and_zero_weights() -> None:
    for value in (torch.inf, 0.0):
        for weight_bits in (1, 3):
            layer = QLinear(9, 4, **paper(weight_bits, 2))
            with torch.no_grad():
                layer.weight[0] = value
                if value == 0:
                    layer.weight.zero_()
            check(layer, values((7, 9), 3))


def test_negative_zero() -> None:
    layer = QLinear(9, 4, bias=False, input_quantization=Sign(), weight_quantization=WeightDoReFa(1, variant="paper"))
    nn.init.zeros_(layer.weight)  # a scale of 0
    x = -torch.ones(1, 9)
    assert layer(x).signbit().all()
    assert check(layer, x)(x).signbit().all()


def test_nan_goes_where_the_layer_puts_it() -> None:
    layer = QConv2d(4, 6, (3, 2), stride=2, padding=(2, 1), dilation=(2, 1), groups=2, **paper(1, 2))
    x = torch.rand(2, 4, 9, 9)
    x[1, 3, 4, 4] = torch.nan
    for images in (x, x.to(memory_format=torch.channels_last)):
        packed = check(layer, images)
        y = packed(images)
        assert 0 < y.isnan().sum() < y[1].numel() / 2
        assert not y[1, :3].isnan().any()  # of the other group
    layer = QConv2d(2, 3, (4, 2), padding="same", **paper(1, 2))  # more padding below and on the right
    for corner in ((0, 0), (0, 4), (4, 0), (4, 4)):
        x = torch.rand(1, 2, 5, 5)
        x[0, 0][corner] = torch.nan
        check(layer, x)
    x = torch.tensor([[0.5, -torch.inf, torch.inf], [torch.nan, 1.0, 1.0]])
    assert check(QLinear(3, 2, **paper(1, 2)), x)(x).isnan().tolist() == [[False, False], [True, True]]


class StepSize(Quantization):
    """A custom activation with a learned step, 0 … 5 of it: not a grid of 2^bits levels."""

    name = "step_size"
    bit_width = 3
    unsigned = True

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.tensor(0.3))

    @property
    def max_code(self) -> int:
        return 5

    def codes(self, x: Tensor) -> Tensor:
        return (x / self.step).round().clamp(0, 5)

    def scale(self, x: Tensor) -> Tensor:
        return self.step.detach()

    def quantize(self, x: Tensor) -> Tensor:
        return self.codes(x) * self.step


class Parity(SignGrid):
    """A custom sign that no threshold gives."""

    name = "parity"

    def codes(self, x: Tensor) -> Tensor:
        return 1 - 2 * x.nan_to_num().floor().remainder(2) + 0 * x


class Ternary(StepSize):
    """−1, 0, 1: no grid of the runtime, neither of weights nor of activations."""

    unsigned = False

    @property
    def max_code(self) -> int:
        return 1

    def codes(self, x: Tensor) -> Tensor:
        return (x / self.step).round().clamp(-1, 1)


class Grid(Quantization):
    """Codes of any largest code, odd ones or from 0 on."""

    name = "grid"

    def __init__(self, largest: int, unsigned: bool) -> None:
        super().__init__()
        self.largest = largest
        self.unsigned = unsigned
        self.bit_width = largest.bit_length()

    @property
    def max_code(self) -> int:
        return self.largest

    def codes(self, x: Tensor) -> Tensor:
        if self.unsigned:
            return (x * 8).round().clamp(0, self.largest)
        return ((x * 8).floor() * 2 + 1).clamp(-self.largest, self.largest)

    def scale(self, x: Tensor) -> Tensor:
        return torch.full((), 0.3, dtype=torch.promote_types(x.dtype, torch.float32))


class TailoredSign(Sign):
    """A subclass, which may compute something else."""

    def codes(self, x: Tensor) -> Tensor:
        return super().codes(x - 0.5)


@pytest.mark.parametrize("quantizer", [StepSize, Parity, TailoredSign])
def test_custom_input_quantizers(quantizer: type[Quantization]) -> None:
    x = torch.randn(3, 4, 6, 6)
    x[1, 2, 3, 4] = torch.nan
    check(QLinear(6, 5, input_quantization=quantizer(), weight_quantization=WeightDoReFa(2)), x)
    layer = QConv2d(4, 6, 3, padding=1, bias=True, input_quantization=quantizer(), weight_quantization=Sign())
    packed = check(randomized(layer, 4), x)
    layer.input_quantization.to(torch.float16)
    assert all(p.dtype == torch.float32 for p in packed.parameters())  # nothing is shared with the layer


def test_custom_weight_quantizers() -> None:
    layer = QLinear(9, 5, input_quantization=InputDoReFa(3), weight_quantization=Grid(5, unsigned=False))
    assert "weight_bits=3" in repr(check(randomized(layer, 2), torch.rand(4, 9)))
    layer = QLinear(9, 5, input_quantization=Grid(200, unsigned=True), weight_quantization=Grid(201, unsigned=False))
    check(randomized(layer, 3), torch.randn(4, 9) * 20, torch.randn(4, 9).double() * 20, torch.randn(4, 9).half())


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_borders_of_every_level(bits: int) -> None:
    levels = 2**bits - 1
    for code in range(0, levels + 1, 1 + levels // 20):
        for padding in (1, "same"):
            layer = QConv2d(2, 3, 2, padding=padding, pad_value=code / levels, **paper(2, bits))
            check(layer, torch.rand(1, 2, 3, 3))


def test_memory_order() -> None:
    layer = QConv2d(4, 6, 3, padding=1, **paper(1, 2)).eval()
    packed = PackedConv2d(layer)
    x = torch.rand(2, 4, 5, 7)
    assert packed(x).is_contiguous()
    assert packed(x.to(memory_format=torch.channels_last)).is_contiguous(memory_format=torch.channels_last)


def test_result_has_no_gradient() -> None:
    layer = QLinear(6, 4, **paper(1, 2)).eval()
    x = torch.rand(3, 6, requires_grad=True)
    assert layer(x).requires_grad
    assert not PackedLinear(layer)(x).requires_grad
    padded = QConv2d(2, 3, 3, padding=1).eval()
    assert not PackedConv2d(padded)(torch.rand(1, 2, 4, 4, requires_grad=True)).requires_grad
    custom = QLinear(6, 4, input_quantization=StepSize(), weight_quantization=Sign()).eval()
    assert not PackedLinear(custom)(x).requires_grad


def test_autocast() -> None:
    layer = QConv2d(4, 6, 3, padding=1, **paper(1, 2)).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check(layer, torch.rand(2, 4, 5, 5), torch.rand(2, 4, 5, 5).bfloat16())


def test_dtype_of_the_model_is_that_of_the_result() -> None:
    layer = QLinear(16, 4, **paper(1, 2)).eval()
    packed = PackedLinear(layer)
    x = torch.rand(3, 16)
    y = packed(x)
    assert packed.to(torch.bfloat16) is packed
    assert torch.equal(packed(x), y.bfloat16())
    assert packed.scale.dtype == torch.float32
    assert torch.equal(packed.float()(x), y)
    assert packed.to("meta")(x.to("meta")).shape == (3, 4)


# Models


def conv_net() -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        QConv2d(8, 8, 3, padding=1, gradient_quantization=GradientDoReFa(6), **paper(1, 2)),
        nn.BatchNorm2d(8),
        QConv2d(8, 8, 3, padding="same", stride=1, bias=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        QLinear(32, 4, **paper(4, 3)),
    )
    return net.eval()


class Block(nn.Module):
    """Attention of low-bit projections, and a hidden layer that is skipped where its input is small."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        x = x + self.out(attended)
        if x.abs().mean() > 0.1:  # depends on data: no graph can hold it
            x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return x


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 16)
        self.blocks = nn.ModuleList(Block(16, 2) for _ in range(2))
        self.recurrent = nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, 11)

    def forward(self, tokens: Tensor, blocks: int = 2) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks[:blocks]:
            x = block(x)
        scores: Tensor = self.head(self.recurrent(x)[0])
        return scores


def test_model_with_attention_and_control_flow() -> None:
    torch.manual_seed(2)
    model = Transformer()
    quantize_(model, LowBitConfig(2, 4, 32))
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    deployed = pack_layers(model)
    low_bit = [module for module in model.modules() if isinstance(module, LowBit)]
    assert len(low_bit) == 10  # the embedding is the first layer
    assert sum(isinstance(module, PackedLinear) for module in deployed.model.modules()) == 10
    assert not any(isinstance(module, LowBit) for module in deployed.model.modules())
    with torch.no_grad():
        for length, blocks in ((5, 2), (9, 1), (1, 2)):
            tokens = torch.randint(11, (3, length))
            assert_same(deployed.model(tokens, blocks), model(tokens, blocks))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    lines = str(deployed).splitlines()
    assert lines[0].split() == ["layer", "was", "is", "bits", "reason"]
    assert [line.split() for line in lines if line.startswith("blocks.1.up")] == [
        ["blocks.1.up", "QLinear", "PackedLinear", "W2A4"]
    ]
    assert (
        next(line for line in lines if line.startswith("recurrent"))
        .split(maxsplit=2)[2]
        .endswith("its matrices have rows of their own")
    )


def test_reference_that_is_no_submodule_is_replaced_too() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = QLinear(4, 4, **paper(1, 1))
            self.again = nn.ModuleDict({"same": self.layer})
            self.plain = [self.layer]

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.plain[0](self.again["same"](x) + self.layer(x))
            return y

    model = Holder().eval()
    result = pack_layers(model)
    deployed = result.model
    assert isinstance(deployed, Holder)
    assert type(deployed.layer) is PackedLinear  # type: ignore[comparison-overlap]
    assert deployed.again["same"] is deployed.layer
    assert deployed.plain[0] is deployed.layer
    assert type(model.plain[0]) is QLinear
    assert len(result.rows) == 1
    x = torch.rand(2, 4)
    with torch.no_grad():
        assert_same(deployed(x), model(x))


def test_a_model_that_is_a_layer() -> None:
    assert type(pack_layers(QLinear(4, 2, **paper(1, 1)).eval()).model) is PackedLinear


class Wider(QLinear):
    """A subclass."""


def wide() -> QLinear:
    """Just narrow enough for its own codes, but not for all of 8 bits."""
    return QLinear(50_000, 1, input_quantization=Grid(129, True), weight_quantization=Grid(255, False))


def hooked() -> QLinear:
    layer = QLinear(4, 4, **paper(1, 1))
    layer.register_forward_pre_hook(lambda module, inputs: None)
    return layer


def replaced() -> QLinear:
    layer = QLinear(4, 4, **paper(1, 1))
    layer.forward = lambda input: input  # type: ignore[method-assign]
    return layer


STAYING: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: QConv3d(2, 2, 2, **paper(1, 1)), "three dimensions"),
    (lambda: QConv2d_NoAct(2, 2, 2), "its input is not quantized"),
    (lambda: QLinear(4, 4, **paper(1, 32)), "has no fixed grid, so there are no codes"),
    (lambda: QLinear(4, 4, **paper(32, 2)), "its weight quantizer WeightDoReFa"),
    (lambda: QLinear(4, 4, exact=False, **paper(1, 1)), "exact=False"),
    (lambda: QLinear(4, 4, dtype=torch.float64, **paper(1, 1)), "float64"),
    (lambda: QLinear(4, 4, gradient_quantization=Sign(), **paper(1, 1)), "may change the result"),
    (lambda: QLinear(4, 4, input_quantization=WeightDoReFa(2)), "statistics of a whole tensor"),
    (lambda: QLinear(4, 4, input_quantization=Ternary()), "signed codes"),
    (
        lambda: QLinear(4, 4, weight_quantization=Ternary(), input_quantization=Sign()),
        "other codes than the odd integers",
    ),
    (
        lambda: QLinear(4, 4, weight_quantization=InputDoReFa(2), input_quantization=Sign()),
        "other codes than the odd integers",
    ),
    (lambda: QLinear(4, 4, weight_quantization=Grid(257, False), input_quantization=Sign()), "of 1 to 8 bits"),
    (lambda: QLinear(4, 4, input_quantization=Grid(256, True)), "codes up to 256"),
    (lambda: wide(), "could overflow"),
    (lambda: QConv2d(2, 2, 3, padding=1, pad_value=2.0, **paper(1, 2)), "beyond the levels"),
    (lambda: QConv2d(2, 2, 3, padding=1, pad_value=-1.0, **paper(1, 2)), "beyond the levels"),
    (lambda: Wider(4, 4, **paper(1, 1)), "a subclass"),
    (hooked, "forward hooks"),
    (replaced, "its forward was replaced"),
    (lambda: QLinear(4, 0, **paper(1, 1)), "its weight is empty"),
    (lambda: nn.Linear(4, 4), "a float layer"),
]


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op:UserWarning")
@pytest.mark.parametrize(("make", "reason"), STAYING, ids=[reason for _, reason in STAYING])
def test_layers_that_stay(make: Callable[[], nn.Module], reason: str) -> None:
    model = nn.Sequential(make(), QLinear(4, 4, **paper(1, 1))).eval()
    deployed = pack_layers(model)
    assert type(deployed.model[0]) is type(model[0])  # type: ignore[index]
    row = deployed.rows[0]
    assert (row.layer, row.became) == (type(model[0]).__name__, "as it was")
    assert reason in row.reason
    if isinstance(model[0], LowBit):
        with pytest.raises(ValueError, match=r"none of the model's low-bit layers can be packed \(0: "):
            pack_layers(model[:1].eval())


def test_layers_whose_weight_is_read_stay() -> None:
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder.linear1 = QLinear(8, 16, **paper(1, 1))
    deployed = pack_layers(nn.Sequential(encoder, QLinear(8, 8, **paper(1, 1))).eval())
    assert {row.name: row.reason for row in deployed.rows if row.bits} == {
        "0.linear1": "its parent reads the weight without calling it",
        "1": "",
    }


def test_refusals() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got int"):
        pack_layers(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"training mode .*; call model.eval\(\) first"):
        pack_layers(conv_net().train())
    with pytest.raises(ValueError, match="no low-bit layer"):
        pack_layers(nn.Sequential(nn.Linear(3, 3)).eval())
    net = conv_net()
    net[7].train()
    with pytest.raises(ValueError, match=r"the model is in training mode \(7, "):
        pack_layers(net)
    net = conv_net()
    with torch.no_grad():
        net[2].weight[1, 2, 0, 0] = torch.nan  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"layer '2': the weight holds NaN"):
        pack_layers(net)
    with pytest.raises(ValueError, match=r"layer '2': the weight is on meta, but packed layers run on CPUs"):
        pack_layers(conv_net().to("meta"))
    with pytest.raises(ValueError, match="PackedConv2d packs a QConv2d, not a QConv1d"):
        PackedConv2d(QConv1d(1, 1, 1).eval())  # type: ignore[arg-type]


def test_wrong_inputs() -> None:
    linear = PackedLinear(QLinear(4, 2, **paper(1, 1)).eval())
    conv = PackedConv2d(QConv2d(2, 2, 3, **paper(1, 1)).eval())
    with pytest.raises(ValueError, match=r"PackedLinear: the input must have the shape \[..., 4\], got \(2, 5\)"):
        linear(torch.rand(2, 5))
    with pytest.raises(TypeError, match=r"must be a floating-point tensor, got torch.int64; use .float\(\)"):
        linear(torch.ones(2, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"must have the shape \[batch, 2, height, width\].*got \(1, 3, 4, 4\)"):
        conv(torch.rand(1, 3, 4, 4))
    with pytest.raises(
        ValueError, match="the image of 5 by 2 pixels, with its padding, is smaller than the kernel: 2 < 3"
    ):
        conv(torch.rand(1, 2, 5, 2))
    with torch._subclasses.FakeTensorMode():
        on_gpu = torch.empty(2, 4, device="cuda")
    with pytest.raises(ValueError, match=r"PackedLinear runs on CPUs.*is on cuda:0; use .cpu\(\)"):
        linear(on_gpu)


# What PyTorch does with modules


def clones(module: nn.Module) -> Iterator[nn.Module]:
    yield copy.deepcopy(module)
    yield pickle.loads(pickle.dumps(module))
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    yield torch.load(file, weights_only=False)


def test_copies() -> None:
    net = conv_net()
    deployed = pack_layers(net).model
    x = torch.rand(2, 3, 6, 6)
    with torch.no_grad():
        y = net(x)
    for when in ("before the first call", "after it"):
        for clone in clones(deployed):
            assert_same(clone(x).detach(), y)
            assert str(clone) == str(deployed), when
        assert_same(deployed(x).detach(), y)


def test_state_dict_reaches_the_programs() -> None:
    torch.manual_seed(3)
    first, second = (QConv2d(4, 4, 3, bias=True, **paper(1, 2)).eval() for _ in range(2))
    nn.init.normal_(second.bias)  # type: ignore[arg-type]
    one, two = PackedConv2d(first), PackedConv2d(second)
    x = torch.rand(2, 4, 6, 6)
    assert not torch.equal(one(x), two(x))
    state = two.state_dict()
    assert {name: value.dtype for name, value in state.items()} == {
        "packed_weight": torch.uint8,
        "scale": torch.float32,
        "bias": torch.float32,
    }
    one.load_state_dict(state)
    assert_same(one(x), second(x).detach())
    other = torch.func.functional_call(one, PackedConv2d(first).state_dict(), (x,))
    assert_same(other, first(x).detach())
    one.load_state_dict(PackedConv2d(first).state_dict(), assign=True)
    assert_same(one(x), first(x).detach())


def test_weight_that_is_written_to() -> None:
    """Scale and bias stay, so only the weight itself can tell."""
    first, second = (QLinear(8, 4, bias=False, **paper(2, 2)).eval() for _ in range(2))
    one, two = PackedLinear(first), PackedLinear(second)
    assert torch.equal(one.scale, two.scale)
    x = torch.rand(2, 8)
    assert not torch.equal(one(x), two(x))
    one.packed_weight.copy_(two.packed_weight)
    assert_same(one(x), two(x))
    one.scale.mul_(2)
    assert_same(one(x), 2 * two(x))
    conv = PackedConv2d(QConv2d(2, 3, 3, **paper(2, 2)).eval())
    image = torch.rand(1, 2, 4, 4)
    y = conv(image)
    conv.scale.mul_(4)
    assert_same(conv(image), 4 * y)
    one.scale.div_(2)
    one.packed_weight.data = PackedLinear(first).packed_weight
    assert_same(one(x), first(x).detach())


def test_inference_mode() -> None:
    net = conv_net()
    with torch.inference_mode():
        x = torch.rand(2, 3, 6, 6)
        y = net(x)
        deployed = pack_layers(net).model
        assert_same(deployed(x), y)
        clone = copy.deepcopy(deployed)
        assert clone[2].packed_weight.is_inference()  # type: ignore[index]
        for _ in range(2):
            assert_same(clone(x), y)
        clone[2].packed_weight.zero_()  # type: ignore[index]
        assert not torch.equal(clone(x), y)  # such a tensor has no version, but the write is seen


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The programs that are made, as weak references."""
    programs: list[Any] = []
    make = torch_ops._make_program

    def record(*arguments: Any) -> Any:
        program = make(*arguments)
        programs.append(weakref.ref(program))
        return program

    monkeypatch.setattr(torch_ops, "_make_program", record)
    return programs


@pytest.fixture
def collected_quickly() -> Iterator[None]:
    """Let the collector pass over all that other tests of this process have left: it would take half a minute."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("collected_quickly")
def test_programs_are_made_once_and_freed(made: list[Any]) -> None:
    packed = PackedConv2d(QConv2d(2, 2, 3, **paper(1, 1)).eval())
    for size in (5, 6, 5, 6, 5):
        packed(torch.rand(2, 2, size, size))
        packed(torch.rand(3, 2, size, size))
    assert len(made) == 2
    for size in range(7, 7 + packed_programs.KEPT_PROGRAMS):
        packed(torch.rand(1, 2, size, size))
    assert len(made) == 2 + packed_programs.KEPT_PROGRAMS
    gc.collect()
    assert [program() is None for program in made[:3]] == [True, True, False]
    del packed
    gc.collect()
    assert all(program() is None for program in made)


def test_threads(made: list[Any]) -> None:
    layer = QConv2d(8, 8, 3, padding=1, **paper(1, 2)).eval()
    packed = PackedConv2d(layer)
    images = [torch.rand(1, 8, 5 + i % 3, 6) for i in range(60)]
    with torch.no_grad():
        expected = [layer(x) for x in images]
    with ThreadPoolExecutor(8) as pool:
        for y, want in zip(pool.map(packed, images), expected, strict=True):
            assert_same(y, want)
    assert len(made) == 3


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile(backend: str, made: list[Any]) -> None:
    deployed = pack_layers(conv_net()[2:].eval()).model
    compiled = torch.compile(deployed, fullgraph=True, backend=backend, dynamic=backend == "aot_eager")
    with torch.no_grad():
        for batch in (2, 2, 3):
            x = torch.rand(batch, 8, 6, 6)
            y = deployed(x)
            count = len(made)
            torch.testing.assert_close(compiled(x), y, rtol=1e-5, atol=1e-5)  # fused batch norms round otherwise
            assert len(made) == count  # compiled code finds the programs of eager code
    x = torch.rand(2, 8, 6, 6).to(memory_format=torch.channels_last)
    torch.testing.assert_close(compiled(x), deployed(x), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("fresh_dynamo")
def test_compiled_layers_are_exact() -> None:
    torch.manual_seed(4)
    layers: list[tuple[LowBit, tuple[int, ...]]] = [
        (QLinear(12, 5, **paper(1, 2)), (3, 2, 12)),
        (QLinear(12, 5, input_quantization=StepSize(), weight_quantization=Sign()), (12,)),
        (QConv1d(4, 6, 3, padding="same"), (2, 4, 9)),
        (QConv2d(4, 6, 3, padding=1, padding_mode="reflect", dtype=torch.bfloat16, **paper(3, 3)), (4, 7, 7)),
    ]
    packed = [pack_layers(layer.eval()).model for layer, _ in layers]
    inputs = [torch.randn(shape) for _, shape in layers]

    @torch.compile(fullgraph=True, backend="aot_eager")
    def run(inputs: list[Tensor]) -> list[Tensor]:
        return [layer(x) for layer, x in zip(packed, inputs, strict=True)]

    for y, (layer, _), x in zip(run([x.requires_grad_() for x in inputs]), layers, inputs, strict=True):
        assert not y.requires_grad
        assert_same(y, layer(x).detach())


_LOADS = """
import sys
import torch
import bitorch.operators.packed

x, expected = torch.load("x.pt")
loaded = torch.export.load("net.pt2").module()
assert torch.equal(loaded(x), expected)
assert not any(name.startswith("bitorch.deployment") for name in sys.modules)
"""


@pytest.mark.usefixtures("fresh_dynamo")
def test_the_operators_alone_load_an_exported_program(tmp_path: Path) -> None:
    net, x = conv_net(), torch.rand(2, 3, 6, 6)
    torch.export.save(torch.export.export(pack_layers(net).model, (x,)), tmp_path / "net.pt2")
    torch.save((x, net(x).detach()), tmp_path / "x.pt")
    subprocess.run([sys.executable, "-c", _LOADS], cwd=tmp_path, check=True)


@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
def test_export(strict: bool) -> None:
    net = conv_net()
    deployed = pack_layers(net).model
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(deployed, (torch.rand(3, 3, 6, 6),), dynamic_shapes=({0: batch},), strict=strict)
    names = [str(node.target) for node in program.graph.nodes]
    assert names.count("bitorch.packed_conv2d.default") == 2
    assert names.count("bitorch.packed_linear.default") == 1
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    with torch.no_grad():
        for size in (3, 1, 8):
            x = torch.rand(size, 3, 6, 6)
            assert_same(program.module()(x), net(x))
            assert_same(loaded(x), net(x))


@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(requires_grad: bool) -> None:
    linear = PackedLinear(QLinear(12, 5, **paper(2, 3)).eval())
    conv = PackedConv2d(QConv2d(4, 6, (3, 2), groups=2, **paper(1, 1)).eval())
    x = torch.rand(3, 12, requires_grad=requires_grad)
    torch.library.opcheck(
        torch.ops.bitorch.packed_linear.default, (x, linear.packed_weight, linear.scale, linear.bias, 2, 3, "unit")
    )
    for channels_last in (False, True):
        shape = (2, 7, 6, 4) if channels_last else (2, 4, 7, 6)
        geometry = ((3, 2), (2, 1), (1, 0, 2, 1), (1, 2), 2, 1, 1, "sign", channels_last)
        image = torch.rand(shape, requires_grad=requires_grad)
        torch.library.opcheck(
            torch.ops.bitorch.packed_conv2d.default, (image, conv.packed_weight, conv.scale, None, *geometry)
        )


def test_operator_arguments_are_checked() -> None:
    packed = PackedLinear(QLinear(12, 5, **paper(2, 3)).eval())
    good: dict[str, Any] = {
        "x": torch.rand(3, 12),
        "weight": packed.packed_weight,
        "scale": packed.scale,
        "bias": packed.bias,
        "weight_bits": 2,
        "activation_bits": 3,
        "quantizer": "unit",
    }
    tensors = [name for name, value in good.items() if isinstance(value, Tensor)]
    torch_ops.packed_linear(**good)
    wrong: list[tuple[str, Any, str]] = [
        ("x", torch.rand(3, 16), "a row of weight holds 3 bytes, but 16 weights of 2 bits are 4"),
        ("x", torch.rand(3, 12).double(), "x must be float32, got torch.float64"),
        ("x", torch.rand(()), "but is 0-dim"),
        ("weight", packed.packed_weight.float(), "weight must be uint8"),
        ("scale", torch.ones(4), r"scale must be float32, 0-dim or \[\d+\]"),
        ("bias", torch.ones(4), r"bias must be float32 \[5\]"),
        ("weight_bits", 9, "weight_bits must be 1 to 8, got 9"),
        ("quantizer", "round", "quantizer must be one of 'unit', 'sign', 'heaviside', 'rows', got 'round'"),
        ("quantizer", "sign", "needs activation_bits=1, got 3"),
        ("zero_point", 8, "zero_point must be 0 to 7 with quantizer='unit' and activation_bits=3, got 8"),
        ("zero_point", -1, "zero_point must be 0 to 7 .* got -1"),
        ("weight_grid", "even", "weight_grid must be one of 'odd', 'signed', got 'even'"),
    ]
    for name, value, message in wrong:
        for device in ("cpu", "meta"):
            arguments: dict[str, Any] = {**good, name: value}
            with pytest.raises(ValueError, match=message):
                torch_ops.packed_linear(**{k: v.to(device) if k in tensors else v for k, v in arguments.items()})


def test_signs_have_no_zero_point() -> None:
    packed = PackedLinear(QLinear(12, 5, **paper(1, 1)).eval())
    with pytest.raises(ValueError, match="zero_point must be 0 to 0 with quantizer='sign'"):
        torch_ops.packed_linear(torch.rand(3, 12), packed.packed_weight, packed.scale, None, 1, 1, "sign", 1)


def signed_weight(weight_bits: int, *shape: int) -> tuple[Tensor, Tensor]:
    """Random codes of the signed grid, and the same packed."""
    half = 2 ** (weight_bits - 1)
    codes = torch.randint(-half, half, shape)
    return codes, torch.from_numpy(bitorch_runtime.pack_weights(codes.numpy(), weight_bits, grid="signed"))


@pytest.mark.parametrize(
    ("weight_bits", "activation_bits", "zero_point"), [(2, 2, 1), (4, 4, 15), (8, 8, 128), (2, 1, 0)]
)
def test_signed_codes_and_zero_points(weight_bits: int, activation_bits: int, zero_point: int) -> None:
    torch.manual_seed(0)
    n = 2**activation_bits - 1
    bits, meaning = (weight_bits, activation_bits, "unit"), (zero_point, "signed")
    scale, bias = torch.tensor(0.37), torch.rand(6)
    codes, packed = signed_weight(weight_bits, 6, 12)
    q = torch.randint(0, n + 1, (3, 12))
    sums = (q - zero_point) @ codes.T
    y = torch_ops.packed_linear(q / n, packed, scale, bias, *bits, *meaning)
    assert torch.equal(y, sums.float() * scale + bias)
    codes, packed = signed_weight(weight_bits, 6, 2, 3, 2)
    image = torch.randint(0, n + 1, (3, 4, 7, 6))
    values = F.pad((image - zero_point).double(), (0, 1, 1, 2))  # left, right, top, bottom
    sums = F.conv2d(values, codes.double(), None, (2, 1), 0, (1, 2), 2)
    geometry = ((3, 2), (2, 1), (1, 0, 2, 1), (1, 2), 2)
    for channels_last in (False, True):
        x = image.permute(0, 2, 3, 1) if channels_last else image
        y = torch_ops.packed_conv2d(x / n, packed, scale, bias, *geometry, *bits, channels_last, *meaning)
        expected = sums.float() * scale + bias.view(-1, 1, 1)
        assert torch.equal(y, expected.permute(0, 2, 3, 1) if channels_last else expected)


@pytest.mark.usefixtures("fresh_dynamo")
def test_operators_with_a_zero_point_are_operators_like_any_other() -> None:
    _, packed = signed_weight(2, 6, 12)
    linear = (torch.rand(3, 12), packed, torch.tensor(0.5), None, 2, 3, "unit", 3, "signed")
    torch.library.opcheck(torch.ops.bitorch.packed_linear.default, linear)
    _, packed = signed_weight(2, 6, 2, 3, 2)
    geometry = ((3, 2), (2, 1), (1, 0, 2, 1), (1, 2), 2, 2, 3, "unit", False, 3, "signed")
    conv = (torch.rand(2, 4, 7, 6), packed, torch.tensor(0.5), None, *geometry)
    torch.library.opcheck(torch.ops.bitorch.packed_conv2d.default, conv)


def test_geometry_is_checked() -> None:
    packed = PackedConv2d(QConv2d(4, 6, 3, **paper(1, 1)).eval())
    good: dict[str, Any] = {
        "x": torch.rand(1, 4, 5, 5),
        "weight": packed.packed_weight,
        "scale": packed.scale,
        "bias": None,
        "kernel_size": (3, 3),
        "stride": (1, 1),
        "padding": (0, 0, 0, 0),
        "dilation": (1, 1),
        "groups": 1,
        "weight_bits": 1,
        "activation_bits": 1,
        "quantizer": "unit",
        "channels_last": False,
    }
    y = torch_ops.packed_conv2d(**good)
    assert y.shape == (1, 6, 3, 3)
    assert torch.equal(torch_ops.packed_conv2d(**{**good, "stride": (1, 2)}), y[..., ::2])  # with the same weight
    wrong: list[tuple[str, Any, str]] = [
        ("stride", (1, 0), r"stride must be at least 1, got \(1, 0\)"),
        ("padding", (0, -1, 0, 0), "padding must be at least 0"),
        ("groups", 3, "groups=3 must divide the 4 input and the 6 output channels"),
        ("groups", 2, "a row of weight holds 5 bytes, but 18 weights of 1 bits are 3"),
        ("dilation", (1, 3), "smaller than the kernel: 5 < 7"),
        ("x", torch.rand(4, 5, 5), "x must have 4 dimensions"),
    ]
    for name, value, message in wrong:
        with pytest.raises(ValueError, match=message):
            torch_ops.packed_conv2d(**{**good, name: value})


def test_exported_models_make_programs_once(made: list[Any]) -> None:
    deployed = pack_layers(conv_net()).model
    x = torch.rand(2, 3, 6, 6)
    file = io.BytesIO()
    torch.export.save(torch.export.export(deployed, (x,)), file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for _ in range(3):
        loaded(x)
    assert len(made) == 3


def test_without_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = QLinear(4, 2, **paper(1, 1)).eval()
    packed = PackedLinear(layer)
    monkeypatch.setitem(sys.modules, "bitorch_runtime", None)
    for call in (lambda: pack_layers(layer), lambda: PackedLinear(layer), lambda: packed(torch.rand(1, 4))):
        with pytest.raises(ImportError, match=r"bitorch_runtime, which is not installed.*pip install ./runtime"):
            call()


def test_import_needs_no_runtime() -> None:
    program = "import sys; sys.modules['bitorch_runtime'] = None; import bitorch.deployment.partial.pack_layers"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_weights_are_in_canonical_order() -> None:
    """A packed weight is in the runtime's canonical order, so other tools can read it from a state_dict."""
    layer = QConv2d(3, 4, 2, **paper(3, 2)).eval()
    packed = PackedConv2d(layer)
    codes = bitorch_runtime.unpack_weights(packed.packed_weight.numpy(), 3, layer.weight.shape)
    assert torch.equal(torch.from_numpy(codes), layer.weight_codes())


METHODS: list[dict[str, Any]] = [
    {"range": "learned"},
    {"range": "learned", "learned_by": "lsq+", "weight_scale": "channel"},
    {"range": "learned", "learned_by": "pact"},
    {"range": "calibrated", "weight_scale": "channel"},
    {"weights": "twn", "weight_scale": "channel"},
    {"weights": "absmean"},
    {"weights": "seq", "weight_scale": "channel"},
    {"weight_scale": "channel"},
]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_every_method_is_packed_bit_for_bit(method: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, bias=True),
        nn.Conv2d(6, 9, 3, padding=2, stride=2),
        nn.Flatten(),
        nn.Linear(144, 7),
    )
    quantize_(model, LowBitConfig(2, 3, first="same", last="same", **method))
    x = torch.randn(3, 4, 6, 6)
    if "range" in method:
        calibrate(model, [torch.randn(16, 4, 6, 6)])
    model.eval()
    packed = deploy(model, x, partial=True)
    assert [row.became for row in packed.rows] == ["PackedConv2d", "PackedConv2d", "PackedLinear"]
    assert torch.equal(packed.model(x), model(x))
