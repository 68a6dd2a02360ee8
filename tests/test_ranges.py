"""Activation quantizers with a range: values and every gradient against float64 NumPy, ranges that are set and kept."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import oracle
import oracle_ranges
from bitorch.quantizations import InputCalibrated, InputLSQ, InputPACT, RangeQuantization
from oracle_ranges import Grid

BITS = range(1, 9)
NAN, INF = float("nan"), float("inf")
KINDS = ("calibrated", "pact", "lsq", "lsq+")
HALVES = (torch.float16, torch.bfloat16)


def new(kind: str, bits: int, **how: Any) -> RangeQuantization:
    """A quantizer without a range."""
    if kind == "calibrated":
        return InputCalibrated(bits, **how)
    if kind == "pact":
        return InputPACT(bits, **how)
    return InputLSQ(bits, offset=kind == "lsq+", **how)


def state(kind: str, grid: Grid) -> dict[str, Tensor]:
    """The state_dict of a quantizer on a grid."""
    bits = torch.tensor(int(grid.n + 1).bit_length() - 1, dtype=torch.uint8)
    if kind == "calibrated":
        values = {"range_width": grid.step * grid.n, "range_zero": grid.zero}
    elif kind == "pact":
        values = {"alpha": grid.step * grid.n}
    elif kind == "lsq":
        values = {"step": grid.step, "range_zero": grid.zero}
    else:
        values = {"step": grid.step, "offset": -grid.zero * grid.step}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()} | {"range_bits": bits}


def on_grid(kind: str, grid: Grid, dtype: torch.dtype = torch.float32) -> RangeQuantization:
    """A quantizer on a grid."""
    quantizer = new(kind, int(grid.n + 1).bit_length() - 1).to(dtype)
    quantizer.load_state_dict(state(kind, grid))
    return quantizer


def cases() -> list[tuple[str, Grid]]:
    """Every kind at every bit width, with the zero points that it can have."""
    rows = []
    for bits in BITS:
        n = 2**bits - 1
        zeros = {
            "calibrated": sorted({0, n // 3, n}),
            "pact": [0],
            "lsq": [0] if bits == 1 else [0, (n + 1) // 2],
            "lsq+": sorted({0, n // 4, n}),
        }
        for kind in KINDS:
            rows += [(kind, Grid(0.7371 / n, zero, n)) for zero in zeros[kind]]
    return rows


CASES = cases()
#: Fewer, for what does not depend on the bits.
SOME = [case for case in CASES if case[1].n in (1, 7, 255)]


def name_of(case: object) -> str:
    """A test's id."""
    if isinstance(case, tuple):
        return f"{case[0]}-n{case[1].n}-z{case[1].zero}"
    return str(case)


def numbers(grid: Grid, shape: tuple[int, ...] = (4, 3, 5, 7), seed: int = 0) -> Tensor:
    """Numbers inside the grid and beyond, none where float32 may take the other of two levels; float64."""
    rng = np.random.default_rng(seed)
    position = rng.uniform(-0.5 * grid.n - 0.3, 1.5 * grid.n + 0.3, 4000)
    doubtful = np.minimum(np.abs(position), np.abs(position - grid.n)) < 1e-3
    doubtful |= oracle.distance_to_tie(position) < 1e-3
    count = int(np.prod(shape))
    x = (position[~doubtful][:count] - grid.zero) * grid.step
    assert len(x) == count
    return torch.from_numpy(x.astype(np.float32).astype(np.float64).reshape(shape))


