"""Quantizers: values, gradients, codes, dtypes, errors, against the paper's formulas and BITorch's measured vectors."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import oracle
from bitorch.quantizations import (
    ApproxSign,
    GradientDoReFa,
    Identity,
    InputDoReFa,
    ProgressiveSign,
    Quantization,
    Sign,
    SteHeaviside,
    SwishSign,
    WeightDoReFa,
    progressive_sign,
    quantization_from_name,
    quantization_names,
    quantizations_by_name,
    register_custom_quantization,
)
from bitorch.quantizations.approx_sign import ApproxSignFunction
from bitorch.quantizations.base import STE
from bitorch.quantizations.config import config
from bitorch.quantizations.dorefa import InputDoReFaFunction, WeightDoReFaFunction
from bitorch.quantizations.progressive_sign import ProgressiveSignFunctionTrain
from bitorch.quantizations.sign import SignFunction
from bitorch.quantizations.ste_heaviside import SteHeavisideFunction
from bitorch.quantizations.swish_sign import SwishSignFunction

BITS = range(1, 9)
SIGNS = (Sign, ApproxSign, SwishSign, SteHeaviside)
SUBNORMAL = 2.0**-149
NAN, INF = float("nan"), float("inf")


def eval_progressive_sign() -> Quantization:
    return ProgressiveSign().eval()


def fixed_grid(bits: int) -> list[Quantization]:
    """Every DoReFa quantizer on a fixed grid."""
    return [
        InputDoReFa(bits),
        InputDoReFa(bits, variant="paper"),
        WeightDoReFa(bits),
        WeightDoReFa(bits, variant="paper"),
    ]


ALL_ON_A_GRID = [
    *(q for bits in BITS for q in fixed_grid(bits)),
    *(cls() for cls in SIGNS),
    eval_progressive_sign(),
]
ALL = [*ALL_ON_A_GRID, Identity(), ProgressiveSign(), InputDoReFa(32), WeightDoReFa(32), GradientDoReFa(4)]


def name_of(value: object) -> str:
    """A test's id."""
    return f"{type(value).__name__}({value.extra_repr()})" if isinstance(value, nn.Module) else str(value)


