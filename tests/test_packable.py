"""One table of layers for whole and partial deployment: the same reasons, or both compute what the layer does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitorch
from bitorch.deployment.asked_arithmetic import Reason, points
from bitorch.deployment.packable import Packing, packable
from bitorch.layers import QActivation, QConv2d, QLinear
from bitorch.quantizations import (
    ApproxSign,
    GradientDoReFa,
    InputDoReFa,
    InputLSQ,
    InputPACT,
    Quantization,
    RSign,
    Sign,
    SteHeaviside,
    SwishSign,
    WeightAbsMean,
    WeightDoReFa,
    WeightTTQ,
    WeightTWN,
)
from bitorch.quantizations.arithmetic import Arithmetic
from own_affine import Affine


class Steeper(InputDoReFa):
    """The codes of its base; another gradient is nothing to deployment."""

    def codes(self, x: Tensor) -> Tensor:
        return super().codes(x.clone())


class Flat(Quantization):
    """A class that says nothing and computes x > 0."""

    name = "flat"
    bit_width = 1
    max_code = 1

    def codes(self, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype) * 2 - 1

    def scale(self, x: Tensor) -> Tensor:
        return torch.ones(())

    def quantize(self, x: Tensor) -> Tensor:
        return self.codes(x)


class Bent(InputDoReFa):
    """Codes that are no rounding of a line."""

    def codes(self, x: Tensor) -> Tensor:
        return super().codes(x.clamp(min=0).sqrt())


class Skewed(RSign):
    def codes(self, x: Tensor) -> Tensor:
        return -super().codes(x)


class Signed(Flat):
    max_code = 3
    bit_width = 2


class Mine(QLinear):
    pass


def fitted(quantizer: Any) -> Quantization:
    quantizer.fit_(torch.randn(1000, generator=torch.Generator().manual_seed(0)))
    assert isinstance(quantizer, Quantization)
    return quantizer


def linear(input: Quantization, weight: Quantization | None = None, **options: Any) -> QLinear:
    weight = WeightDoReFa(2) if weight is None else weight
    return QLinear(4, 4, input_quantization=input, weight_quantization=weight, **options)


#: How the input's codes come about: in the runtime both ways, or in PyTorch, which only a partial deployment can do.
COMPUTED: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: linear(InputDoReFa(3)), "unit"),
    (lambda: linear(Steeper(3)), "unit"),
    (lambda: linear(Sign()), "sign"),
    (lambda: linear(ApproxSign()), "sign"),
    (lambda: linear(SwishSign()), "sign"),
    (lambda: linear(SteHeaviside()), "heaviside"),
    (lambda: linear(Flat()), "heaviside"),
    (lambda: linear(RSign(4, 0)), "sign"),
    (lambda: linear(fitted(InputLSQ(3, offset=True)), WeightTWN()), "unit"),
    (lambda: linear(fitted(InputLSQ(3, offset=True)), WeightAbsMean()), "unit"),
    (lambda: linear(fitted(InputPACT(2))), "unit"),
    (lambda: linear(fitted(Affine(6))), "round"),
    (lambda: linear(InputDoReFa(2), gradient_quantization=GradientDoReFa(4)), "unit"),
    (lambda: linear(Bent(2)), "PyTorch"),
    (lambda: linear(Skewed(4, 0)), "PyTorch"),
]


@pytest.mark.parametrize(("make", "form"), COMPUTED, ids=[str(make()) + form for make, form in COMPUTED])
def test_what_can_be_packed_runs_both_ways(make: Callable[[], QLinear], form: str) -> None:
    torch.manual_seed(0)
    layer = make().eval()
    model, x = nn.Sequential(nn.Linear(4, 4), layer).eval(), torch.randn(16, 4)
    found = packable(layer)
    assert isinstance(found, Packing)
    partial = bitorch.deploy(model, x, partial=True)
    assert torch.equal(partial(x), model(x))
    if isinstance(found.arithmetic, Reason):
        assert form == "PyTorch"
        problem = bitorch.can_deploy(model, x)
        assert not problem
        assert found.arithmetic.what in str(problem)
    else:
        assert found.arithmetic.form == form
        assert bitorch.verify(model, bitorch.deploy(model, x), x)


def hooked() -> QLinear:
    layer = linear(Sign(), gradient_quantization=GradientDoReFa(4))
    layer.gradient_quantization.quantize = lambda x: 2 * x  # type: ignore[union-attr, method-assign]
    return layer


REFUSED: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: linear(InputDoReFa(32)), "so there are no codes to compute on"),
    (lambda: linear(Sign(), WeightTTQ()), "has two scales"),
    (lambda: linear(Sign(), exact=False), "exact=False"),
    (lambda: linear(WeightDoReFa(2)), "statistics of a whole tensor"),
    (lambda: linear(Signed()), "has signed codes"),
    (lambda: linear(Sign(), InputDoReFa(2)), "other codes than the odd integers"),
    (lambda: linear(Sign(), gradient_quantization=Sign()), "may change the result"),
    (hooked, "may change the result"),
    (
        lambda: QConv2d(4, 4, 3, padding=1, pad_value=2.0, input_quantization=Sign(), weight_quantization=Sign()),
        "pad_value=2.0 is beyond the levels",
    ),
]


@pytest.mark.parametrize(("make", "what"), REFUSED, ids=[what for _, what in REFUSED])
def test_both_ways_give_the_same_reason(make: Callable[[], QLinear], what: str) -> None:
    layer = make().eval()
    x = torch.randn(2, 4, 4, 4) if isinstance(layer, QConv2d) else torch.randn(2, 4)
    found = packable(layer)
    assert isinstance(found, Reason)
    assert what in found.what
    problem = bitorch.can_deploy(nn.Sequential(layer).eval(), x)
    assert not problem
    assert found.what in str(problem)
    assert found.remedy in str(problem)
    with pytest.raises(ValueError, match="none of the model's low-bit layers can be packed") as error:
        bitorch.deploy(nn.Sequential(layer).eval(), x, partial=True)
    assert str(found) in str(error.value)


def test_subclasses_of_layers_stay() -> None:
    found = packable(Mine(4, 4, input_quantization=Sign(), weight_quantization=Sign()))
    assert isinstance(found, Reason)
    assert "Mine is a subclass of a low-bit layer" in found.what


def test_an_activation_with_a_forward_of_its_own() -> None:
    class Own(QActivation):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 1

    layer = linear(Sign())
    layer.activation = Own(Sign(), 0.0)
    found = packable(layer)
    assert isinstance(found, Reason)
    assert "its activation is a Own" in found.what


def test_ranges_that_are_not_set_help_neither_way() -> None:
    layer = linear(InputLSQ(2)).eval()
    found = packable(layer)
    assert isinstance(found, Reason)
    assert not found.partial_helps
    with pytest.raises(ValueError, match=r"the range of InputLSQ.* is not set\. Call bitorch\.calibrate"):
        bitorch.deploy(nn.Sequential(layer).eval(), torch.randn(2, 4), partial=True)


@pytest.mark.parametrize("form", ["unit", "round"])
@pytest.mark.parametrize("bits", [1, 3, 8])
@pytest.mark.parametrize("zero", [0, 1])
def test_steps_are_where_the_codes_change(form: Any, bits: int, zero: int) -> None:
    arithmetic = Arithmetic(
        form,
        bits,
        divide=torch.tensor(0.37),
        plus=torch.tensor([[[0.1]], [[-0.2]]]),
        zero_point=zero,
        step=torch.ones(()),
    )
    steps = arithmetic.steps()
    assert steps.shape == (2**bits - 1, 2, 1, 1)
    below = steps.nextafter(torch.tensor(-torch.inf))
    level = torch.arange(1.0, 2**bits).view(-1, 1, 1, 1)
    finite = steps.isfinite() & (steps > -torch.inf)
    assert finite.any()
    assert bool((arithmetic.stored(steps) >= level)[finite].all())
    assert bool((arithmetic.stored(below) < level)[finite].all())
    assert points(arithmetic).shape[1:] == (2, 1, 1)


def test_points_are_those_of_the_arithmetic_and_the_callers_own() -> None:
    """They are worked out once; the same numbers as of other arithmetics, or after a caller changed them, are not."""
    said: list[dict[str, Any]] = [
        {"form": "unit", "bits": 2},
        {"form": "unit", "bits": 3},
        {"form": "heaviside", "bits": 1},
        {"form": "unit", "bits": 2, "divide": torch.tensor(0.5)},
        {"form": "unit", "bits": 2, "divide": torch.tensor(0.75)},
        {"form": "unit", "bits": 2, "plus": torch.tensor(0.5)},
        {"form": "round", "bits": 2, "zero_point": 1, "step": torch.ones(())},
        {"form": "round", "bits": 2, "zero_point": 2, "step": torch.ones(())},
    ]
    for _ in range(2):
        for one in said:
            arithmetic = Arithmetic(**one)
            found = points(arithmetic)
            steps = arithmetic.steps()
            assert torch.equal(found[: len(steps)], steps), one
            assert torch.equal(found[len(steps) : 2 * len(steps)], steps.nextafter(torch.tensor(-torch.inf))), one
            found.zero_()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "unit", "bits": 9}, "bits must be 1 to 8"),
        ({"form": "sign", "bits": 2}, 'bits must be 1 with form="sign"'),
        ({"form": "unit", "bits": 2, "zero_point": 4}, "zero_point must be a stored code, 0 to 3"),
        ({"form": "round", "bits": 2}, "needs a step"),
        ({"form": "unit", "bits": 2, "divide": torch.tensor(0.0)}, "divide must be above 0"),
        ({"form": "unit", "bits": 2, "divide": torch.tensor(float("nan"))}, "divide must be above 0"),
        ({"form": "unit", "bits": 2, "plus": torch.tensor(float("inf"))}, "plus must be finite"),
        ({"form": "unit", "bits": 2, "step": torch.ones(2)}, "step must be 0-dim"),
    ],
)
def test_numbers_that_are_no_arithmetic(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Arithmetic(**options)
