"""Linear layers of codes whose weight has a scale for each group of inputs: numbers, gradients, and values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bitorch import LowBitConfig, quantize_
from bitorch.layers import QConv2d, QLinear, QMultiheadAttention, group_sums
from bitorch.quantizations import (
    GradientSigned,
    InputDoReFa,
    InputDynamic,
    InputLSQ,
    Quantization,
    Sign,
    WeightAbsMax,
    WeightAbsMean,
    WeightTWN,
)

INPUTS: dict[str, Callable[[], Quantization]] = {
    "unit, 4 bits": lambda: InputDoReFa(4),
    "sign": Sign,
    "learned": lambda: InputLSQ(8),
    "learned, zero point": lambda: InputLSQ(4, offset=True),
    "rows": lambda: InputDynamic(8),
}
WEIGHTS: dict[str, Callable[[], Quantization]] = {
    **{f"{bits} bits": lambda bits=bits: WeightAbsMax(bits, group_size=32) for bits in range(1, 9)},  # type: ignore[misc]
    "groups of 1": lambda: WeightAbsMax(4, group_size=1),
    "groups of 3": lambda: WeightAbsMax(4, group_size=3),
    "one group": lambda: WeightAbsMax(4, group_size=96),
    "absmean": lambda: WeightAbsMean(group_size=32),
    "twn": lambda: WeightTWN(group_size=32),
}


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def layer(inputs: str, weights: str, *, bias: bool = True, gradient: Quantization | None = None) -> QLinear:
    torch.manual_seed(len(weights))
    made = QLinear(
        96, 20, bias=bias, input_quantization=INPUTS[inputs](), weight_quantization=WEIGHTS[weights](),
        gradient_quantization=gradient, gradient_cancellation_threshold=0.0,
    )  # fmt: skip
    if isinstance(made.input_quantization, InputLSQ):
        made.input_quantization.fit_(seeded(50, 96) + 0.3)
    return made


def oracle(made: QLinear, x: Tensor) -> NDArray[np.float32]:
    """The formula: integers in int64, then products and sums of float32, one group after the other."""
    q = made.input_quantization.codes(x).detach().numpy().astype(np.int64)
    step = made.input_quantization.scale(x).detach().numpy()
    c, scale = made.weight_codes().numpy().astype(np.int64), made.weight_scale().detach().numpy()
    size = made.weight_quantization.group_size
    assert isinstance(size, int)
    y: NDArray[np.float32] | None = None
    for first in range(0, c.shape[1], size):
        group = slice(first, first + size)
        of_group = scale[:, first] if step.ndim > 0 else step * scale[:, first]
        scaled = (q[..., group] @ c[:, group].T).astype(np.float32) * of_group
        y = scaled if y is None else y + scaled
    assert y is not None
    y = y * step if step.ndim > 0 else y
    if made.bias is None:
        return y
    bias: NDArray[np.float32] = made.bias.detach().numpy()
    return y + bias


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_forward(inputs: str, weights: str) -> None:
    for bias, shapes in ((True, [(2, 3, 96), (96,)]), (False, [(7, 96), (0, 96)])):
        made = layer(inputs, weights, bias=bias)
        for shape in shapes:
            x = seeded(*shape)
            expected = oracle(made, x)
            assert expected.dtype == np.float32
            assert np.array_equal(made.train()(x).detach().numpy(), expected)
            made.eval()
            for _ in range(2):  # the second one with codes that were kept
                assert np.array_equal(made(x).detach().numpy(), expected)


def test_many_rows_and_wide_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in parts, and sums of a group that float32 holds in digits alone."""
    monkeypatch.setattr(group_sums, "_SUMS_AT_ONCE", 20)
    weights, rows = WeightAbsMax(8, group_size=1200), InputDynamic(8)
    made = QLinear(2400, 10, input_quantization=rows, weight_quantization=weights)
    with torch.no_grad():
        made.weight.copy_(torch.linspace(0.95, 1, made.weight.numel()).reshape(10, 2400))
    x = 1 - seeded(5, 2400).abs() / 100
    assert float((rows.codes(x)[:1, :1200].double() @ made.weight_codes()[:, :1200].double().T).max()) > 2**24
    assert np.array_equal(made(x).detach().numpy(), oracle(made, x))
    too_wide = "allow at most 65793 inputs"
    with pytest.raises(ValueError, match=too_wide):
        QLinear(2**24, 1, input_quantization=InputDoReFa(8), weight_quantization=WeightAbsMax(8, group_size=2**22))


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("weights", ["4 bits", "1 bits", "groups of 3", "one group", "absmean"])
def test_gradients_are_those_of_the_values(inputs: str, weights: str) -> None:
    made, x, g = layer(inputs, weights), seeded(6, 96).requires_grad_(), seeded(6, 20)
    y = made(x)
    y.backward(g)
    of_values = made.weight.detach().clone().requires_grad_(True)
    again = x.detach().clone().requires_grad_(True)
    made.input_quantization.zero_grad()
    values = made.input_quantization(again).double() @ made.weight_quantization(of_values).double().T
    values.backward(g.double())
    torch.testing.assert_close(y.double(), values + made.bias, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad, again.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made.weight.grad, of_values.grad, rtol=1e-4, atol=1e-4)
    assert made.bias.grad is not None
    torch.testing.assert_close(made.bias.grad, g.sum(0))


