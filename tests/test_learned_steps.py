"""Learned steps of weights: where they start, that they follow the weights, and that frozen ones stay."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as hook_spectral_norm

import bitorch
from bitorch.layers import QConv2d, QConvTranspose2d, QEmbedding, QLinear, QMultiheadAttention
from bitorch.layers.low_bit import WeightQuantized
from bitorch.quantizations import InputCalibrated, InputLSQ, InputPACT, WeightLSQ, WeightTTQ
from bitorch.quantizations.learned_start import LearnedStart

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")  # the hook-based one is deprecated
BITS = range(2, 9)


def error(w: np.ndarray[Any, Any], step: float, bits: int) -> float:
    """Σ(ŵ − w)²/Σw² by NumPy, float64."""
    low, high = (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    codes = np.where(w >= 0, 1, -1) if bits == 1 else np.clip(np.round(w / step), low, high)
    return float(np.square(codes * step - w).sum() / np.square(w).sum())


def least(w: np.ndarray[Any, Any], bits: int) -> float:
    """The least of a fine search."""
    largest = np.abs(w).max() / max(1, 2 ** (bits - 1) - 1)
    return min(error(w, largest * share / 400, bits) for share in range(1, 441))


def pruned(share: float, how: str, shape: tuple[int, ...] = (100, 50), seed: int = 0) -> Tensor:
    w = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    count = round(share * w.numel())
    order = w.abs().flatten().argsort() if how == "magnitude" else torch.randperm(w.numel())
    w.view(-1)[order[:count]] = 0
    return w


@pytest.mark.parametrize("how", ["magnitude", "random"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("bits", BITS)
def test_on_pruned_weights_the_step_starts_near_the_least_error(bits: int, share: float, how: str) -> None:
    w = pruned(share, how)
    quantizer = WeightLSQ(bits)
    quantizer.initialize_(w)
    found = error(w.double().numpy(), float(quantizer.step.detach()), bits)
    assert found <= 1.1 * least(w.double().numpy(), bits) + 5e-4


def test_four_bits_on_weights_of_which_a_tenth_is_left() -> None:
    w = pruned(0.9, "magnitude", (200, 300)).requires_grad_()
    quantizer = WeightLSQ(4)
    quantizer.initialize_(w)
    value = quantizer(w)
    assert float(((value - w).square().sum() / w.square().sum()).detach()) < 0.004
    value.sum().backward()
    assert w.grad is not None
    assert (w.grad[w != 0] == 1).double().mean() > 0.98  # hardly any is clipped, so they learn


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("bits", range(1, 9))
def test_on_dense_weights_the_step_starts_as_in_the_paper(bits: int, share: float) -> None:
    w = pruned(share, "magnitude")
    quantizer = WeightLSQ(bits)
    quantizer.initialize_(w)
    factor = 2 / math.sqrt(max(1, 2 ** (bits - 1) - 1)) if bits > 1 else 1
    assert float(quantizer.step.detach()) == pytest.approx(float(w.double().abs().mean()) * factor, rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_at_one_bit_the_step_starts_at_the_least_error(share: float) -> None:
    w = pruned(share, "magnitude")
    quantizer = WeightLSQ(1)
    quantizer.initialize_(w)
    step = float(quantizer.step.detach())
    errors = [error(w.double().numpy(), step * factor, 1) for factor in (0.98, 1.0, 1.02)]
    assert errors[1] == min(errors)


@pytest.mark.parametrize("bits", BITS)
def test_channels_are_pruned_each_on_its_own(bits: int) -> None:
    w = torch.stack([pruned(0.9, "magnitude", (400,)), pruned(0, "random", (400,), 1), torch.zeros(400)])
    w = w.view(3, 4, 10, 10)
    quantizer, dense, zeros = WeightLSQ(bits, 3), WeightLSQ(bits), WeightLSQ(bits)
    quantizer.initialize_(w)
    dense.initialize_(w[1:2])
    zeros.initialize_(w[2:])
    steps = quantizer.step.detach()
    assert error(w[0].double().numpy(), float(steps[0]), bits) <= 1.1 * least(w[0].double().numpy(), bits) + 5e-4
    assert float(steps[1]) == pytest.approx(float(dense.step.detach()), rel=1e-6)
    assert float(steps[2]) == pytest.approx(float(zeros.step.detach()), rel=1e-6)
    assert bool((quantizer(w)[2] == 0).all())


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_search_for_the_step_knows_no_scale(bits: int, factor: float) -> None:
    w = pruned(0.9, "magnitude")
    quantizer, scaled = WeightLSQ(bits), WeightLSQ(bits)
    quantizer.initialize_(w)
    scaled.initialize_(w * factor)
    if factor == 1e-30:  # below the smallest step
        assert torch.isfinite(scaled.step)
    else:
        assert float(scaled.step.detach()) == pytest.approx(float(quantizer.step.detach()) * factor, rel=1e-4)


@pytest.mark.parametrize("zeros", [0.9, 0.99])
@pytest.mark.parametrize("quantizer", [InputLSQ(4), InputPACT(4), InputCalibrated(4)], ids=lambda q: type(q).__name__)
def test_a_range_of_inputs_that_are_mostly_zero_is_that_of_the_others(quantizer: Any, zeros: float) -> None:
    others = torch.rand(2000, generator=torch.Generator().manual_seed(0)) + 0.1
    sparse = torch.cat([others, torch.zeros(round(2000 * zeros / (1 - zeros)))])
    ranges = []
    for seen in (others, sparse):
        own = copy.deepcopy(quantizer)
        own.fit_(seen)
        ranges.append(own.limits())
    assert ranges[1] == pytest.approx(ranges[0], rel=1e-3)


# Steps follow the weights.


def lsq(channels: int | None = None) -> dict[str, Any]:
    return {"weight_quantization": WeightLSQ(2, channels), "input_quantization": InputLSQ(4)}


def attention() -> QMultiheadAttention:
    return QMultiheadAttention(8, 2, **lsq())


def narrow_attention() -> QMultiheadAttention:
    return QMultiheadAttention(8, 2, kdim=4, vdim=6, **lsq())


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: QLinear(8, 8, **lsq()),
    "channels": lambda: QLinear(8, 8, **lsq(8)),
    "convolution": lambda: QConv2d(4, 8, 3, **lsq(8)),
    "transposed": lambda: QConvTranspose2d(4, 8, 3, groups=2, **lsq(8)),
    "embedding": lambda: QEmbedding(
        9, embedding_dim=8, weight_quantization=WeightLSQ(2), output_quantization=InputLSQ(4)
    ),
    "attention": attention,
    "narrow attention": narrow_attention,
    "ternary": lambda: QLinear(8, 8, weight_quantization=WeightTTQ(), input_quantization=InputLSQ(4)),
}


def in_proj(layer: nn.Module) -> str:
    if not isinstance(layer, QMultiheadAttention):
        return "weight"
    return "in_proj_weight" if layer.in_proj_weight is not None else "k_proj_weight"


SOURCES: dict[str, Callable[[nn.Module], object]] = {
    "plain": lambda layer: layer,
    "weight_norm": lambda layer: nn.utils.weight_norm(layer, in_proj(layer)),
    "spectral_norm": lambda layer: hook_spectral_norm(layer, in_proj(layer)),
    "pruned": lambda layer: prune.l1_unstructured(layer, in_proj(layer), 0.3),
    "pruned twice": lambda layer: prune.random_unstructured(
        prune.l1_unstructured(layer, in_proj(layer), 0.3), in_proj(layer), 0.2
    ),
    "pruned for good": lambda layer: prune.remove(prune.l1_unstructured(layer, in_proj(layer), 0.3), in_proj(layer)),
    "parametrized weight_norm": lambda layer: parametrizations.weight_norm(layer, in_proj(layer)),
    "parametrized spectral_norm": lambda layer: parametrizations.spectral_norm(layer, in_proj(layer)),
}


def quantized(layer: nn.Module) -> dict[str, WeightQuantized]:
    return {name: module for name, module in layer.named_modules() if isinstance(module, WeightQuantized)}


def are_fresh(layer: nn.Module) -> None:
    """Every step is where it would start with the weight as it is now."""
    for module in quantized(layer).values():
        quantizer = module.weight_quantization
        assert isinstance(quantizer, LearnedStart)
        fresh = copy.deepcopy(quantizer)
        fresh.initialize_(module._quantizer_weight())
        for one, other in zip(quantizer.parameters(), fresh.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=0)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", LAYERS)
def test_steps_start_anew_whatever_key_carries_the_weight(kind: str, source: str) -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(LAYERS[kind]())
    SOURCES[source](model[0])
    model.eval()  # in training a spectral norm is another one at each read
    before = {name: [p.clone() for p in m.weight_quantization.parameters()] for name, m in quantized(model).items()}
    state = {}
    for key, value in model.state_dict().items():
        if "quantization" not in key and "activation" not in key:
            is_size = value.is_floating_point() and not key.endswith(("mask", "_u", "_v")) and ".0._" not in key
            is_size = is_size or (key.endswith("weight_v") and source == "weight_norm")
            state[key] = 100 * value if is_size else value
    model.load_state_dict(state, strict=True)
    are_fresh(model)
    if "spectral" in source:  # whatever the size, the largest singular value is 1
        return
    for name, module in quantized(model).items():
        for old, new in zip(before[name], module.weight_quantization.parameters(), strict=True):
            if source in ("plain", "parametrized weight_norm", "weight_norm") and "out_proj" not in name:
                assert bool((new.abs() > 50 * old.abs()).all()) or "attention" in kind


@pytest.mark.parametrize("source", ["plain", "weight_norm", "pruned", "parametrized weight_norm"])
def test_trained_steps_load_as_they_were(source: str) -> None:
    model: Any = nn.Sequential(QLinear(8, 8, **lsq()))
    other: Any = nn.Sequential(QLinear(8, 8, **lsq()))
    for each in (model, other):
        SOURCES[source](each[0])
    with torch.no_grad():
        model[0].weight_quantization.step.mul_(1.7)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other[0].weight_quantization.step, model[0].weight_quantization.step)
    assert not other[0].weight_quantization.is_untrained


@pytest.mark.parametrize("source", ["weight_norm", "pruned"])
def test_a_conversion_starts_by_the_weight_that_was_loaded(source: str) -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    for layer in model:
        SOURCES[source](layer)
    state = {
        key: value if key.endswith(("mask", "weight_v")) else 100 * value for key, value in model.state_dict().items()
    }
    model.load_state_dict(state)  # and nothing has been run since
    bitorch.quantize_(model, bitorch.LowBitConfig(2, 4, range="learned", first="same", last="same"))
    are_fresh(model)
    assert all(float(layer.weight_quantization.step.detach()) > 5 for layer in model)


def learned_net(**options: Any) -> Any:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 3))
    bitorch.quantize_(model, bitorch.LowBitConfig(2, 4, first="same", last="same", range="learned", **options))
    return model


def inputs() -> Tensor:
    return torch.rand(32, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scale", ["layer", "channel"])
@pytest.mark.parametrize("factor", [0.01, 100.0])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_calibrate_starts_untrained_steps_anew_and_check_names_them(bits: int, factor: float, scale: str) -> None:
    model = learned_net(weight_scale=scale)
    bitorch.set_bits(model, (bits, 4))
    bitorch.calibrate(model, [inputs()])
    assert not [f for f in bitorch.check(model, inputs()).findings if f.what == "step does not fit the weight"]
    nn.init.normal_(model[3].weight, std=factor)
    (finding,) = [f for f in bitorch.check(model, inputs()).findings if f.what == "step does not fit the weight"]
    assert finding.layer == "3"
    assert "bitorch.calibrate(model, batches)" in finding.remedy
    steps = {index: model[index].weight_quantization.step.clone() for index in (0, 4)}
    result = bitorch.calibrate(model, [inputs()])
    assert result.renewed == ("3",)
    assert "weight steps started anew: 3" in str(result)
    are_fresh(model)
    assert all(torch.equal(model[index].weight_quantization.step, step) for index, step in steps.items())
    assert not [f for f in bitorch.check(model, inputs()).findings if f.what == "step does not fit the weight"]
    assert bitorch.calibrate(model, [inputs()]).renewed == ()


def test_calibrate_leaves_trained_steps_and_check_says_what_to_do() -> None:
    model = learned_net()
    bitorch.calibrate(model, [inputs()])
    quantizer = model[3].weight_quantization
    with torch.no_grad():
        quantizer.step.mul_(1.01)
    nn.init.normal_(model[3].weight, std=100)
    step = quantizer.step.clone()
    assert bitorch.calibrate(model, [inputs()]).renewed == ()
    assert torch.equal(quantizer.step, step)
    (finding,) = [f for f in bitorch.check(model, inputs()).findings if f.what == "step does not fit the weight"]
    assert "load_state_dict" in finding.remedy
    assert finding.figure > 0.5
    model.load_state_dict({"3.weight": model[3].weight.detach()}, strict=False)  # the remedy
    are_fresh(nn.Sequential(model[3]))
    assert not [f for f in bitorch.check(model, inputs()).findings if f.what == "step does not fit the weight"]


def test_a_trained_step_is_no_false_alarm() -> None:
    model = learned_net()
    bitorch.calibrate(model, [inputs()])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    labels = torch.arange(32) % 3
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs()), labels).backward()
        optimizer.step()
    steps = [model[index].weight_quantization.step.clone() for index in (0, 3, 4)]
    assert not any(model[index].weight_quantization.is_untrained for index in (0, 3, 4))
    assert not [f for f in bitorch.check(model, inputs()).findings if f.what == "step does not fit the weight"]
    bitorch.calibrate(model, [inputs()])
    assert all(torch.equal(model[i].weight_quantization.step, s) for i, s in zip((0, 3, 4), steps, strict=True))


def test_calibrate_takes_a_net_with_learned_weight_steps_alone() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 3))
    bitorch.quantize_(model, bitorch.LowBitConfig(2, 4, first="same", last="same", weights="lsq"))
    nn.init.normal_(model[0].weight, std=100)
    result = bitorch.calibrate(model, [inputs()])
    assert result.ranges == ()
    assert result.renewed == ("0",)
    are_fresh(model)


@pytest.mark.parametrize("was", [4, 8])
def test_other_bits_on_pruned_weights_leave_a_step_that_calibrate_renews(was: int) -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 3))
    prune.l1_unstructured(model[0], "weight", 0.9)
    bitorch.quantize_(model, bitorch.LowBitConfig(was, 4, first="same", last="same", weights="lsq"))
    bitorch.set_bits(model, (2, 4))
    assert model[0].weight_quantization.is_untrained
    renewed = bitorch.calibrate(model, [torch.rand(8, 32)]).renewed
    assert renewed in ((), ("0",))
    w = model[0].weight.detach()
    step = float(model[0].weight_quantization.step.detach())
    assert error(w.double().numpy(), step, 2) <= 1.5 * least(w.double().numpy(), 2) + 0.02
    assert bitorch.calibrate(model, [torch.rand(8, 32)]).renewed == ()


# Frozen layers get frozen steps.

CONFIGS: list[dict[str, Any]] = [
    {"range": "learned"},
    {"range": "learned", "learned_by": "lsq+", "weight_scale": "channel"},
    {"range": "learned", "learned_by": "pact"},
    {"weights": "ttq", "weight_bits": 2},
    {"sign": "rsign", "activation_bits": 1},
    {"range": "calibrated", "weights": "lsq"},
]


def backbone_and_head() -> Any:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 16))
    return nn.Sequential(backbone, nn.Linear(16, 16), nn.Linear(16, 3))


def config(**options: Any) -> bitorch.LowBitConfig:
    given = {"weight_bits": 2, "activation_bits": 4, "first": "same", "last": "same", **options}
    return bitorch.LowBitConfig(**given)


@pytest.mark.parametrize("options", CONFIGS, ids=str)
def test_a_frozen_backbone_gets_frozen_steps(options: dict[str, Any]) -> None:
    model = backbone_and_head()
    model[0].requires_grad_(False)
    bitorch.quantize_(model, config(**options))
    assert not any(p.requires_grad for p in model[0].parameters())
    assert all(p.requires_grad for p in model[1:].parameters())
    if options.get("range", "unit") != "unit":
        bitorch.calibrate(model, [inputs()])
    bitorch.set_bits(model, (2, None))
    assert not any(p.requires_grad for p in model[0].parameters())
    before = {name: value.clone() for name, value in model[0].named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(inputs()).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model[0].named_parameters())
    model.requires_grad_(True)
    assert all(p.requires_grad for p in model.parameters())


def test_rules_and_frozen_parts_of_an_attention() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    assert layer.in_proj_weight is not None
    layer.in_proj_weight.requires_grad_(False)
    model = nn.ModuleDict({"attention": layer, "head": nn.Linear(8, 2)})
    with torch.no_grad():  # where a view of a parameter does not require a gradient
        bitorch.quantize_(model, [("*", config(range="learned", learned_by="lsq+"))])
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in model.named_parameters():
        if "quantization" in name or "activation" in name:
            assert parameter.requires_grad == ("projection" not in name), name
    assert "attention.out_proj.weight_quantization.step" in trained


@pytest.mark.parametrize("source", ["weight_norm", "pruned", "spectral_norm"])
@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_computed_weight_is_frozen_as_what_it_comes_from(source: str, is_frozen: bool) -> None:
    model: Any = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    for layer in model:
        SOURCES[source](layer)
    model.requires_grad_(not is_frozen)
    with torch.no_grad():
        model(torch.rand(2, 8))
        bitorch.quantize_(model, config(range="learned"))
    assert all(p.requires_grad != is_frozen for p in model.parameters())


def test_a_frozen_embedding_and_a_layer_whose_bias_trains() -> None:
    table = nn.Embedding.from_pretrained(torch.randn(5, 8))
    layer = nn.Linear(8, 8)
    layer.weight.requires_grad_(False)
    model: Any = nn.Sequential(table, layer, nn.Linear(8, 2))
    bitorch.quantize_(model, config(range="learned"))
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        "1.bias",
        *(f"2.{name}" for name, _ in model[2].named_parameters()),
    }


def test_parametrized_layers_are_named_with_the_remedy() -> None:
    model: Any = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    kept = parametrizations.orthogonal(nn.Conv2d(4, 4, 1, bias=False))
    conversion = bitorch.quantize_(nn.Sequential(model, kept), config())
    first, second, third = conversion.layers
    remedy = "first torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
    assert (first.name, first.layer, first.shape, first.became) == ("0.0", "ParametrizedLinear", (4, 4), "float")
    assert (third.name, third.shape, third.became) == ("1", (4, 4, 1, 1), "float")
    assert remedy in first.note
    assert remedy in third.note
    assert second.became == "QLinear"
    parametrize.remove_parametrizations(model[0], "weight")  # the remedy
    assert bitorch.quantize_(nn.Sequential(model), config()).layers[0].became == "QLinear"


def test_without_any_other_layer_the_error_names_them() -> None:
    model: Any = nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(4, 4)), parametrizations.weight_norm(nn.Linear(4, 4))
    )
    calls: list[Callable[[], object]] = [
        lambda: bitorch.quantize_(model, config()),
        lambda: bitorch.set_bits(model, (2, 2)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"\(0: its weight is parametrized; first torch.*; 1: its weight is"):
            call()
    with pytest.raises(ValueError, match=r"filter_fn names '0', which stays float: its weight is parametrized"):
        bitorch.quantize_(nn.Sequential(*model, nn.Linear(4, 4)), config(), ["0"])


@pytest.mark.parametrize("change", [lambda m: bitorch.set_bits(m, (1, 1)), bitorch.float_])
def test_a_low_bit_layer_that_was_parametrized_is_named(change: Callable[[nn.Module], object]) -> None:
    model: Any = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    bitorch.quantize_(model, config(range="learned"))
    parametrizations.weight_norm(model[1])
    bits = [layer.weight_quantization.bit_width for layer in model]
    with pytest.raises(ValueError, match=r"layer '1'.*parametrized; first torch.nn.utils.parametrize.remove_param"):
        change(model)
    assert [layer.weight_quantization.bit_width for layer in model] == bits
    parametrize.remove_parametrizations(model[1], "weight")
    change(model)