def value_and_gradient(quantizer: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Return quantizer(x), and the gradient of x for an incoming gradient g."""
    leaf = x.detach().clone().requires_grad_()
    value = quantizer(leaf)
    value.backward(g)
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def same_bits(a: Tensor, b: Tensor) -> bool:
    """True if both are equal in shape, dtype and every value, NaN being equal to NaN and −0.0 to 0.0."""
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(nan=1e9), b.nan_to_num(nan=1e9))


# BITorch's vectors

SHORT = [-1.5, -1.0, -0.3, 0.0, 0.3, 1.0, 1.5]
THIRD = 1 / 3
SHORT_ROWS: list[tuple[Quantization, list[float], list[float]]] = [
    (Sign(), [-1, -1, -1, 1, 1, 1, 1], [1] * 7),
    (ApproxSign(), [-1, -1, -1, 1, 1, 1, 1], [0, 0, 1.4, 2, 1.4, 0, 0]),
    (SteHeaviside(), [-1, -1, -1, -1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 0]),
    (SwishSign(5.0), [-1, -1, -1, 1, 1, 1, 1], [-0.03, -0.195, 1.562, 5.0, 1.562, -0.195, -0.03]),
    (WeightDoReFa(2), [-1, -1, -THIRD, THIRD, THIRD, 1, 1], [1] * 7),
    (WeightDoReFa(1), [-1, -1, -1, -1, 1, 1, 1], [1] * 7),
    (InputDoReFa(2), [0, 0, 0, 0, THIRD, 1, 1], [1] * 7),
    (InputDoReFa(1), [0, 0, 0, 0, 0, 1, 1], [1] * 7),
    (Identity(), SHORT, [1] * 7),
    (ProgressiveSign(), [-1, -1, -0.3, 0, 0.3, 1, 1], [1] * 7),
    (eval_progressive_sign(), [-1, -1, -1, 1, 1, 1, 1], [1] * 7),
    (ProgressiveSign(False, 0.05), [-1, -1, -0.6, 0, 0.6, 1, 1], [1] * 7),
    (ProgressiveSign(False, 0.5), [-1, -1, -1, 0, 1, 1, 1], [1] * 7),
    (ProgressiveSign(False, 0.2, custom_transform=lambda s: s), [-1, -1, -0.375, 0, 0.375, 1, 1], [1] * 7),
]


@pytest.mark.parametrize(("quantizer", "values", "factors"), SHORT_ROWS, ids=name_of)
def test_values_and_factors(quantizer: Quantization, values: list[float], factors: list[float]) -> None:
    x = torch.tensor(SHORT)
    value, gradient = value_and_gradient(quantizer, x, x)
    torch.testing.assert_close(value, torch.tensor(values, dtype=torch.float32), atol=1e-3, rtol=0)
    torch.testing.assert_close(gradient, x * torch.tensor(factors, dtype=torch.float32), atol=1e-3, rtol=0)


LONG = [-2, -1, -0.6, -0.25, 0, 0.1, 0.25, 0.5, 0.75, 1, 3]
ONES = [1.0] * 11
SIGN = [-1.0, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1]
LONG_ROWS: list[tuple[Quantization, list[float], list[float]]] = [
    (
        WeightDoReFa(2),
        [-1, -1, -0.33333, -0.33333, 0.33333, 0.33333, 0.33333, 0.33333, 0.33333, 1, 1],
        ONES,
    ),
    (
        WeightDoReFa(3),
        [-1, -0.71429, -0.42857, -0.14286, 0.14286, 0.14286, 0.14286, 0.42857, 0.71429, 0.71429, 1],
        ONES,
    ),
    (
        WeightDoReFa(4),
        [-1, -0.73333, -0.6, -0.2, 0.06667, 0.06667, 0.2, 0.46667, 0.6, 0.73333, 1],
        ONES,
    ),
    (InputDoReFa(2), [0, 0, 0, 0, 0, 0, 0.33333, 0.66667, 0.66667, 1, 1], ONES),
    (InputDoReFa(3), [0, 0, 0, 0, 0, 0.14286, 0.28571, 0.57143, 0.71429, 1, 1], ONES),
    (InputDoReFa(8), [0, 0, 0, 0, 0, 0.10196, 0.25098, 0.50196, 0.74902, 1, 1], ONES),
    (Sign(), SIGN, ONES),
    (ApproxSign(), SIGN, [0, 0, 0.8, 1.5, 2, 1.8, 1.5, 1, 0.5, 0, 0]),
    (
        SwishSign(),
        SIGN,
        [-0.00363, -0.19499, -0.32321, 2.26205, 5, 4.41229, 2.26205, -0.08462, -0.35418, -0.19499, -0.00004],
    ),
    (
        SwishSign(1.0),
        SIGN,
        [0.10012, 0.60473, 0.83516, 0.96923, 1, 0.99501, 0.96923, 0.88246, 0.75445, 0.60473, -0.06464],
    ),
    (ProgressiveSign(False, 0.1), [-1, -1, -1, -1, 0, 0.4, 1, 1, 1, 1, 1], ONES),
]


@pytest.mark.parametrize(("quantizer", "values", "gradients"), LONG_ROWS, ids=name_of)
def test_reference_vectors(quantizer: Quantization, values: list[float], gradients: list[float]) -> None:
    value, gradient = value_and_gradient(quantizer, torch.tensor(LONG), torch.ones(11))
    torch.testing.assert_close(value, torch.tensor(values, dtype=torch.float32), atol=6e-6, rtol=0)
    torch.testing.assert_close(gradient, torch.tensor(gradients, dtype=torch.float32), atol=6e-6, rtol=0)


def test_progressive_sign_transform() -> None:
    assert ProgressiveSign.default_transform(0.5) == pytest.approx(0.99902, abs=6e-6)
    assert ProgressiveSign.default_transform(0.5, alpha=2, beta=2) == pytest.approx(0.5)
    assert ProgressiveSign(False, 0.1).transform(0.1) == pytest.approx(0.75)
    assert ProgressiveSign(alpha=2, beta=1).transform(1) == pytest.approx(0.5)


def test_progressive_sign_reads_the_global_scale_at_each_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([-0.5, 0.25])
    shared, own = ProgressiveSign(), ProgressiveSign(False, 0.0)
    monkeypatch.setattr(progressive_sign.config, "progressive_sign_scale", 0.05)
    assert shared.current_scale == 0.05
    torch.testing.assert_close(shared(x), 2 * x)
    assert torch.equal(own(x), x)


def test_progressive_sign_refuses_a_scale_that_has_no_effect() -> None:
    with pytest.raises(ValueError, match=r"initial_scale=0\.5 has no effect"):
        ProgressiveSign(initial_scale=0.5)


def test_progressive_sign_at_full_scale_is_finite() -> None:
    value = ProgressiveSign(False, custom_transform=lambda _: 1.0)(torch.tensor([-1e-3, 0.0, 1e-3]))
    assert value.tolist() == [-1, 0, 1]


@pytest.mark.parametrize(
    ("function", "arguments", "quantizer"),
    [
        (SignFunction, (), Sign()),
        (ApproxSignFunction, (), ApproxSign()),
        (SteHeavisideFunction, (), SteHeaviside()),
        (SwishSignFunction, (), SwishSign(1.0)),
        (SwishSignFunction, (3.0,), SwishSign(3.0)),
        (InputDoReFaFunction, (3,), InputDoReFa(3)),
        (WeightDoReFaFunction, (1,), WeightDoReFa(1)),
        (WeightDoReFaFunction, (7,), WeightDoReFa(3)),
        (ProgressiveSignFunctionTrain, (0.75,), ProgressiveSign(False, 0.1)),
    ],
)
def test_functions_equal_their_quantizers(function: Any, arguments: tuple[Any, ...], quantizer: Quantization) -> None:
    x, g = torch.randn(50), torch.randn(50)
    applied = value_and_gradient(lambda leaf: function.apply(leaf, *arguments), x, g)
    for ours, theirs in zip(applied, value_and_gradient(quantizer, x, g), strict=True):
        assert torch.equal(ours, theirs)


def test_input_function_keeps_the_dtype_and_checks_bits() -> None:
    function: Any = InputDoReFaFunction
    assert function.apply(torch.rand(3, dtype=torch.bfloat16), 2).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="bits must be one of"):
        function.apply(torch.rand(3), 9)


def test_weight_function_keeps_the_dtype_and_checks_its_levels() -> None:
    function: Any = WeightDoReFaFunction
    assert function.apply(torch.rand(3, dtype=torch.bfloat16), 3).dtype == torch.bfloat16
    assert function.apply(torch.rand(0, 3), 3).shape == (0, 3)
    with pytest.raises(ValueError, match="n must be at least 1, as 2"):
        function.apply(torch.rand(3), 0)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_weight_function_has_the_levels_of_the_formula(bits: int) -> None:
    function: Any = WeightDoReFaFunction
    w, n = torch.randn(200), 2**bits - 1
    t = np.tanh(w.double().numpy())
    expected = 2 * np.round((t / (2 * np.abs(t).max()) + 0.5) * n) / n - 1
    np.testing.assert_allclose(function.apply(w, n).numpy(), expected, atol=1e-6)


def test_epsilon_of_progressive_sign() -> None:
    assert progressive_sign.EPSILON == 1e-7


def test_the_straight_through_base_has_no_forward_but_a_backward() -> None:
    function: Any = STE
    with pytest.raises(NotImplementedError, match="defines its own forward"):
        function.apply(torch.ones(1))
    g = torch.randn(3)
    assert STE.backward(None, g) is g


# Names, widths, registration


@pytest.mark.parametrize("name", sorted(quantizations_by_name))
def test_every_name_leads_to_its_class(name: str) -> None:
    cls = quantization_from_name(name)
    assert cls.name == name
    assert isinstance(cls(), cls)
    assert quantization_from_name(cls().name) is cls


def test_names_of_bitorch() -> None:
    names = ["approxsign", "identity", "inputdorefa", "progressive_sign", "scheduled_quantizer", "sign"]
    assert quantization_names() == [*names, "steheaviside", "swishsign", "weightdorefa"]
    assert all(quantizations_by_name[name].name == name for name in names)


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"no quantization is named 'Sign'; known names: .*\bsign\b"):
        quantization_from_name("Sign")


@pytest.mark.parametrize(
    ("cls", "bits"),
    [(cls, 1) for cls in (Sign, ApproxSign, SwishSign, SteHeaviside, ProgressiveSign, InputDoReFa, WeightDoReFa)]
    + [(Identity, 32)],
)
def test_bit_width(cls: type[Quantization], bits: int) -> None:
    assert cls.bit_width == bits
    assert cls().bit_width == bits
    with pytest.warns(DeprecationWarning, match="use bit_width"):
        assert cls.bitwidth == bits
    with pytest.warns(DeprecationWarning, match="use bit_width"):
        assert cls().bitwidth == bits


def test_bit_width_of_an_instance() -> None:
    for quantizer in (InputDoReFa(3), WeightDoReFa(3), GradientDoReFa(3)):
        assert quantizer.bit_width == 3
        with pytest.warns(DeprecationWarning, match="use bit_width"):
            assert quantizer.bitwidth == 3


def test_the_base_class_defines_nothing() -> None:
    base = Quantization()
    assert (base.name, base.bit_width, base.max_code) == ("None", -1, None)
    with pytest.raises(NotImplementedError, match="Quantization does not define quantize"):
        base(torch.ones(1))
    with pytest.raises(TypeError, match="no fixed grid"):
        base.codes(torch.ones(1))
    with pytest.raises(TypeError, match="no fixed grid"):
        base.scale(torch.ones(1))


def test_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    class Half(Quantization):
        name = "half"

        def quantize(self, x: Tensor) -> Tensor:
            return x / 2

    for name in list(quantizations_by_name):
        monkeypatch.setitem(quantizations_by_name, name, quantizations_by_name[name])
    monkeypatch.setitem(quantizations_by_name, "half", Half)  # so that the entry goes when the test ends
    del quantizations_by_name["half"]
    register_custom_quantization(Half)
    register_custom_quantization(Half)
    assert quantization_from_name("half") is Half
    assert "half" in quantization_names()


def test_registration_errors() -> None:
    class Nameless(Quantization):
        pass

    class Impostor(Quantization):
        name = "sign"

    with pytest.raises(ValueError, match="Nameless needs a class attribute `name`"):
        register_custom_quantization(Nameless)
    with pytest.raises(ValueError, match="the name 'sign' belongs to Sign"):
        register_custom_quantization(Impostor)
    with pytest.raises(TypeError, match="takes a subclass of Quantization, got <class 'int'>"):
        register_custom_quantization(int)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a subclass of Quantization, got Sign"):
        register_custom_quantization(Sign())  # type: ignore[arg-type]
    assert quantization_from_name("sign") is Sign


def test_config_is_read_when_a_quantizer_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    early = InputDoReFa()
    monkeypatch.setattr(config, "dorefa_bits", 3)
    monkeypatch.setattr(config, "beta", 2.0)
    assert (early.bit_width, InputDoReFa().bit_width, WeightDoReFa().bit_width, SwishSign().beta) == (1, 3, 3, 2.0)


def test_zero_is_a_value_and_not_a_missing_one() -> None:
    assert SwishSign(0.0).beta == 0
    assert ProgressiveSign(alpha=1, beta=0).beta == 0


@pytest.mark.parametrize("quantizer", ALL, ids=name_of)
def test_quantizers_add_no_state_and_can_be_copied(quantizer: Quantization) -> None:
    assert not quantizer.state_dict()
    x = torch.randn(3, 4)
    for copied in (copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer))):
        assert torch.equal(copied(x), quantizer(x))
        assert repr(copied) == repr(quantizer)


def test_repr_tells_the_settings() -> None:
    assert repr(InputDoReFa(2, variant="paper")) == "InputDoReFa(bits=2, variant='paper')"
    assert repr(GradientDoReFa(6, noise=False)) == "GradientDoReFa(bits=6, noise=False)"
    assert repr(SwishSign(2.0)) == "SwishSign(beta=2.0)"


# Wrong arguments


@pytest.mark.parametrize("cls", [InputDoReFa, WeightDoReFa, GradientDoReFa])
@pytest.mark.parametrize("bits", [0, -1, 9, 16, 31, 33])
def test_bits_outside_the_set(cls: type[Quantization], bits: int) -> None:
    with pytest.raises(ValueError, match=rf"^bits must be one of 1…8, or 32 for none, got {bits}$"):
        cls(bits)


@pytest.mark.parametrize("cls", [InputDoReFa, WeightDoReFa, GradientDoReFa])
@pytest.mark.parametrize("bits", [1.5, 2.0, True, "2", [2]])
def test_bits_that_are_no_integer(cls: type[Quantization], bits: object) -> None:
    with pytest.raises(TypeError) as caught:
        cls(bits)
    assert str(caught.value) == f"bits must be an integer (1…8, or 32 for none), got {bits!r}"


def test_a_numpy_integer_is_an_integer() -> None:
    for quantizer in (InputDoReFa(np.int64(3)), WeightDoReFa(np.int64(3)), GradientDoReFa(np.int64(3))):
        assert type(quantizer.bit_width) is int


@pytest.mark.parametrize("cls", [InputDoReFa, WeightDoReFa])
def test_variant_outside_the_set(cls: type[InputDoReFa] | type[WeightDoReFa]) -> None:
    with pytest.raises(ValueError, match="variant must be one of 'bitorch', 'paper', got 'Paper'"):
        cls(2, variant="Paper")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "quantizer", [q for q in ALL if not (isinstance(q, Identity) or q.bit_width == 32)], ids=name_of
)
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64], ids=str)
def test_input_that_is_not_floating_point(quantizer: Quantization, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=rf"{type(quantizer).__name__}\w*: .*floating-point tensor, got {dtype}"):
        quantizer(torch.ones(2, 2).to(dtype))


# The paper's variant against the oracle


def weights(case: str, dtype: torch.dtype) -> Tensor:
    """Weights of one of the WEIGHT_CASES."""
    generator = torch.Generator().manual_seed(1)
    tensors = {
        "normal": 0.3 * torch.randn(7, 5, 3, 3, generator=generator, dtype=torch.float64),
        "wide": 5 * torch.randn(40, 11, generator=generator, dtype=torch.float64),
        "ties of the maximum": torch.tensor([[0.5, -0.5, 0.25], [-0.0, 0.0, 0.5]], dtype=torch.float64),
        "all zeros": torch.zeros(4, 3, dtype=torch.float64),
        "minus zeros": -torch.zeros(5, dtype=torch.float64),
        "constant": torch.full((19,), 0.3, dtype=torch.float64),
        "negative constant": torch.full((3, 3), -2.0, dtype=torch.float64),
        "one non-zero": torch.tensor([0.0, 0, 0.01, 0], dtype=torch.float64),
        "tiny": torch.tensor([1e-30, -1e-30, 5e-31, 0], dtype=torch.float64),
        "huge": torch.tensor([1e30, -1e30, 1, 0], dtype=torch.float64),
        "one element": torch.tensor(0.7, dtype=torch.float64),
    }
    return tensors[case].to(dtype)


WEIGHT_CASES = (
    "normal",
    "wide",
    "ties of the maximum",
    "all zeros",
    "minus zeros",
    "constant",
    "negative constant",
    "one non-zero",
    "tiny",
    "huge",
    "one element",
)


def assert_codes(codes: Tensor, position: oracle.Floats, expected: oracle.Floats, slack: float) -> None:
    """Codes equal the oracle's, but where its position is within slack of a tie."""
    differ = codes.double().numpy() != expected
    assert np.all(oracle.distance_to_tie(position)[differ] < slack)
    assert np.mean(differ) < 0.05


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("case", WEIGHT_CASES)
def test_paper_weights_in_double_precision(bits: int, case: str) -> None:
    w = weights(case, torch.float64)
    g = torch.randn(w.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    quantizer = WeightDoReFa(bits, variant="paper")
    value, gradient = value_and_gradient(quantizer, w, g)
    w64 = w.numpy()
    assert np.array_equal(quantizer.codes(w).numpy(), oracle.weight_codes(w64, bits))
    assert float(quantizer.scale(w)) == pytest.approx(oracle.weight_scale(w64, bits), rel=1e-14)
    np.testing.assert_allclose(value.numpy(), oracle.weight_value(w64, bits), rtol=1e-14)
    expected = oracle.weight_gradient(w64, bits, g.numpy())
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-10, atol=1e-12 * np.max(np.abs(expected)))
    assert gradient.isfinite().all()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("case", WEIGHT_CASES)
def test_paper_weights_in_single_precision(bits: int, case: str) -> None:
    w = weights(case, torch.float32)
    g = torch.randn(w.shape, generator=torch.Generator().manual_seed(2))
    quantizer = WeightDoReFa(bits, variant="paper")
    value, gradient = value_and_gradient(quantizer, w, g)
    w64, n = w.double().numpy(), 2**bits - 1
    codes = quantizer.codes(w)
    if bits == 1:
        assert np.array_equal(codes.numpy(), oracle.weight_codes(w64, 1))
    else:
        assert_codes(codes, oracle.weight_position(w64, bits), oracle.weight_codes(w64, bits), n * 2.0**-21)
    assert float(quantizer.scale(w)) == pytest.approx(oracle.weight_scale(w64, bits), rel=1e-6)
    np.testing.assert_allclose(value.numpy(), codes.numpy() * oracle.weight_scale(w64, bits), rtol=1e-6)
    expected = oracle.weight_gradient(w64, bits, g.double().numpy())
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-4, atol=1e-5 * np.max(np.abs(expected)))
    assert value.isfinite().all()
    assert gradient.isfinite().all()


