"""A low-bit layer in eval mode computes the codes of its weight once, and anew whenever anything has changed."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from bitorch import LowBitConfig, float_, quantize_, set_bits
from bitorch.kept import Kept
from bitorch.layers import QConv2d, QLinear
from bitorch.layers.low_bit import LowBit
from bitorch.quantizations import (
    InputDoReFa,
    Quantization,
    Sign,
    WeightAbsMean,
    WeightDoReFa,
    WeightLSQ,
    WeightPowerOfTwo,
    WeightSEQ,
    WeightTTQ,
    WeightTWN,
)
from bitorch.quantizations.names import built_in_quantizers

# While it traces an autograd.Function, torch._dynamo makes an instance of it, against which autograd warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))


def layer(quantizer: Quantization | None = None) -> QLinear:
    torch.manual_seed(0)
    quantizer = WeightDoReFa(2) if quantizer is None else quantizer
    return QLinear(8, 6, input_quantization=InputDoReFa(2), weight_quantization=quantizer).eval()


def kept(module: LowBit) -> object:
    """What a layer keeps."""
    place = module.__dict__["_weight_codes"]
    assert isinstance(place, Kept)
    return place.made


def fresh(module: LowBit, x: Tensor = X) -> Tensor:
    """What a copy computes, which keeps nothing."""
    clone = copy.deepcopy(module)
    assert kept(clone) is None
    with torch.no_grad():
        y: Tensor = clone(x)
    return y


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often codes are made: one number for each time."""
    times: list[int] = []
    from bitorch.layers import kept_codes

    make = kept_codes.WeightCodes

    def record(*arguments: Any) -> Any:
        times.append(len(times))
        return make(*arguments)

    monkeypatch.setattr(kept_codes, "WeightCodes", record)
    return times


@pytest.mark.parametrize("quantizer", [WeightDoReFa(1, variant="paper"), WeightDoReFa(4), WeightLSQ(2), Sign()])
def test_codes_are_made_once(quantizer: Quantization, made: list[int]) -> None:
    module = layer(quantizer)
    expected = fresh(module)
    made.clear()
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(module(X), expected)
        with torch.inference_mode():
            assert torch.equal(module(X), expected)
    assert made == [0]


def _write(change: Callable[[Tensor], object]) -> Callable[[QLinear], object]:
    def run(module: QLinear) -> object:
        with torch.no_grad():
            return change(module.weight)

    return run


def _other_state(module: QLinear) -> object:
    return module.load_state_dict({name: value * -0.7 for name, value in module.state_dict().items()})


def _step(module: QLinear) -> object:
    optimizer = torch.optim.SGD(module.parameters(), lr=10.0)
    module(X).square().sum().backward()
    return optimizer.step()


CHANGES: dict[str, Callable[[QLinear], object]] = {
    "in place": _write(lambda weight: weight.neg_()),
    "one number": _write(lambda weight: weight[3, 5].fill_(9.0)),
    "data": _write(lambda weight: weight.data.neg_()),
    "numpy": _write(lambda weight: weight.detach().numpy().__imul__(-1)),
    "another tensor as data": lambda module: setattr(module.weight, "data", -module.weight.data),
    "another parameter": lambda module: setattr(module, "weight", nn.Parameter(-module.weight.detach())),
    "state_dict": _other_state,
    "state_dict, assigned": lambda module: module.load_state_dict(
        {name: value * -0.7 for name, value in module.state_dict().items()}, assign=True
    ),
    "optimizer": _step,
    "bits": lambda module: module.weight_quantization.set_bits_(4),
    "another quantizer": lambda module: setattr(module, "weight_quantization", Sign()),
    "float64": lambda module: module.double(),
    "bfloat16": lambda module: module.to(torch.bfloat16),
    "pruned": lambda module: prune.l1_unstructured(module, "weight", 0.5),
    "parametrized": parametrizations.weight_norm,
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("quantizer", [WeightDoReFa(2), WeightLSQ(2)], ids=str)
def test_every_change_is_seen(name: str, quantizer: Quantization) -> None:
    if name in ("float64", "bfloat16") and isinstance(quantizer, WeightLSQ):
        pytest.skip("the same case")
    module = layer(copy.deepcopy(quantizer))
    with torch.no_grad():
        before = module(X)
    CHANGES[name](module)
    module.eval()
    with torch.no_grad():
        module(X)  # which a hook of a pruned weight computes it in
        after = module(X)
    torch.testing.assert_close(after, fresh(module), rtol=0, atol=0)
    if name not in ("float64", "bfloat16", "pruned", "parametrized"):
        assert not torch.equal(after, before)


def test_learned_steps_are_among_what_changes() -> None:
    module = layer(WeightLSQ(4))
    with torch.no_grad():
        before = module(X)
        for parameter in module.weight_quantization.parameters():
            parameter.data.mul_(3)
        assert not torch.equal(module(X), before)
        assert torch.equal(module(X), fresh(module))


def test_gradients_in_eval_mode() -> None:
    module = layer()
    with torch.no_grad():
        y = module(X)
    x = X.clone().requires_grad_()
    again = module(x)
    assert torch.equal(again, y)
    again.square().sum().backward()
    twin = copy.deepcopy(module)
    twin.zero_grad()
    twin.train()
    x_twin = X.clone().requires_grad_()
    twin(x_twin).square().sum().backward()
    for one, other in ((x.grad, x_twin.grad), (module.weight.grad, twin.weight.grad)):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_a_frozen_layer_passes_gradients_with_what_inference_mode_has_made() -> None:
    module = layer().requires_grad_(False)
    with torch.inference_mode():
        module(X)
    x = X.clone().requires_grad_()
    module(x).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.any())


