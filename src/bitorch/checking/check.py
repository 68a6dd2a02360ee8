"""`bitorch.check`."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..data import to_float
from ..in_place import check_module
from .diagnose import (
    activation_findings,
    non_finite_findings,
    parameter_findings,
    unset_findings,
    weight_findings,
    zero_gradient_findings,
)
from .findings import Check, Finding
from .layers import named_layers
from .non_finite import floats_in, is_finite, watch
from .observe import input_quantizer, observe


def check(model: nn.Module, batch: Tensor | Sequence[Tensor], loss: Callable[..., Tensor] | None = None) -> Check:
    """Run one batch forward and backward, as training would, and name what will go wrong, layer by layer.

    The batch runs on a deep copy in training mode: the model's parameters, buffers, modes, hooks and random number
    generators stay as they are.

    Args:
        model: any module; only what is quantized is looked at for ranges and levels.
        batch: inputs [B, …], or a pair of inputs and labels [B]. uint8 images become float in [0, 1].
        loss: function of outputs and labels, or of outputs alone where the batch has no labels. None: cross-entropy
            with labels, and else a random direction of the outputs, which has a gradient everywhere.

    Returns:
        The findings; false in a condition if there is a problem.

    Raises:
        TypeError: a model that is no module, a batch that is no tensor or pair of tensors, outputs without a tensor.
        ValueError: a model without a shape yet, or a batch of fewer than 2 samples, which BatchNorm needs.
    """
    check_module(model)
    if any(is_lazy(p) for p in model.parameters()):
        raise ValueError("the model has layers without a shape; run one batch through it first")
    inputs, labels = _parts(batch)
    device = next((p.device for p in model.parameters()), inputs.device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        findings = _findings(
            _copy(model).train(), inputs.to(device), None if labels is None else labels.to(device), loss
        )
    order = {name: index for index, (name, _) in enumerate(model.named_modules())}
    layers = sum(input_quantizer(module) is not None for _, module in named_layers(model))
    return Check(tuple(sorted(findings, key=lambda finding: order[finding.layer])), layers)


def _parts(batch: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Return inputs and labels."""
    if not isinstance(batch, Tensor | tuple | list):
        raise TypeError(
            f"batch must be a tensor, or a pair of tensors (inputs, labels), got {type(batch).__name__}; "
            "next(iter(loader)) is one batch of a loader"
        )
    parts = [batch] if isinstance(batch, Tensor) else list(batch)
    if not 1 <= len(parts) <= 2 or not all(isinstance(part, Tensor) for part in parts):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise TypeError(f"batch must be a tensor, or a pair of tensors (inputs, labels), got ({kinds})")
    inputs = to_float(parts[0]) if parts[0].dtype == torch.uint8 else parts[0]
    if inputs.dim() == 0 or len(inputs) < 2:
        raise ValueError(f"batch must have at least 2 samples, which BatchNorm needs, got inputs {list(inputs.shape)}")
    if len(parts) == 2 and len(parts[1]) != len(inputs):
        raise ValueError(f"batch has {len(inputs)} inputs and {len(parts[1])} labels; there must be as many")
    return inputs, parts[1] if len(parts) == 2 else None


def _copy(model: nn.Module) -> nn.Module:
    """Return a deep copy whose explicit generators are copies, too."""
    twin = copy.deepcopy(model)
    twin.zero_grad(set_to_none=True)
    return twin


def _findings(
    model: nn.Module, inputs: Tensor, labels: Tensor | None, loss: Callable[..., Tensor] | None
) -> list[Finding]:
    found = [*parameter_findings(model), *unset_findings(model)]
    if inputs.is_floating_point() and not is_finite(inputs):
        bad = int((~inputs.isfinite()).sum())
        detail = f"{bad} of the {inputs.numel()} numbers of the batch are not finite"
        found.append(Finding("", "non-finite input", bad, detail, "clean the data"))
    if found:  # the numbers behind them mean nothing, or there are none
        return found
    with torch.enable_grad(), watch(model) as first, observe(model) as observations:
        value = _loss(model(inputs), labels, loss)
        if value.requires_grad:
            value.backward()
    found = non_finite_findings(first, value.detach())
    worst: dict[tuple[str, str], Finding] = {}
    for observation in observations:  # a layer that is called several times has one finding of each kind
        for finding in activation_findings(observation):
            known = worst.get((finding.layer, finding.what))
            if known is None or finding.figure > known.figure:
                worst[finding.layer, finding.what] = finding
    found += [*worst.values(), *weight_findings(model)]
    if first.output is not None:
        return found
    return [*found, *_zero_gradients(model, lambda: _loss(model(inputs), labels, loss).backward())]


def _zero_gradients(model: nn.Module, run: Callable[[], None]) -> list[Finding]:
    """Return the layers without a gradient; as notes those that only a normalization with a weight of 0 keeps from it.

    Residual blocks often start so, and the first step ends it.
    """
    zero = zero_gradient_findings(model)
    silent = [weight for weight in _normalization_weights(model) if not weight.any()]
    if not zero or not silent:
        return zero
    with torch.no_grad():
        for weight in silent:
            weight.fill_(1)
    model.zero_grad(set_to_none=True)
    with torch.enable_grad():
        run()
    lasting = {finding.layer for finding in zero_gradient_findings(model)}
    return [finding if finding.layer in lasting else _at_the_start(finding) for finding in zero]


def _normalization_weights(model: nn.Module) -> list[Tensor]:
    """Return the weights of BatchNorm, LayerNorm and the like, of subclasses too."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
    return [m.weight for m in model.modules() if isinstance(m, kinds) and isinstance(m.weight, Tensor)]


def _at_the_start(finding: Finding) -> Finding:
    detail = "the gradient of its weight is exactly zero, as a normalization behind it still has a weight of 0"
    remedy = "nothing: the first step changes that weight, and then this layer learns"
    return dataclasses.replace(finding, detail=detail, remedy=remedy, is_note=True)


def _loss(outputs: Any, labels: Tensor | None, loss: Callable[..., Tensor] | None) -> Tensor:
    if loss is not None:
        value = loss(outputs) if labels is None else loss(outputs, labels)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise TypeError(f"loss must return a tensor of one number, got {value!r}")
        return value
    if labels is not None:
        if not isinstance(outputs, Tensor):
            raise TypeError(
                f"the model returns a {type(outputs).__name__}, not logits; pass a loss of it and the labels"
            )
        return F.cross_entropy(outputs, labels)
    tensors = floats_in(outputs)
    if not tensors:
        raise TypeError(
            f"the model returns a {type(outputs).__name__} without a floating-point tensor; pass a loss of it"
        )
    return torch.stack([(tensor * torch.randn_like(tensor)).mean() for tensor in tensors]).sum()