INPUTS = torch.cat(
    [
        torch.tensor([0.0, -0.0, 1.0, 0.5, -1.0, 2.0, 1e-30, -1e-30, 1e30, -1e30, INF, -INF, SUBNORMAL, -SUBNORMAL]),
        torch.nextafter(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([-1.0, 0.0, 2.0])),
        torch.linspace(-0.3, 1.3, 3001),
    ]
)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_paper_activations(bits: int, dtype: torch.dtype) -> None:
    n = 2**bits - 1
    # Every tie of the grid as near as the dtype comes to it, too.
    x = torch.cat([INPUTS.to(dtype), (torch.arange(n, dtype=dtype) + 0.5) / n])
    g = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=dtype)
    quantizer = InputDoReFa(bits, variant="paper")
    value, gradient = value_and_gradient(quantizer, x, g)
    x64 = x.double().numpy()
    codes = quantizer.codes(x)
    assert_codes(codes, oracle.input_position(x64, bits), oracle.input_codes(x64, bits), n * torch.finfo(dtype).eps)
    if dtype == torch.float64:
        assert np.array_equal(codes.numpy(), oracle.input_codes(x64, bits))
        np.testing.assert_array_equal(value.numpy(), oracle.input_value(x64, bits))
    assert np.array_equal(gradient.double().numpy(), oracle.input_gradient(x64, g.double().numpy()))