def run(quantizer: nn.Module, x: Tensor, g: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the value, and the gradients of x and of all parameters."""
    quantizer.zero_grad()
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = quantizer(leaf)
    value.backward(g)
    assert leaf.grad is not None
    gradients = {"x": leaf.grad}
    for name, parameter in quantizer.named_parameters():
        assert parameter.grad is not None
        gradients[name] = parameter.grad.clone()
    return value.detach(), gradients


def gradients_of(kind: str, grid: Grid, x: oracle.Floats, g: oracle.Floats) -> dict[str, Any]:
    """What the papers say."""
    expected: dict[str, Any] = {"x": g * grid.inside(x)}
    per_sample = int(np.prod(x.shape[1:]))
    if kind == "pact":
        expected["alpha"] = oracle_ranges.pact_alpha_gradient(x, grid.step * grid.n, g)
    elif kind == "lsq":
        expected["step"] = oracle_ranges.lsq_step_gradient(x, grid, g, per_sample)
    elif kind == "lsq+":
        expected["step"], expected["offset"] = oracle_ranges.lsq_plus_gradients(x, grid, g, per_sample)
    return expected


# Values and gradients


@pytest.mark.parametrize("case", CASES, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_values_codes_and_all_gradients(case: tuple[str, Grid], dtype: torch.dtype) -> None:
    kind, grid = case
    quantizer = on_grid(kind, grid, dtype)
    x = numbers(grid).to(dtype)
    g = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    x64, g64 = x.double().numpy(), g.double().numpy()
    double = dtype == torch.float64
    assert np.array_equal(quantizer.codes(x).detach().numpy(), grid.codes(x64))
    assert quantizer.zero_point() == grid.zero
    assert quantizer.max_code == grid.n
    value, gradients = run(quantizer, x, g)
    np.testing.assert_allclose(value.numpy(), grid.value(x64), rtol=1e-14 if double else 3e-7)
    expected = gradients_of(kind, grid, x64, g64)
    assert gradients.keys() == expected.keys()
    assert np.array_equal(gradients["x"].numpy(), expected.pop("x"))
    for name, gradient in expected.items():
        assert gradients[name].dtype == dtype
        sums = grid.n * np.sqrt(x64.size)  # what is summed up, by size
        assert gradients[name].item() == pytest.approx(gradient, rel=1e-10 if double else 1e-4, abs=1e-7 * sums), name


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_exact_ties_go_to_even(case: tuple[str, Grid]) -> None:
    kind, n = case[0], case[1].n
    grid = Grid(1.0, case[1].zero, n)  # so that every step of the arithmetic but z/n is exact
    quantizer = on_grid(kind, grid)
    stored = torch.arange(n) + 0.5
    codes = quantizer.codes(stored * grid.step - grid.zero)
    if grid.zero == 0 and n in (1, 3):  # 0.5, 1.5 and 2.5 of n are exact only where 1/n is harmless
        assert codes.tolist() == [2 * ((j + 1) // 2) for j in range(n)]
    assert ((codes + grid.zero - stored).abs() == 0.5).all()
    assert codes.min() >= -grid.zero
    assert codes.max() <= n - grid.zero


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_number_of_levels(case: tuple[str, Grid]) -> None:
    kind, grid = case
    quantizer = on_grid(kind, grid)
    x = torch.linspace(-2, 2, 8001, dtype=torch.float64) * grid.step * (grid.n + 1)
    codes = quantizer.codes(x.float())
    assert codes.unique().tolist() == [j - grid.zero for j in range(grid.n + 1)]
    assert quantizer(x.float()).unique().numel() == grid.n + 1
    low, high = quantizer.limits()
    assert low == pytest.approx(-grid.zero * grid.step)
    assert high == pytest.approx((grid.n - grid.zero) * grid.step)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_zero_is_a_level(case: tuple[str, Grid]) -> None:
    quantizer = on_grid(*case)
    x = torch.tensor([[0.0, -0.0, 0.0]])
    assert quantizer.codes(x).tolist() == [[0, 0, 0]]
    value, gradients = run(quantizer, x, torch.ones(1, 3))
    assert value.tolist() == [[0, 0, 0]]
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("case", SOME, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_gradient_at_codes_is_that_of_the_value(case: tuple[str, Grid], dtype: torch.dtype) -> None:
    quantizer = on_grid(*case, dtype)
    x = numbers(case[1]).to(dtype)
    g = torch.randn(x.shape, dtype=dtype)
    value, of_value = run(quantizer, x, g)
    of_codes: dict[str, Tensor | None] = {}
    quantizer.zero_grad()
    leaf = x.clone().requires_grad_()
    codes = quantizer.codes(leaf)
    codes.backward(g)
    of_codes = {"x": leaf.grad, **{name: p.grad for name, p in quantizer.named_parameters()}}
    for name, gradient in of_value.items():
        assert torch.equal(gradient, of_codes[name])  # type: ignore[arg-type]  # it is there, or the test fails
    scale = quantizer.scale(x)
    assert not scale.requires_grad
    assert scale.dim() == 0
    assert codes.dtype == scale.dtype == value.dtype == dtype
    assert torch.equal(codes.detach() * scale, value)
    assert float(scale) == pytest.approx(case[1].step, rel=1e-14 if dtype == torch.float64 else 2e-7)


# Degenerate numbers


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_infinite_and_huge_numbers_saturate(case: tuple[str, Grid]) -> None:
    kind, grid = case
    quantizer = on_grid(kind, grid)
    x = torch.tensor([[INF, -INF, 1e30, -1e30, 3e38, -3e38]])
    value, gradients = run(quantizer, x, torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]))
    high, low = grid.n - grid.zero, -grid.zero
    assert quantizer.codes(x).tolist() == [[high, low] * 3]
    assert value.isfinite().all()
    assert gradients["x"].tolist() == [[0] * 6]
    if kind == "pact":
        assert gradients["alpha"] == 9
    elif kind == "lsq":
        positive = high if high > 0 else 1
        expected = (9 * high + 12 * low) / np.sqrt(6 * positive)
        assert gradients["step"].item() == pytest.approx(expected, rel=1e-6)
    elif kind == "lsq+":
        assert gradients["step"].item() == pytest.approx(9 * grid.n / np.sqrt(6 * grid.n), rel=1e-5)
        assert gradients["offset"].item() == pytest.approx(21 / np.sqrt(6 * grid.n), rel=1e-6)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_nan_stays_visible(case: tuple[str, Grid]) -> None:
    quantizer = on_grid(*case)
    x = torch.tensor([[0.1, NAN, -0.1]])
    value = quantizer(x)
    assert value.isnan().tolist() == [[False, True, False]]
    assert quantizer.codes(x).isnan().tolist() == [[False, True, False]]


@pytest.mark.parametrize("case", SOME, ids=name_of)
def test_tiny_numbers_and_constants(case: tuple[str, Grid]) -> None:
    quantizer, grid = on_grid(*case), case[1]
    for number in (1e-30, -1e-30, 1e-45, -1e-45, 0.4 * grid.step, 0.2):
        x = torch.full((2, 5), number)
        value, gradients = run(quantizer, x, torch.ones(2, 5))
        expected = grid.value(x.double().numpy())
        np.testing.assert_allclose(value.numpy(), expected, rtol=3e-7)
        assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("case", SOME, ids=name_of)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 4), (0, 3, 2, 2)], ids=str)
def test_empty_input(case: tuple[str, Grid], shape: tuple[int, ...]) -> None:
    quantizer = on_grid(*case)
    value, gradients = run(quantizer, torch.empty(shape), torch.empty(shape))
    assert value.shape == gradients.pop("x").shape == shape
    assert all(gradient == 0 for gradient in gradients.values())


@pytest.mark.parametrize("kind", ["pact", "lsq", "lsq+"])
@pytest.mark.parametrize("size", [0.0, -0.3, 1e-30, 1e-45])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_range_at_zero_or_below_counts_as_the_smallest(kind: str, size: float, dtype: torch.dtype) -> None:
    """Also in half precision, which does not have so small a number."""
    quantizer = on_grid(kind, Grid(1.0, 0, 3)).to(dtype)
    with torch.no_grad():
        next(iter(quantizer.parameters())).fill_(size)
    x = torch.tensor([[0.0, 1.0, -1.0, 1e4]], dtype=dtype)
    value, gradients = run(quantizer, x, torch.ones(1, 4, dtype=dtype))
    smallest = 2.0**-60 / 3 if kind == "pact" else 2.0**-60
    assert quantizer.scale(x).item() == pytest.approx(smallest, rel=1e-6)
    assert quantizer.codes(x).tolist() == [[0, 3, 0, 3]]
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients.values())


# Precision and memory order


@pytest.mark.parametrize("case", SOME, ids=name_of)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_low_precision_is_computed_in_single(case: tuple[str, Grid], dtype: torch.dtype) -> None:
    quantizer = on_grid(*case)
    x = numbers(case[1]).to(dtype)
    g = torch.randn(x.shape).to(dtype)
    value, gradients = run(quantizer, x, g)
    single, of_single = run(quantizer, x.float(), g.float())
    assert value.dtype == gradients["x"].dtype == dtype
    assert torch.equal(value, single.to(dtype))
    assert torch.equal(gradients.pop("x"), of_single["x"].to(dtype))
    assert all(torch.equal(gradient, of_single[name]) for name, gradient in gradients.items())
    assert quantizer.codes(x).dtype == quantizer.scale(x).dtype == torch.float32


@pytest.mark.parametrize("case", SOME, ids=name_of)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_low_precision_parameters(case: tuple[str, Grid], dtype: torch.dtype) -> None:
    """A range in half precision is what it rounds to, and all arithmetic on it is single."""
    kind, grid = case
    quantizer = on_grid(kind, grid).to(dtype)
    single = copy.deepcopy(quantizer).float()
    x = numbers(grid).to(dtype)
    assert quantizer.zero_point() == single.zero_point()
    assert torch.equal(quantizer.scale(x), single.scale(x.float()))
    assert torch.equal(quantizer.codes(x), single.codes(x.float()))
    _, gradients = run(quantizer, x, torch.ones_like(x))
    assert all(gradient.dtype == dtype and gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("case", SOME, ids=name_of)
def test_any_memory_order(case: tuple[str, Grid]) -> None:
    quantizer, x = on_grid(*case), numbers(case[1]).float()
    g = torch.randn(x.shape)
    value, gradients = run(quantizer, x, g)
    for order in (torch.channels_last, torch.contiguous_format):
        for other in (torch.channels_last, torch.contiguous_format):
            laid, of_laid = run(quantizer, x.contiguous(memory_format=order), g.contiguous(memory_format=other))
            assert torch.equal(laid, value)
            assert torch.equal(of_laid.pop("x"), gradients["x"])
            for name, gradient in of_laid.items():
                torch.testing.assert_close(gradient, gradients[name], rtol=1e-4, atol=1e-4)
    strided = x.repeat_interleave(2, 1)[:, ::2]
    assert torch.equal(quantizer(strided), value)


@pytest.mark.parametrize("case", SOME, ids=name_of)
def test_the_input_is_not_changed_and_must_be_floating_point(case: tuple[str, Grid]) -> None:
    quantizer, x = on_grid(*case), numbers(case[1]).float()
    before = x.clone()
    run(quantizer, x, torch.ones_like(x))
    assert torch.equal(x, before)
    with pytest.raises(TypeError, match=r"must be a floating-point tensor, got torch\.int64"):
        quantizer(torch.arange(3))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 8),
    st.floats(0.0009765625, 64, width=32),
    st.floats(0, 1),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30),
)
def test_codes_of_any_numbers(kind: str, bits: int, step: float, share: float, values: list[float]) -> None:
    n = 2**bits - 1
    zero = {"pact": 0, "lsq": 0 if bits == 1 or share < 0.5 else (n + 1) // 2}.get(kind, round(share * n))
    grid = Grid(step, zero, n)
    codes = on_grid(kind, grid).codes(torch.tensor(values)).detach().double().numpy()
    x = np.array(values, dtype=np.float64)
    differ = codes != grid.codes(x)
    assert np.all(oracle.distance_to_tie(grid.position(x))[differ] < (n + 1) * 2.0**-20)
    assert np.all(np.abs(codes - grid.codes(x)) <= 1)


# Ranges that are not set


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_range_quantizing_is_an_error(kind: str) -> None:
    quantizer = new(kind, 4)
    assert not quantizer.is_set
    for call in (quantizer, quantizer.codes, quantizer.scale):
        with pytest.raises(
            RuntimeError, match=rf"the range of {type(quantizer).__name__} is not set; call bitorch\.calibrate\("
        ):
            call(torch.rand(2, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_32_bits_need_no_range(kind: str) -> None:
    quantizer, x = new(kind, 32), torch.randn(5, 4)
    assert torch.equal(quantizer(x), x.clamp(min=0) if kind == "pact" else x)
    assert quantizer.clips_negative == (kind == "pact")
    assert quantizer.max_code is None
    for call in (quantizer.codes, quantizer.scale):
        with pytest.raises(TypeError, match="has no fixed grid"):
            call(x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ({"bits": 9}, ValueError, "9"),
        ({"bits": 0}, ValueError, "0"),
        ({"bits": 2.0}, TypeError, "bits"),
        ({"bits": 2, "calibration": "kl"}, ValueError, r"calibration must be one of mse, percentile, got 'kl'"),
        ({"bits": 2, "percentile": 50}, ValueError, "percentile must be above 50 and at most 100, got 50"),
        ({"bits": 2, "percentile": 100.1}, ValueError, "percentile must be above 50"),
        ({"bits": 2, "percentile": NAN}, ValueError, "percentile must be above 50"),
    ],
    ids=str,
)
def test_bad_arguments(kind: str, how: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        new(kind, **how)


# Fits


def widths_beside(best: float, rng: np.random.Generator) -> oracle.Floats:
    """1,000 other widths, most of them near."""
    return np.concatenate([best * rng.uniform(0.9, 1.1, 500), best * np.exp(rng.uniform(-3, 3, 500))])


def data(name: str, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    values = {
        "relu": np.maximum(rng.normal(size=3000), 0),
        "normal": rng.normal(size=3000) + 0.1,
        "heavy": rng.standard_t(2, size=3000),
        "skewed": rng.exponential(size=3000) - 0.3,
        "negative": -np.abs(rng.normal(size=3000)),
        "far": rng.normal(size=3000) + 50,
    }[name]
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "scale"),
    [("relu", 1.0), ("normal", 1.0), ("heavy", 1.0), ("skewed", 1.0), ("skewed", 1e-15), ("skewed", 1e30)],
)
@pytest.mark.parametrize("bits", [1, 2, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_no_other_width_has_clearly_less_error(kind: str, name: str, bits: int, scale: float) -> None:
    x = data(name) * scale
    quantizer = new(kind, bits)
    quantizer.fit_(x)
    x64 = x.double().numpy() / scale
    n, zero = 2**bits - 1, quantizer.zero_point()
    width = float(quantizer.width()) / scale
    ours = oracle_ranges.squared_error(x64, Grid(width / n, zero, n))
    others = widths_beside(width, np.random.default_rng(1))
    least = min(oracle_ranges.squared_error(x64, Grid(other / n, zero, n)) for other in others)
    assert ours <= least * 1.02


@pytest.mark.parametrize("percentile", [60, 99, 99.9, 99.99, 100])
@pytest.mark.parametrize("name", ["relu", "normal", "heavy", "skewed"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_percentile_holds_its_share(kind: str, name: str, percentile: float) -> None:
    x = data(name)
    quantizer = new(kind, 8, calibration="percentile", percentile=percentile)
    quantizer.fit_(x)
    low, high = quantizer.limits()
    half = 1.001 * float(quantizer.scale(x)) / 2  # 0.0 is a level, which moves the others by half a step
    slack = half if quantizer.zero_point() else 1e-6
    clipped_below = 0 if quantizer.clips_negative or quantizer.zero_point() == 0 else (x < low - slack).sum()
    held = 1 - float(clipped_below + (x > high + slack).sum()) / len(x)
    assert held >= percentile / 100 - 1e-9
    if kind == "pact":
        assert (x >= high - 1e-6).sum() >= 1  # it is one of the numbers
        assert (x > high * 0.999).sum() >= (1 - percentile / 100) * len(x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("calibration", ["mse", "percentile"])
def test_what_fit_refuses_leaves_the_range(kind: str, calibration: str) -> None:
    quantizer = new(kind, 3, calibration=calibration)
    refused: list[tuple[Tensor, str]] = [
        (torch.empty(0), "there are no inputs"),
        (torch.tensor([1.0, NAN]), "some inputs are NaN or infinite"),
        (torch.tensor([1.0, INF]), "some inputs are NaN or infinite"),
        (torch.zeros(10), "the range collapses"),
        (torch.tensor([0.0, -0.0]), "the range collapses"),
        (torch.full((10,), 1e-30), "the range collapses"),
    ]
    if kind == "pact":
        refused.append((torch.tensor([-1.0, -2.0]), "the range collapses"))
    if kind in ("calibrated", "lsq+"):
        refused.append((torch.tensor([-3.4e38, 3.4e38]), "the range overflows"))
    for x, text in refused:
        with pytest.raises(ValueError, match=text):
            quantizer.fit_(x)
        assert not quantizer.is_set
    quantizer.fit_(torch.tensor([0.0, 0.5, 1.0]))
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    for x, text in refused:
        with pytest.raises(ValueError, match=text):
            quantizer.fit_(x)
        assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    with pytest.raises(TypeError, match="floating-point"):
        quantizer.fit_(torch.arange(3))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", KINDS)
def test_constants_are_fitted_exactly(kind: str, bits: int) -> None:
    quantizer = new(kind, bits)
    for number in (0.3, 1e4, 1e30, 1e-15):
        x = torch.full((50,), number)
        quantizer.fit_(x)
        torch.testing.assert_close(quantizer(x), x, rtol=1e-5, atol=0)


@pytest.mark.parametrize("bits", BITS)
def test_lsq_takes_the_grid_with_less_error(bits: int) -> None:
    for name in ("relu", "normal", "skewed", *(["negative"] if bits > 1 else [])):
        quantizer = InputLSQ(bits)
        x = data(name)
        quantizer.fit_(x)
        n = 2**bits - 1
        zeros = {0} if bits == 1 or not (x < 0).any() else {0, (n + 1) // 2}
        assert quantizer.zero_point() in zeros
        ours = float((quantizer(x).detach() - x).square().mean())
        for zero in zeros:
            steps = np.linspace(0.005, 1, 200) * float(x.abs().max()) / max(n - zero, zero)
            others = [oracle_ranges.squared_error(x.double().numpy(), Grid(step, zero, n)) for step in steps]
            assert ours <= min(others) * 1.02


def test_one_bit_has_no_level_below_zero() -> None:
    with pytest.raises(ValueError, match=r"the range collapses: it would be 0 … 0$"):
        InputLSQ(1).fit_(data("negative"))


def test_only_numbers_below_zero_bring_a_zero_point() -> None:
    for kind in ("calibrated", "lsq+"):
        quantizer = new(kind, 4)
        quantizer.fit_(data("far"))
        assert quantizer.zero_point() == 0
        quantizer.fit_(data("negative"))
        assert quantizer.zero_point() == 15


# State


@pytest.mark.parametrize("case", SOME, ids=name_of)
def test_ranges_survive_state_dict_deepcopy_and_pickle(case: tuple[str, Grid]) -> None:
    kind, grid = case
    quantizer, x = on_grid(kind, grid), numbers(grid).float()
    loaded = new(kind, quantizer.bit_width)
    loaded.load_state_dict(quantizer.state_dict())
    assigned = new(kind, quantizer.bit_width)
    assigned.load_state_dict(quantizer.state_dict(), assign=True)
    for other in (loaded, assigned, copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer))):
        assert other.is_set
        assert other.zero_point() == quantizer.zero_point()
        assert torch.equal(other(x), quantizer(x))
        assert torch.equal(other.codes(x), quantizer.codes(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_dict_without_a_range(kind: str) -> None:
    """That of a float model leaves the range; that of a quantizer without a range takes it away."""
    quantizer = on_grid(kind, Grid(0.25, 0, 15))
    assert not quantizer.load_state_dict({}, strict=True).missing_keys
    assert quantizer.is_set
    quantizer.load_state_dict(new(kind, 4).state_dict())
    assert not quantizer.is_set
    with pytest.raises(RuntimeError, match="is not set"):
        quantizer(torch.rand(3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_dict_of_other_bits_keeps_the_range(kind: str) -> None:
    for old, bits in ((8, 4), (2, 8), (4, 1), (4, 32)):
        quantizer = new(kind, bits)
        quantizer.load_state_dict(state(kind, Grid(0.9 / (2**old - 1), 0, 2**old - 1)))
        assert float(quantizer.width()) == pytest.approx(0.9)
        assert quantizer.limits() == pytest.approx((0, 0.9))
        if bits != 32:
            assert quantizer.codes(torch.tensor([0.9, 0.0])).tolist() == [2**bits - 1, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_missing_and_unexpected_keys_are_named(kind: str) -> None:
    quantizer = new(kind, 4)
    some = quantizer.state_dict()
    del some["range_bits"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "range_bits"'):
        quantizer.load_state_dict(some)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "other"'):
        quantizer.load_state_dict(quantizer.state_dict() | {"other": torch.zeros(())})


@pytest.mark.parametrize("zero", [0, 128])
@pytest.mark.parametrize("kind", KINDS)
def test_other_bits_keep_the_range_and_the_parameters(kind: str, zero: int) -> None:
    if kind == "pact" and zero:
        return
    quantizer = on_grid(kind, Grid(1 / 255, zero, 255))
    parameters = dict(quantizer.named_parameters())
    low, _ = quantizer.limits()
    before_32 = None
    for bits in (8, 4, 2, 32, 2):
        quantizer.set_bits_(bits)
        assert quantizer.bit_width == bits
        assert {name: id(p) for name, p in quantizer.named_parameters()} == {
            name: id(p) for name, p in parameters.items()
        }
        assert quantizer.is_set
        assert all(p.requires_grad and p.is_leaf for p in parameters.values())
        if bits == 32:
            assert quantizer.max_code is None
            before_32 = {name: value.clone() for name, value in quantizer.state_dict().items()}
            continue
        n = 2**bits - 1
        assert float(quantizer.width()) == pytest.approx(1.0)
        new_low, new_high = quantizer.limits()
        assert new_high - new_low == pytest.approx(1.0)
        assert abs(new_low - low) <= 0.5001 * sum(1 / (2**b - 1) for b in (8, 4, 2) if b >= bits)
        if kind == "lsq" and zero:
            assert quantizer.zero_point() == (n + 1) // 2
    assert before_32 is not None
    assert all(torch.equal(value, before_32[name]) for name, value in quantizer.state_dict().items())
    for wrong, error in ((0, ValueError), (9, ValueError), (2.0, TypeError)):
        with pytest.raises(error):
            quantizer.set_bits_(wrong)  # type: ignore[arg-type]  # the error
        assert quantizer.bit_width == 2


def test_a_signed_range_at_one_bit_ends_where_it_ended() -> None:
    quantizer = on_grid("lsq", Grid(1.0, 8, 15))
    quantizer.set_bits_(1)
    assert quantizer.zero_point() == 0
    assert quantizer.limits() == (0, 7)
    assert torch.equal(quantizer(torch.tensor([-7.0, 3.0, 9.0])), torch.tensor([0.0, 0.0, 7.0]))


@pytest.mark.parametrize("zero", [1, 5, 6, 8, 14])
@pytest.mark.parametrize("kind", ["calibrated", "lsq", "lsq+"])
def test_bits_that_come_back_bring_the_range_back(kind: str, zero: int) -> None:
    if kind == "lsq" and zero != 8:
        return
    quantizer = on_grid(kind, Grid(0.1, zero, 15))
    x = torch.linspace(-2, 2, 401) + 0.0123  # no ties
    before = quantizer(x)
    for bits in (1, 2, 3, 8, 32):
        quantizer.set_bits_(bits)
        other = new(kind, bits)
        other.load_state_dict(quantizer.state_dict())
        assert torch.equal(other(x), quantizer(x))
        quantizer.set_bits_(4)
        assert quantizer.zero_point() == zero
        torch.testing.assert_close(quantizer(x), before)


@pytest.mark.parametrize("kind", ["pact", "lsq", "lsq+"])
def test_a_step_of_the_optimizer_moves_the_range(kind: str) -> None:
    quantizer = on_grid(kind, Grid(0.05, 0, 15))
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.01)
    x = torch.rand(64, 10) * 3
    first = last = None
    for _ in range(60):
        optimizer.zero_grad()
        loss = (quantizer(x) - x).square().mean()
        loss.backward()
        optimizer.step()
        last = float(loss.detach())
        first = last if first is None else first
    assert first is not None
    assert last is not None
    assert last < 0.7 * first
