"""Random models, as users write them, deploy equal or are refused with a sentence that names place and remedy."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bitorch
from bitorch.deployment.capture import listing
from bitorch.deployment.returned import returned
from random_nets import RandomModel


def check(seed: int) -> str:
    """Return what became of a model."""
    model = RandomModel(seed)
    x = model.example(2)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    can = bitorch.can_deploy(model, x)
    if can:
        _is_equal(model, x)
    else:
        with pytest.raises(ValueError, match=re.escape(listing(can.problems))):
            bitorch.deploy(model, x)
        for problem in can.problems:
            assert problem.what
            assert problem.remedy
            assert problem.place or problem.name or "forward" in problem.what, problem
    is_pruned = any(hasattr(module, "weight_mask") for module in model.modules())
    if not is_pruned:
        _in_parts(model, x)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    return "deployed" if can else "refused"


def _is_equal(model: nn.Module, x: Tensor) -> None:
    packed = bitorch.deploy(model, x)
    given = torch.randn(5, *x.shape[1:]) * 2
    with torch.no_grad():
        expected = returned(model(given))
    results = packed(given)
    found = [results] if isinstance(results, Tensor) else list(results.values())
    assert len({spec.name for spec in packed.outputs}) == len(packed.outputs) == len(expected.tensors)
    for spec, name, is_named in zip(packed.outputs, expected.names, expected.named, strict=True):
        assert not is_named or spec.name == name
    assert [tensor.shape for tensor in found] == [tensor.shape for tensor in expected.tensors]
    verification = bitorch.verify(model, packed, given)
    assert verification, str(verification)


def _in_parts(model: nn.Module, x: Tensor) -> None:
    try:
        partial = bitorch.deploy(model, x, partial=True)
    except ValueError as error:
        assert "fails on the example" in str(error)  # noqa: PT017
        return
    assert any(not row.reason for row in copy.deepcopy(partial).rows)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1))
def test_random_models(seed: int) -> None:
    check(seed)


@pytest.mark.slow
def test_a_thousand_random_models() -> None:
    found = [check(seed) for seed in range(1000)]
    assert found.count("deployed") > 400
    assert found.count("refused") > 200