@pytest.mark.parametrize("bits", BITS)
def test_exact_ties_go_to_even(bits: int) -> None:
    assert InputDoReFa(bits, variant="paper").codes(torch.tensor(0.5)) == 2 * round((2**bits - 1) / 4)
    at_zero = WeightDoReFa(bits).codes(torch.tensor([0.0, 1.0, -0.0]))
    assert at_zero.tolist() == ([-1, 1, -1] if bits == 1 else [1, 2**bits - 1, 1])


@pytest.mark.parametrize("bits", BITS)
def test_bitorch_weights(bits: int) -> None:
    """Eq. 9 at every width, also one bit, with the unchanged gradient."""
    w = weights("normal", torch.float64)
    g = torch.randn(w.shape, dtype=torch.float64)
    quantizer = WeightDoReFa(bits)
    value, gradient = value_and_gradient(quantizer, w, g)
    assert np.array_equal(quantizer.codes(w).numpy(), oracle.odd_codes(w.numpy(), bits))
    np.testing.assert_allclose(value.numpy(), oracle.odd_codes(w.numpy(), bits) / (2**bits - 1), rtol=1e-15)
    assert torch.equal(gradient, g)


def test_one_bit_bitorch_weights_are_the_sign() -> None:
    w = torch.randn(500)
    assert torch.equal(WeightDoReFa(1)(w), Sign()(w))