@pytest.mark.parametrize("inputs", ["unit, 4 bits", "rows"])
def test_gradients_of_few_bits(inputs: str) -> None:
    """With codes of a gradient the products are those of its values."""
    quantizer = GradientSigned(8, noise=False)
    made, x, g = layer(inputs, "4 bits", gradient=quantizer), seeded(6, 96).requires_grad_(), seeded(6, 20)
    made(x).backward(g)
    coded = quantizer.coded(g)
    assert coded is not None
    value = (coded.codes * coded.step * coded.multiple).double()
    c, q = made.weight_quantization(made.weight).double().detach(), made.input_quantization(x).double().detach()
    torch.testing.assert_close(x.grad, (value @ c).float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.weight.grad, (value.T @ q).float(), rtol=1e-4, atol=1e-5)


def test_codes_and_scales_of_the_weight() -> None:
    made = layer("rows", "4 bits")
    codes, scale = made.weight_codes(), made.weight_scale()
    assert codes.dtype == torch.int16
    assert scale.shape == codes.shape
    assert torch.equal(codes * scale, made.weight_quantization(made.weight))


def test_integer_kernels_are_not_for_groups() -> None:
    made = layer("unit, 4 bits", "4 bits")
    why = "each group of inputs of its weight has a scale of its own"
    assert why in made.training_kernels().why
    with pytest.raises(ValueError, match=f'kernels="integer": this QLinear cannot compute on integers, as {why}'):
        made.kernels = "integer"


def test_what_computes_on_values() -> None:
    """Convolutions, exact=False, and weights whose values are somebody's own."""
    conv = QConv2d(4, 6, 3, input_quantization=InputDoReFa(4), weight_quantization=WeightAbsMax(4, group_size=9))
    assert conv._max_codes() is None
    x = seeded(2, 4, 5, 5)
    expected = nn.functional.conv2d(InputDoReFa(4)(x), conv.weight_quantization(conv.weight), conv.bias)
    assert torch.equal(conv(x), expected)

    class Twice(WeightAbsMax):
        def quantize(self, x: Tensor) -> Tensor:
            return 2 * super().quantize(x)

    for made in (
        QLinear(96, 20, input_quantization=InputDynamic(8), weight_quantization=Twice(4, group_size=32)),
        QLinear(96, 20, input_quantization=InputDynamic(8), weight_quantization=WEIGHTS["4 bits"](), exact=False),
    ):
        assert made._max_codes() is None
        rows = seeded(3, 96)
        of_values = nn.functional.linear(
            made.input_quantization(rows), made.weight_quantization(made.weight), made.bias
        )
        assert torch.equal(made(rows), of_values)


def test_hooks_on_quantizers_see_their_values() -> None:
    made, x = layer("rows", "4 bits"), seeded(3, 96)
    y, seen = made(x), []
    made.weight_quantization.register_forward_hook(lambda module, arguments, value: seen.append(value))
    assert torch.equal(made(x), y)
    assert torch.equal(seen[0], made.weight_quantization(made.weight))
    made.weight_quantization.register_forward_hook(lambda module, arguments, value: 2 * value)
    assert not torch.equal(made(x), y)


def test_other_dtypes() -> None:
    made, x = layer("rows", "4 bits"), seeded(3, 96)
    y = made(x)
    assert made.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    doubles = layer("rows", "4 bits").double()
    torch.testing.assert_close(doubles(x.double()).float(), y)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer("rows", "4 bits")(x), y)


def test_a_config_of_groups_beside_few_bits() -> None:
    """Each layer computes on codes: attention's projections and tied weights too."""
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)
    quantize_(model, LowBitConfig(4, 8, weights="absmax", range="dynamic", group_size=32, first="same", last="same"))
    attention = model.self_attn
    assert isinstance(attention, QMultiheadAttention)
    for part in (*attention.projections().values(), model.linear1, model.linear2):
        assert isinstance(part, QLinear)
        assert part._max_codes() == (128, 7)
    y = model(seeded(2, 5, 64))
    y.sum().backward()
    first, second = layer("rows", "4 bits"), layer("rows", "4 bits")
    second.weight = first.weight
    x = seeded(2, 96)
    (first(x) + second(x)).sum().backward()
    assert first.weight.grad is not None
    assert torch.equal(first(x), second(x))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_it_gives_the_same_numbers() -> None:
    made, x = layer("rows", "4 bits"), seeded(3, 96)
    assert torch.equal(torch.compile(made, backend="eager", fullgraph=True)(x), made(x))
