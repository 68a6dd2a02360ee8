"""Random models, as users write them, deploy equal or are refused with a sentence that names place and remedy.

And no public call lets anything else out than ValueError and TypeError, whatever was done to the model.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import bitorch
import bitorch_runtime
from bitorch.deployment.capture.capture import listing
from bitorch.deployment.capture.returned import returned
from bitorch.quantizations import RangeQuantization
from habit_nets import HabitNet
from random_models import RandomModel

FEW = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
_SPECIAL = torch.tensor([torch.inf, -torch.inf, 0.0, -0.0, 1e-45, -1e-40, 3e38, -3e38])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nets") / "net.bit.safetensors"


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a public call gives, or its refusal; everything else it may raise is a failure."""
    refusal: Exception
    try:
        return call()
    except (ValueError, TypeError) as error:
        refusal = error
    assert len(str(refusal)) > 20, f"a raw message: {refusal!r}"
    return refusal


def special(shape: torch.Size, seed: int) -> Tensor:
    """Inputs with infinities, zeros of both signs, subnormals and huge numbers among ordinary ones."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    chosen = _SPECIAL[torch.randint(0, len(_SPECIAL), shape, generator=generator)]
    return torch.where(torch.rand(shape, generator=generator) < 0.1, chosen, x)


def check(model: RandomModel | HabitNet, seed: int, path: Path) -> str:
    """Put a model through the public calls; return what became of it."""
    x = model.example(3)
    if any(isinstance(module, RangeQuantization) and not module.is_set for module in model.modules()):
        outcome(lambda: bitorch.calibrate(model, [model.example(16)]))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    outcome(lambda: str(bitorch.check(model, (x, torch.arange(len(x)) % 2))))
    outcome(lambda: str(bitorch.report(model, x)))
    if seed % 8 == 0:
        _evaluate(model)
    can = bitorch.can_deploy(model, x)
    if can:
        _is_equal(model, x, seed, path)
    else:
        with pytest.raises(ValueError, match=re.escape(listing(can.problems))):
            bitorch.deploy(model, x)
        for problem in can.problems:
            assert problem.what
            assert problem.remedy
            assert problem.place or problem.name or "forward" in problem.what, problem
    _in_parts(model, x)
    assert all(
        torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items() if not tensor.isnan().any()
    )
    return "deployed" if can else "refused"


def _evaluate(model: RandomModel | HabitNet) -> None:
    """The calls that try other bits, and, on copies, those that change a model."""
    x = model.example(8)
    data = [(x, torch.arange(8) % 2)]
    outcome(lambda: str(bitorch.sensitivity(model, data, [2])))
    outcome(lambda: str(bitorch.allocate(model, data, bitorch.Budget(bytes=10_000))))


def _is_equal(model: RandomModel | HabitNet, x: Tensor, seed: int, path: Path) -> None:
    packed = bitorch.deploy(model, x)
    packed.save(path)
    loaded = bitorch_runtime.load(path)
    for given_x in (torch.randn(5, *x.shape[1:]) * 2, special(torch.Size((4, *x.shape[1:])), seed)):
        with torch.no_grad():
            expected = returned(model(given_x))
        results, again = packed(given_x), loaded(given_x.numpy())
        found = [results] if isinstance(results, Tensor) else list(results.values())
        same = list(again.values()) if isinstance(again, dict) else [again]
        assert len({spec.name for spec in packed.outputs}) == len(packed.outputs) == len(expected.tensors)
        for spec, name, is_named in zip(packed.outputs, expected.names, expected.named, strict=True):
            assert not is_named or spec.name == name
        assert [tensor.shape for tensor in found] == [tensor.shape for tensor in expected.tensors]
        for own, other in zip(found, same, strict=True):
            np.testing.assert_array_equal(own.numpy(), other)
        verification = bitorch.verify(model, packed, given_x)
        assert verification, str(verification)


def _in_parts(model: RandomModel | HabitNet, x: Tensor) -> None:
    partial = outcome(lambda: bitorch.deploy(model, x, partial=True))
    if not isinstance(partial, Exception):
        assert any(not row.reason for row in copy.deepcopy(partial).rows)


@FEW
@given(seed=st.integers(0, 2**32 - 1))
@example(seed=433)  # a mean of numbers that cancel
def test_random_models(seed: int, path: Path) -> None:
    check(RandomModel(seed), seed, path)


@FEW
@given(seed=st.integers(0, 2**32 - 1))
@example(seed=626)  # weight_norm of zeros
def test_nets_with_habits(seed: int, path: Path) -> None:
    check(HabitNet(seed), seed, path)


@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_nets_with_habits_change_their_bits_and_back(seed: int) -> None:
    net = HabitNet(seed)
    outcome(lambda: str(bitorch.set_bits(net, bitorch.Bits(weight=4, activation=4))))
    outcome(lambda: str(bitorch.float_(net)))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "deployed", "refused"), [(RandomModel, 400, 200), (HabitNet, 500, 100)])
def test_a_thousand(kind: type[RandomModel] | type[HabitNet], deployed: int, refused: int, path: Path) -> None:
    found = [check(kind(seed), seed, path) for seed in range(1000)]
    assert found.count("deployed") > deployed
    assert found.count("refused") > refused