@pytest.mark.parametrize("variant", ["bitorch", "paper"])
@pytest.mark.parametrize("bits", BITS)
def test_degenerate_weights_have_finite_levels_and_gradients(variant: str, bits: int) -> None:
    quantizer = WeightDoReFa(bits, variant=variant)  # type: ignore[arg-type]
    for case in WEIGHT_CASES:
        w = weights(case, torch.float32)
        value, gradient = value_and_gradient(quantizer, w, torch.ones_like(w))
        assert value.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("bits", BITS)
def test_all_zero_weights(bits: int) -> None:
    zeros, g = torch.zeros(3, 4), torch.randn(3, 4)
    quantizer = WeightDoReFa(bits, variant="paper")
    value, gradient = value_and_gradient(quantizer, zeros, g)
    assert torch.equal(quantizer.codes(zeros), torch.ones(3, 4))
    assert torch.equal(value, torch.full((3, 4), 0.0 if bits == 1 else 1 / (2**bits - 1)))
    assert torch.equal(gradient, g)


@pytest.mark.parametrize("bits", range(2, 9))
def test_infinite_weights_saturate(bits: int) -> None:
    w = torch.tensor([INF, -INF, 0.0, 20.0, -0.1])
    n = 2**bits - 1
    for variant in ("bitorch", "paper"):
        quantizer = WeightDoReFa(bits, variant=variant)
        value, gradient = value_and_gradient(quantizer, w, torch.ones(5))
        assert quantizer.codes(w)[:4].tolist() == [n, -n, 1, n]
        assert value.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("quantizer", ALL, ids=name_of)
