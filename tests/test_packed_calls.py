"""Calls of packed layers with ranges: in one program, without PyTorch's dispatcher, and never with old numbers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from bitorch import LowBitConfig, quantize_
from bitorch.deployment.partial.pack_layers import pack_layers
from bitorch.deployment.partial.packed_layers import PackedConv1d, PackedConv2d, PackedLinear
from bitorch.layers import QConv1d, QConv2d, QLinear
from bitorch.operators import packed as operators
from bitorch.quantizations import (
    InputCalibrated,
    InputDoReFa,
    InputLSQ,
    InputPACT,
    Quantization,
    RangeQuantization,
    RSign,
    WeightDoReFa,
    WeightLSQ,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:.torch\.jit\.\w+. is deprecated:DeprecationWarning"),
]

Range = Callable[[int], RangeQuantization]
RANGES: dict[str, Range] = {
    "calibrated": InputCalibrated,
    "pact": InputPACT,
    "lsq": InputLSQ,
    "lsq+": lambda bits: InputLSQ(bits, offset=True),
}
SPECIAL = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, torch.inf, -torch.inf, 1.0, -1.0])


def fitted(quantizer: RangeQuantization, seed: int = 0, width: float = 2.0) -> RangeQuantization:
    quantizer.fit_(torch.randn(500, generator=torch.Generator().manual_seed(seed)) * width + 0.3)
    return quantizer


def around_steps(quantizer: Quantization, *shape: int) -> Tensor:
    """Numbers at every step of the codes, on both sides of it, and special ones."""
    arithmetic = quantizer.arithmetic()
    assert arithmetic is not None
    steps = arithmetic.steps().flatten()
    steps = steps[steps.isfinite()]
    near = [steps.nextafter(torch.tensor(to)) for to in (-torch.inf, torch.inf)]
    pool = torch.cat([steps, *near, SPECIAL, torch.randn(64)])
    x = pool[torch.randint(len(pool), shape)]
    x.view(-1)[: len(pool)] = pool[: x.numel()]
    return x


def assert_same(packed: nn.Module, layer: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        expected = layer(x)
    for _ in ("made", "found"):
        torch.testing.assert_close(packed(x), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("name", RANGES)
def test_ranges_are_exact_at_every_step(name: str, bits: int) -> None:
    torch.manual_seed(bits)
    quantizer = fitted(RANGES[name](bits))
    linear = QLinear(24, 7, input_quantization=quantizer, weight_quantization=WeightDoReFa(2)).eval()
    packed = PackedLinear(linear)
    assert packed.input_range is not None  # else PyTorch quantized
    x = around_steps(quantizer, 3, 40, 24)
    assert_same(packed, linear, x)
    assert_same(packed, linear, x[0, 0])
    x[1, 3, 5] = torch.nan
    assert_same(packed, linear, x)
    conv = QConv2d(6, 4, 3, padding=1, input_quantization=quantizer, weight_quantization=WeightLSQ(3)).eval()
    image = around_steps(quantizer, 2, 6, 9, 8)
    for given in (image, image.to(memory_format=torch.channels_last), image[:1], image[0]):
        assert_same(PackedConv2d(conv), conv, given)
    image[1, 2, 4, 4] = torch.nan
    assert_same(PackedConv2d(conv), conv, image)
    signal = QConv1d(6, 4, 3, padding=1, groups=2, input_quantization=quantizer).eval()
    assert_same(PackedConv1d(signal), signal, image[:, :, 0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = QLinear(24, 7, input_quantization=fitted(InputLSQ(4)), weight_quantization=WeightDoReFa(2)).eval()
    packed = PackedLinear(layer)
    assert_same(packed, layer, torch.randn(5, 24).to(dtype))
    small = pack_layers(copy.deepcopy(layer).to(torch.bfloat16)).model
    assert_same(small, copy.deepcopy(layer).to(torch.bfloat16), torch.randn(5, 24))
    if dtype != torch.float64:
        packed.to(dtype)
        assert packed.input_range is not None
        assert packed.input_range.dtype == torch.float32


def test_shifts_of_channels() -> None:
    torch.manual_seed(0)
    conv = QConv2d(6, 4, 3, padding=1, input_quantization=RSign(6, 2), pad_value=1).eval()
    linear = QLinear(6, 4, input_quantization=RSign(6, 0)).eval()
    for layer in (conv, linear):
        quantizer = layer.input_quantization
        assert isinstance(quantizer, RSign)
        nn.init.normal_(quantizer.shift)
    valid = QConv2d(6, 4, 3, input_quantization=conv.input_quantization).eval()
    assert PackedConv2d(conv).input_range is None  # whose borders lie in front of the shift
    for packed in (PackedConv2d(valid), PackedLinear(linear)):
        assert packed.input_range is not None
        assert packed.input_range.shape == (2, 6)
    assert_same(PackedConv2d(conv), conv, torch.randn(2, 6, 5, 5))
    assert_same(PackedConv2d(valid), valid, torch.randn(2, 6, 6, 6))  # as many rows as channels
    assert_same(PackedLinear(linear), linear, torch.randn(2, 3, 6))


class WithoutNaN(InputDoReFa):
    """Makes the lowest code of NaN."""

    def codes(self, x: Tensor) -> Tensor:
        return super().codes(x).nan_to_num(nan=0.0)

    def quantize(self, x: Tensor) -> Tensor:
        return self.codes(x) / 3


def test_quantizers_that_take_nan_for_a_number() -> None:
    layer = QLinear(4, 3, input_quantization=WithoutNaN(2)).eval()
    x = torch.rand(3, 4)
    x[1, 2] = torch.nan
    assert not layer(x).isnan().any()
    assert_same(PackedLinear(layer), layer, x)


def pair(seed: int, bits: int = 4) -> tuple[QLinear, PackedLinear]:
    torch.manual_seed(seed)
    layer = QLinear(
        8, 5, input_quantization=fitted(InputLSQ(bits), seed, 1.0 + seed), weight_quantization=WeightDoReFa(2)
    ).eval()
    return layer, PackedLinear(layer)


def test_another_state_reaches_the_next_call() -> None:
    (first, packed), (second, other) = pair(0), pair(1)
    x = torch.randn(3, 8)
    assert_same(packed, first, x)
    state = other.state_dict()
    called = torch.func.functional_call(packed, state, (x,))
    assert torch.equal(called, second(x).detach())
    assert_same(packed, first, x)
    packed.load_state_dict(state)
    assert_same(packed, second, x)
    packed.load_state_dict(PackedLinear(first).state_dict(), assign=True)
    assert_same(packed, first, x)
    packed.input_quantization.step.data.mul_(1)  # type: ignore[operator]
    with torch.no_grad():
        for layer in (packed, first):
            layer.input_quantization.step.mul_(1.5)  # type: ignore[operator]
    packed.scale.mul_(1.5)
    torch.testing.assert_close(packed(x), first(x).detach())


def test_what_is_written_past_the_counters_is_seen() -> None:
    layer, packed = pair(0)
    x = torch.randn(2, 8)
    y = packed(x)
    assert packed.bias is not None
    packed.bias.data.add_(1)
    packed.scale.data.mul_(2)
    torch.testing.assert_close(packed(x), 2 * (y - layer.bias) + layer.bias + 1)
    packed.bias = None
    torch.testing.assert_close(packed(x), 2 * (y - layer.bias))


def test_a_weight_that_another_way_has_seen_first() -> None:
    _, packed = pair(0)
    _, other = pair(1)
    x = torch.randn(2, 8)
    y = packed(x)
    packed.packed_weight.copy_(other.packed_weight)
    with torch.profiler.profile():  # goes by PyTorch's dispatcher
        seen = packed(x)
    assert not torch.equal(seen, y)
    assert torch.equal(packed(x), seen)


def test_what_inference_mode_has_made_has_no_counters_and_is_seen_all_the_same() -> None:
    layer, _ = pair(0)
    x = torch.randn(3, 8)
    with torch.inference_mode():
        packed = pack_layers(copy.deepcopy(layer)).model
        clone = copy.deepcopy(packed)
        step: Any = cast(Any, clone).input_quantization.step
        assert step.is_inference()
        y = clone(x)
        assert torch.equal(y, packed(x))
        step.mul_(1.5)
        changed = clone(x)
        assert not torch.equal(changed, y)
        step.div_(1.5)
        assert torch.equal(clone(x), y)


def test_attributes_that_change_are_those_of_the_next_call() -> None:
    layer = QConv2d(2, 3, 1, input_quantization=InputDoReFa(2), weight_quantization=WeightDoReFa(2)).eval()
    packed = PackedConv2d(layer)
    x = torch.rand(1, 2, 4, 4)
    y = packed(x)
    packed.stride = (2, 1)
    assert torch.equal(packed(x), y[:, :, ::2])


def test_orders_of_equal_shapes_are_told_apart() -> None:
    layer = QConv2d(4, 4, 3, padding=1, input_quantization=fitted(InputLSQ(2))).eval()
    packed, x = PackedConv2d(layer), torch.randn(2, 4, 4, 4)
    for given in (x, x.to(memory_format=torch.channels_last)) * 2:
        assert_same(packed, layer, given)


def test_copies_have_calls_of_their_own() -> None:
    layer, packed = pair(0)
    x = torch.randn(2, 8)
    assert_same(packed, layer, x)
    for clone in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed)), copy.copy(packed)):
        assert_same(clone, layer, x)
    clone = copy.deepcopy(packed)
    clone.scale.mul_(2)
    assert not torch.equal(clone(x), packed(x))
    assert_same(packed, layer, x)


def test_threads_share_a_layer() -> None:
    layer, packed = pair(0)
    inputs = [torch.randn(1 + i % 3, 8) for i in range(200)]
    with torch.no_grad():
        expected = [layer(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        assert all(map(torch.equal, pool.map(packed, inputs), expected))


@pytest.mark.filterwarnings("ignore:bitwidth is deprecated:DeprecationWarning")  # torch.jit asks for all names
@pytest.mark.filterwarnings(r"ignore:.*torch\.jit\..* is (deprecated|not supported):DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_whoever_looks_sees_the_operator() -> None:
    layer, packed = pair(0)
    x = torch.randn(3, 8)
    assert_same(packed, layer, x)
    with torch.profiler.profile() as profile:
        packed(x)
    assert "bitorch::packed_linear" in {row.key for row in profile.key_averages()}
    traced = torch.fx.experimental.proxy_tensor.make_fx(packed)(x)
    assert "packed_linear" in traced.code
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = packed(mode.from_tensor(x))
        assert isinstance(fake, torch._subclasses.FakeTensor)
        assert fake.shape == (3, 5)
    assert packed(x.to("meta")).device.type == "meta"
    scripted = torch.jit.trace(packed.forward, (x,))
    assert torch.equal(scripted(2 * x), packed(2 * x))


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_compiled_and_exported_layers_have_their_ranges(kind: str) -> None:
    torch.manual_seed(0)
    quantization: dict[str, Any] = {"input_quantization": fitted(InputLSQ(4)), "weight_quantization": WeightDoReFa(2)}
    layer: Any = QLinear(8, 5, **quantization) if kind == "linear" else QConv1d(8, 5, 3, **quantization)
    shape = (3, 2, 8) if kind == "linear" else (3, 8, 6)
    packed = pack_layers(layer.eval()).model
    x = torch.randn(shape)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(packed, fullgraph=True, backend="aot_eager")(x), layer(x).detach())
    exported = torch.export.export(packed, (x,)).module()
    assert torch.equal(exported(x), layer(x).detach())
    torch._dynamo.reset()


def test_operators_take_ranges_like_any_other_tensor() -> None:
    _, packed = pair(0)
    settings = (packed.weight_bits, packed.activation_bits, packed._kind, packed._zero_point, packed._weight_grid)
    arguments = (torch.randn(3, 8), packed.packed_weight, packed.scale, packed.bias, *settings, packed.input_range)
    torch.library.opcheck(torch.ops.bitorch.packed_linear.default, arguments)
    for wrong in (torch.ones(3), torch.ones(2, 7), torch.ones(2).double()):
        with pytest.raises(ValueError, match=r"input_range must be float32 \[2\] or \[2, 8\]"):
            operators.packed_linear(*arguments[:-1], wrong)


def test_an_empty_batch() -> None:
    _, packed = pair(0)
    assert packed(torch.randn(0, 8)).shape == (0, 5)
    assert packed(torch.randn(2, 0, 8)).shape == (2, 0, 5)


def attention(learned: bool) -> tuple[nn.MultiheadAttention, Any]:
    """A low-bit attention with projections of equal quantizers, and its packed copy."""
    torch.manual_seed(0)
    holder = nn.Sequential(nn.MultiheadAttention(16, 2, batch_first=True))
    more: dict[str, Any] = {"range": "learned", "learned_by": "lsq+"} if learned else {}
    quantize_(holder, LowBitConfig(2, 4, first="same", last="same", **more))
    low_bit: Any = holder[0]
    if learned:
        for part in low_bit.projections().values():
            fitted(part.input_quantization)
    return low_bit.eval(), pack_layers(holder.eval()).model[0]  # type: ignore[index]


def quantizers_together(packed: Any) -> int:
    made = packed.q_projection._together.made
    assert made is not None
    return sum(row["op"] in ("quantize", "affine") for row in made._program.program.operations())


@pytest.mark.parametrize("learned", [False, True])
def test_projections_of_one_input_quantize_it_once(learned: bool) -> None:
    layer, packed = attention(learned)
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        for given in (x, x[:, :1], x[0], x):
            for ours, expected in zip(packed(given, given, given), layer(given, given, given), strict=True):
                assert torch.equal(ours, expected)
        assert quantizers_together(packed) == 1
        x[1, 2, 3] = torch.nan
        torch.testing.assert_close(packed(x, x, x), layer(x, x, x), rtol=0, atol=0, equal_nan=True)
        x = torch.randn(2, 5, 16)
        other = torch.randn(2, 7, 16)
        assert torch.equal(packed(x, other, other)[0], layer(x, other, other)[0])


def test_projections_that_change_are_not_those_of_before() -> None:
    _, packed = attention(True)
    x = torch.randn(2, 5, 16)

    def one_by_one() -> Tensor:
        seen: list[Any] = []
        handle = packed.k_projection.register_forward_hook(lambda *_: seen.append(1))
        y: Tensor = packed(x, x, x)[0]
        handle.remove()
        assert seen == [1]  # whoever has a hook sees the layer called
        return y

    with torch.no_grad():
        y = packed(x, x, x)[0]
        assert torch.equal(y, one_by_one())
        changes: tuple[Callable[[], object], ...] = (
            lambda: packed.v_projection.packed_weight.copy_(packed.q_projection.packed_weight),
            lambda: packed.k_projection.scale.data.mul_(3),
            lambda: packed.v_projection.bias.data.add_(1),
            lambda: packed.q_projection.input_quantization.step.mul_(2),
        )
        for change in changes:
            change()
            changed = packed(x, x, x)[0]
            assert not torch.equal(changed, y)
            assert torch.equal(changed, one_by_one())
            y = changed
        assert quantizers_together(packed) == 2
        assert torch.equal(copy.deepcopy(packed)(x, x, x)[0], y)
        assert torch.equal(pickle.loads(pickle.dumps(packed))(x, x, x)[0], y)