def test_training_keeps_nothing() -> None:
    module = layer()
    with torch.no_grad():
        module(X)
        assert kept(module) is not None
        module.train()
        assert kept(module) is None
        module(X)
    assert kept(module) is None


def test_copies_and_files_keep_nothing() -> None:
    module = layer()
    with torch.no_grad():
        y = module(X)
    state = module.state_dict()
    for clone in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert kept(clone) is None
        with torch.no_grad():
            assert torch.equal(clone(X), y)
    assert state.keys() == {"weight", "bias"}
    assert len(pickle.dumps(module)) == len(pickle.dumps(copy.deepcopy(module)))
    restored = nn.Sequential(module)
    float_(restored)
    assert "_weight_codes" not in vars(restored[0])


def test_functional_call_and_transforms() -> None:
    module = layer()
    other = {name: value.detach() * -0.7 for name, value in module.state_dict().items()}
    with torch.no_grad():
        y = module(X)
        called = torch.func.functional_call(module, other, (X,))
        assert not torch.equal(called, y)
        assert torch.equal(module(X), y)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert torch.equal(compiled(X), y)
        module.weight.data.neg_()
        assert torch.equal(compiled(X), fresh(module))
    torch._dynamo.reset()


class Noisy(WeightDoReFa):
    """Depends on more than the numbers of its weight."""

    def codes(self, x: Tensor) -> Tensor:
        return super().codes(x + torch.randn_like(x))


def test_quantizers_of_the_user_are_asked_at_every_call(made: list[int]) -> None:
    module = layer(Noisy(4))
    with torch.no_grad():
        assert not torch.equal(module(X), module(X))
    patched = layer()
    patched.weight_quantization.codes = lambda x: torch.ones_like(x) * 3  # type: ignore[method-assign]
    patched.weight_quantization.quantize = lambda x: torch.ones_like(x)  # type: ignore[method-assign]
    with torch.no_grad():
        patched(X)
    assert made == []


@pytest.mark.parametrize(
    "quantizer",
    [
        WeightSEQ(2),
        WeightTWN(),
        WeightAbsMean(),
        WeightTTQ(),
        WeightPowerOfTwo(3),
        WeightDoReFa(3, variant="paper", per_channel=True),
    ],
)
def test_convolutions_keep_codes_too(quantizer: Quantization) -> None:
    assert type(quantizer) in built_in_quantizers.values()
    module = QConv2d(3, 4, 3, input_quantization=InputDoReFa(2), weight_quantization=quantizer).eval()
    image = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        y = module(image)
        assert torch.equal(module(image), y)
        module.weight.data[2].mul_(-1)
        assert not torch.equal(module(image), y)


def test_a_converted_model_follows_its_bits() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    quantize_(model, LowBitConfig(2, 2, first="same", last="same"))
    with torch.no_grad():
        before = model(X)
        set_bits(model, (4, 2))
        after = model(X)
        assert torch.equal(after, copy.deepcopy(model)(X))
        assert not torch.equal(before, after)