def test_nan_stays_visible(quantizer: Quantization) -> None:
    value = quantizer(torch.tensor([[0.5, NAN, -0.5]]))
    assert value[0, 1].isnan()
    if not isinstance(quantizer, WeightDoReFa):
        assert value[0, [0, 2]].isfinite().all()


@pytest.mark.parametrize("quantizer", [q for q in ALL if not isinstance(q, GradientDoReFa)], ids=name_of)
def test_infinite_input_saturates_elementwise_quantizers(quantizer: Quantization) -> None:
    if isinstance(quantizer, WeightDoReFa) or quantizer.bit_width == 32:
        return  # these have no bound, or a scale that takes part
    x = torch.tensor([INF, -INF, 1e30, -1e30])
    value, gradient = value_and_gradient(quantizer, x, torch.ones(4))
    low = 0 if quantizer.unsigned else -1
    assert value.tolist() == [1, low, 1, low]
    assert gradient.isfinite().all()


@pytest.mark.parametrize("quantizer", ALL, ids=name_of)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 4)], ids=str)
def test_empty_input(quantizer: Quantization, shape: tuple[int, ...]) -> None:
    x = torch.empty(shape)
    value, gradient = value_and_gradient(quantizer, x, torch.empty(shape))
    assert value.shape == gradient.shape == shape
    if quantizer.max_code is not None:
        assert quantizer.codes(x).shape == shape
        assert quantizer.scale(x).isfinite()


@pytest.mark.parametrize("quantizer", ALL_ON_A_GRID, ids=name_of)
def test_the_input_is_not_changed(quantizer: Quantization) -> None:
    x, g = torch.randn(4, 5), torch.randn(4, 5)
    x_before, g_before = x.clone(), g.clone()
    leaf = x.requires_grad_()
    quantizer(leaf).backward(g)
    assert torch.equal(x.detach(), x_before)
    assert torch.equal(g, g_before)


# Differentiable parts


def normalized_tanh(weight: Tensor, per_channel: bool = False) -> Tensor:
    """tanh(w) / max|tanh(w)|, whose gradient autograd finds."""
    squashed = torch.tanh(weight)
    axes = tuple(range(1, weight.dim())) if per_channel else ()
    return squashed / squashed.abs().amax(axes, keepdim=per_channel)


def test_the_oracle_has_the_numerical_gradient() -> None:
    """Without rounding, 2·(tanh w/(2 max) + ½) − 1 differentiated by central differences."""
    w, g = np.random.default_rng(0).normal(size=(2, 12))

    def loss(v: oracle.Floats) -> float:
        return float(np.sum(g * (2 * oracle.weight_position(v, 4) / 15 - 1)))

    numerical = [(loss(w + 1e-6 * e) - loss(w - 1e-6 * e)) / 2e-6 for e in np.eye(12)]
    np.testing.assert_allclose(oracle.weight_gradient(w, 4, g), numerical, atol=1e-8)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", range(2, 9))
def test_weight_gradient_is_that_of_the_smooth_function(bits: int, per_channel: bool) -> None:
    quantizer = WeightDoReFa(bits, variant="paper", per_channel=per_channel)
    random = torch.Generator().manual_seed(bits)
    shapes = [(5, 3), (1, 1), (64, 70, 8, 8)] if bits == 2 else [(5, 3)]  # the last is rounded in runs
    for shape in shapes:
        w = torch.randn(shape, generator=random, dtype=torch.float64)
        g = torch.randn(shape, generator=random, dtype=torch.float64)
        if len(w) > 1:  # maxima of both signs share their gradient
            w[0].view(-1)[:2] = w.abs().max() + 1
            w[1].view(-1)[0] = -w.max()
        _, through_rounding = value_and_gradient(quantizer, w, g)
        _, smooth = value_and_gradient(lambda v: normalized_tanh(v, per_channel), w, g)
        torch.testing.assert_close(through_rounding, smooth, rtol=1e-12, atol=1e-12)


# Levels and codes


@pytest.mark.parametrize("bits", BITS)
def test_number_of_levels(bits: int) -> None:
    n = 2**bits - 1
    dense = torch.linspace(-0.2, 1.2, 5001)
    for activation in (InputDoReFa(bits), InputDoReFa(bits, variant="paper")):
        assert np.array_equal(activation(dense).unique().numpy(), np.arange(n + 1, dtype=np.float32) / np.float32(n))
        assert activation.codes(dense).unique().tolist() == list(range(n + 1))
    symmetric = torch.linspace(-1, 1, 5001)
    for weight in (WeightDoReFa(bits), WeightDoReFa(bits, variant="paper")):
        assert weight(symmetric).unique().numel() == 2**bits
        assert weight.codes(symmetric).unique().tolist() == list(range(-n, n + 1, 2))


@pytest.mark.parametrize("cls", SIGNS)
def test_signs_have_two_levels(cls: type[Quantization]) -> None:
    assert cls()(torch.linspace(-1, 1, 101)).unique().tolist() == [-1, 1]


@pytest.mark.parametrize("quantizer", ALL_ON_A_GRID, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_codes_times_scale_is_the_value(quantizer: Quantization, dtype: torch.dtype) -> None:
    x = torch.randn(6, 50, generator=torch.Generator().manual_seed(4), dtype=dtype)
    value, codes, scale = quantizer(x), quantizer.codes(x), quantizer.scale(x)
    assert codes.shape == x.shape
    assert codes.dtype == scale.dtype == value.dtype == dtype
    assert scale.dim() == 0
    assert not scale.requires_grad
    assert quantizer.max_code is not None
    assert torch.equal(codes, codes.round())
    assert codes.abs().max() <= quantizer.max_code
    if quantizer.unsigned:
        assert codes.min() >= 0
    else:
        assert (codes.remainder(2) == 1).all()
    torch.testing.assert_close(codes * scale, value, rtol=4 * torch.finfo(dtype).eps, atol=0)
    is_scaled_by_the_mean = isinstance(quantizer, WeightDoReFa) and quantizer.variant == "paper" and codes.max() == 1
    assert torch.equal(value, codes * scale if is_scaled_by_the_mean else codes / quantizer.max_code)


@pytest.mark.parametrize("quantizer", ALL_ON_A_GRID, ids=name_of)
def test_the_gradient_at_codes_is_that_of_the_value(quantizer: Quantization) -> None:
    x, g = torch.randn(3, 7), torch.randn(3, 7)
    _, of_value = value_and_gradient(quantizer, x, g)
    _, of_codes = value_and_gradient(quantizer.codes, x, g)
    assert torch.equal(of_value, of_codes)


def test_scale_has_no_gradient() -> None:
    w = torch.randn(4, requires_grad=True)
    for bits in (1, 2):
        assert not WeightDoReFa(bits, variant="paper").scale(w).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("quantizer", [*(cls() for cls in SIGNS), eval_progressive_sign()], ids=name_of)
def test_sign_of_zeros_and_the_smallest_numbers(quantizer: Quantization, dtype: torch.dtype) -> None:
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    x = torch.tensor([0.0, -0.0, smallest, -smallest, torch.finfo(dtype).max, torch.finfo(dtype).min], dtype=dtype)
    assert (x[2:] != 0).all()
    at_zero = -1 if isinstance(quantizer, SteHeaviside) else 1
    assert quantizer(x).tolist() == [at_zero, at_zero, 1, -1, 1, -1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sign_of_paper_weights_at_zeros_and_the_smallest_numbers(dtype: torch.dtype) -> None:
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    x = torch.tensor([0.0, -0.0, smallest, -smallest, 1, -1], dtype=dtype)
    assert WeightDoReFa(1, variant="paper").codes(x).tolist() == [1, 1, 1, -1, 1, -1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40))
def test_sign_of_any_number(numbers: list[float]) -> None:
    x = torch.tensor(numbers)
    assert np.array_equal(Sign()(x).double().numpy(), oracle.sign_plus(x.double().numpy()))
    assert np.array_equal(-SteHeaviside()(-x).double().numpy(), oracle.sign_plus(x.double().numpy()))


@settings(max_examples=100, deadline=None)
@given(
    # A subnormal maximum counts as zero: see test_subnormal_weights_count_as_zero.
    st.lists(st.floats(-3, 3, width=32, allow_subnormal=False), min_size=1, max_size=40),
    st.sampled_from(list(BITS)),
)
def test_codes_of_any_numbers(numbers: list[float], bits: int) -> None:
    x = torch.tensor(numbers)
    x64, n = x.double().numpy(), 2**bits - 1
    for codes, position, expected in (
        (
            InputDoReFa(bits, variant="paper").codes(x),
            oracle.input_position(x64, bits),
            oracle.input_codes(x64, bits),
        ),
        (WeightDoReFa(bits).codes(x), oracle.weight_position(x64, bits), oracle.odd_codes(x64, bits)),
    ):
        differ = codes.double().numpy() != expected
        assert np.all(oracle.distance_to_tie(position)[differ] < n * 2.0**-21)
        assert codes.abs().max() <= n


# 32 bits


@pytest.mark.parametrize("variant", ["bitorch", "paper"])
def test_activations_of_32_bits_are_relu(variant: str) -> None:
    quantizer = InputDoReFa(32, variant=variant)  # type: ignore[arg-type]
    x, g = torch.randn(50) * 3, torch.randn(50)
    value, gradient = value_and_gradient(quantizer, x, g)
    assert torch.equal(value, x.clamp(min=0))
    assert torch.equal(gradient, torch.where(x > 0, g, 0))
    assert quantizer.max_code is None


@pytest.mark.parametrize(
    "quantizer",
    [WeightDoReFa(32), WeightDoReFa(32, variant="paper"), GradientDoReFa(32), Identity()],
    ids=name_of,
)
def test_weights_and_gradients_of_32_bits_pass_unchanged(quantizer: Quantization) -> None:
    x, g = torch.randn(5, 10) * 3, torch.randn(5, 10)
    value, gradient = value_and_gradient(quantizer, x, g)
    assert torch.equal(value, x)
    assert torch.equal(gradient, g)
    assert quantizer.max_code is None


@pytest.mark.parametrize(
    "quantizer", [InputDoReFa(32), WeightDoReFa(32), GradientDoReFa(4), Identity(), ProgressiveSign()], ids=name_of
)
def test_without_a_fixed_grid_there_are_no_codes(quantizer: Quantization) -> None:
    assert quantizer.max_code is None
    with pytest.raises(TypeError, match=rf"{type(quantizer).__name__} has no fixed grid.*no codes"):
        quantizer.codes(torch.rand(2, 2))


# Precision


@pytest.mark.parametrize("quantizer", [*ALL_ON_A_GRID, ProgressiveSign()], ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_is_computed_in_single(quantizer: Quantization, dtype: torch.dtype) -> None:
    x = torch.randn(8, 30, generator=torch.Generator().manual_seed(5)).to(dtype)
    g = torch.randn(8, 30, generator=torch.Generator().manual_seed(6)).to(dtype)
    value, gradient = value_and_gradient(quantizer, x, g)
    single, single_gradient = value_and_gradient(quantizer, x.float(), g.float())
    assert value.dtype == gradient.dtype == dtype
    assert same_bits(value, single.to(dtype))
    assert same_bits(gradient, single_gradient.to(dtype))
    if quantizer.max_code is not None:
        assert quantizer.codes(x).dtype == quantizer.scale(x).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_changes_no_quantizer(dtype: torch.dtype) -> None:
    x, g = torch.randn(8, 30), torch.randn(8, 30)
    for quantizer in ALL_ON_A_GRID:
        expected = value_and_gradient(quantizer, x, g)
        with torch.autocast("cpu", dtype=dtype):
            inside = value_and_gradient(quantizer, x, g)
        assert all(same_bits(a, b) for a, b in zip(inside, expected, strict=True))


@pytest.mark.parametrize("quantizer", [*ALL_ON_A_GRID, GradientDoReFa(4, noise=False)], ids=name_of)
def test_any_memory_order(quantizer: Quantization) -> None:
    x, g = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    expected = value_and_gradient(quantizer, x, g)
    for order in (torch.channels_last, torch.contiguous_format):
        value, gradient = value_and_gradient(
            quantizer, x.contiguous(memory_format=order), g.contiguous(memory_format=order)
        )
        torch.testing.assert_close(value, expected[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient, expected[1], rtol=1e-5, atol=1e-6)
    strided = torch.randn(2, 6, 4, 5)[:, ::2]
    torch.testing.assert_close(quantizer(strided), quantizer(strided.contiguous()), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-39, 1e-38, 1e-30])
def test_gradients_of_tiny_weights_are_finite(bits: int, size: float) -> None:
    weight = torch.tensor([size, -size / 2, 0.0]).requires_grad_()
    WeightDoReFa(bits, variant="paper")(weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("bits", BITS)
def test_subnormal_weights_count_as_zero(bits: int) -> None:
    weight = torch.tensor([1e-39, -1e-40, 0.0])
    quantizer = WeightDoReFa(bits)
    assert torch.equal(quantizer.codes(weight), quantizer.codes(torch.zeros(3)))
