"""From what was seen to findings, one function for each kind."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..layers.low_bit import WeightQuantized
from ..lost_zeros import lost_zeros
from ..quantizations.own_values import codes_are_values
from ..quantizations.range_fit import SMALLEST
from ..quantizations.ranges import RangeQuantization
from ..quantizations.sign_grid import SignGrid
from .findings import Finding
from .layers import named_layers
from .non_finite import FirstNonFinite, is_finite
from .observe import Observation, input_quantizer
from .steps import stale_step

#: Shares of an input from which on a layer learns badly. Behind a BatchNorm, which can learn to move its output, more
#: may be saturated: maxima of four normal numbers exceed 1 half of the time.
_SATURATED = 0.5
_SATURATED_NORMALIZED = 0.9
_DEAD = 0.99
#: An input is far from its range if it varies by less than this share of a step, or lies this many ranges away.
_TOO_NARROW = 0.25
_TOO_WIDE = 4.0
#: Fewer negative inputs than this are no loss.
_NEGATIVE = 0.01

_BATCH_NORM = "put a BatchNorm between the convolution and this layer"
_KEEP_ZEROS = 'take weights with a level at 0: weights="twn" or "absmean" with 2 bits, or weights="lsq" with 2 or more'
_LOWER_LR = "look for NaN or huge values in the data, and lower the learning rate or give the gradients more bits"


def activation_findings(seen: Observation) -> list[Finding]:
    """Return what is wrong with a quantizer's input; of several causes for the same thing, the nearest."""
    found = [_collapsed(seen) or _relu_before_sign(seen) or _dead(seen) or _saturated(seen) or _one_level(seen)]
    found.append(_no_normalization(seen))
    found.append(_negative_inputs(seen))
    return [finding for finding in found if finding is not None]


def _fit_the_range(seen: Observation) -> str:
    if isinstance(seen.quantizer, RangeQuantization):
        return "calibrate again on batches like this one: bitorch.calibrate(model, batches)"
    return 'use range="calibrated" or "learned" with bitorch.calibrate'


def _collapsed(seen: Observation) -> Finding | None:
    if seen.step is None or SMALLEST < seen.step < math.inf:
        return None
    detail = f"one step of the input's range is {seen.step:g}"
    remedy = "calibrate on batches whose activations differ, or lower the learning rate of the ranges"
    return Finding(seen.layer, "collapsed range", seen.step, detail, remedy)


def _relu_before_sign(seen: Observation) -> Finding | None:
    if not isinstance(seen.quantizer, SignGrid) or seen.level is None or seen.lowest < 0:
        return None
    detail = f"no input is below 0 (the lowest is {seen.lowest:.3g}), so each becomes +1"
    remedy = "take out the ReLU in front of this layer, or use 0/1 activations (InputDoReFa with 1 bit)"
    return Finding(seen.layer, "ReLU before a sign", seen.lowest, detail, remedy)


def _dead(seen: Observation) -> Finding | None:
    if seen.zero < _DEAD:
        return None
    detail = f"{seen.zero:.1%} of the inputs become 0 (mean {seen.mean:.3g}, standard deviation {seen.std:.3g})"
    if seen.negative > _DEAD:
        remedy = f"nearly all of them are negative: {_BATCH_NORM}, or look at its weight and bias"
    else:
        remedy = f"they are smaller than half a step: {_BATCH_NORM}, or {_fit_the_range(seen)}"
    return Finding(seen.layer, "dead activations", seen.zero, detail, remedy)


def _one_level(seen: Observation) -> Finding | None:
    if seen.level is None:
        return None
    detail = f"all inputs become {seen.level:.3g} (mean {seen.mean:.3g}, standard deviation {seen.std:.3g})"
    return Finding(
        seen.layer, "activations at one level", seen.level, detail, f"{_BATCH_NORM}, or {_fit_the_range(seen)}"
    )


def _saturated(seen: Observation) -> Finding | None:
    if seen.upper is None or seen.above <= _SATURATED:
        return None
    detail = f"{seen.above:.0%} of the inputs are above the range's end {seen.upper:.3g} and get no gradient"
    if seen.comes_from.is_normalized:
        is_note = seen.above <= _SATURATED_NORMALIZED
        return Finding(seen.layer, "saturated activations", seen.above, detail, _fit_the_range(seen), is_note)
    return Finding(seen.layer, "saturated activations", seen.above, detail, f"{_BATCH_NORM}, or {_fit_the_range(seen)}")


def _no_normalization(seen: Observation) -> Finding | None:
    if seen.comes_from.is_normalized or seen.step is None:
        return None
    if seen.upper is None:
        is_far = abs(seen.mean) > _TOO_WIDE * seen.std
    else:
        is_far = seen.std < _TOO_NARROW * seen.step or max(seen.std, abs(seen.mean)) > _TOO_WIDE * seen.upper
    if not is_far:
        return None
    place = "a sign's threshold 0" if seen.upper is None else f"the range 0 … {seen.upper:.3g}"
    detail = f"mean {seen.mean:.3g} and standard deviation {seen.std:.3g} are far from {place}"
    return Finding(seen.layer, "no normalization", seen.std, detail, f"{_BATCH_NORM}, or {_fit_the_range(seen)}")


def _negative_inputs(seen: Observation) -> Finding | None:
    clips = seen.quantizer.clips_negative and codes_are_values(seen.quantizer)
    if not clips or seen.comes_from.has_absorbed_relu or seen.negative < _NEGATIVE:
        return None
    detail = f"{seen.negative:.0%} of the inputs are below 0 and become 0, as behind a ReLU"
    remedy = 'nothing, if that is meant; else range="learned", learned_by="lsq+", or a float layer'
    return Finding(seen.layer, "negative inputs are lost", seen.negative, detail, remedy, is_note=True)


@torch.no_grad()
def weight_findings(model: nn.Module) -> list[Finding]:
    """Return the layers whose quantized weight has one value only, or a range that has collapsed or does not fit."""
    found = []
    for name, module in named_layers(model):
        if not isinstance(module, WeightQuantized) or module.weight_quantization.exact_max_code is None:
            continue
        weight, quantizer = module._current_weight(), module.weight_quantization
        if weight.numel() < 2 or not is_finite(weight):
            continue
        steps = quantizer.scale(weight)
        collapsed = int((~((steps > SMALLEST) & steps.isfinite())).sum())
        if collapsed:
            channels = f" in {collapsed} of {steps.numel()} channels" if steps.numel() > 1 else ""
            detail = f"one step of the weight is {steps.min().item():g}{channels}"
            remedy = "initialize the weight with other values than zeros, or lower the learning rate of the steps"
            found.append(Finding(name, "collapsed range", steps.min().item(), detail, remedy))
            continue
        stale = stale_step(name, module, weight)
        if stale is not None:
            found.append(stale)
            continue
        codes = quantizer.codes(weight)
        if codes.amin() == codes.amax():
            level = (codes.flatten()[0] * steps.flatten()[0]).item()
            detail = f"all {weight.numel()} weights become {level:.3g}"
            remedy = "initialize the weight with values of both signs, as torch.nn does"
            found.append(Finding(name, "weights at one level", level, detail, remedy))
    return found


def lost_zero_findings(model: nn.Module) -> list[Finding]:
    """Return the layers with weights of 0 that become something else, pruned ones for example."""
    found = []
    for name, module in named_layers(model):
        lost = lost_zeros(module) if isinstance(module, WeightQuantized) else None
        if lost is None:
            continue
        if lost.padding is not None:
            remedy = f"nothing, if a mask hides what is read there; else {_KEEP_ZEROS}"
            found.append(Finding(name, "zero weights are lost", lost.level, str(lost), remedy, is_note=True))
        else:
            found.append(Finding(name, "zero weights are lost", lost.share, str(lost), _KEEP_ZEROS))
    return found


def zero_gradient_findings(model: nn.Module) -> list[Finding]:
    """Return the layers with a trainable matrix that no gradient has reached, after a backward pass."""
    found = []
    for name, module in named_layers(model):
        weights = [p for p in module.parameters(recurse=False) if p.dim() >= 2 and p.requires_grad and p.numel()]
        if not weights or any(p.grad is not None and p.grad.any() for p in weights):
            continue
        if all(p.grad is None for p in weights):
            detail, remedy = "the loss does not depend on its weight", "use the layer in forward, or take it out"
        else:
            detail = "the gradient of its weight is exactly zero"
            remedy = "look at the layers behind it: dead or saturated activations pass no gradient on"
        found.append(Finding(name, "zero gradient", 0.0, detail, remedy))
    return found


def unset_findings(model: nn.Module) -> list[Finding]:
    """Return the quantized layers and activations whose input has a range that nothing has set yet."""
    found = []
    for name, module in named_layers(model):
        quantizer = input_quantizer(module)
        if isinstance(quantizer, RangeQuantization) and quantizer.max_code is not None and not quantizer.is_set:
            detail = f"the range of its {type(quantizer).__name__} is not set, so it cannot quantize"
            remedy = "bitorch.calibrate(model, batches) with a few batches of inputs, or load a checkpoint that has it"
            found.append(Finding(name, "uncalibrated range", math.nan, detail, remedy))
    return found


def parameter_findings(model: nn.Module) -> list[Finding]:
    """Return the layers with a parameter or buffer that is not finite; a range that is not set is NaN, rightly."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, RangeQuantization) and not module.is_set:
            continue
        tensors = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        for tensor_name, tensor in tensors:
            if tensor.is_floating_point() and not is_finite(tensor):
                bad = int((~tensor.isfinite()).sum())
                detail = f"{bad} of the {tensor.numel()} numbers in its {tensor_name} are not finite"
                found.append(Finding(name, "non-finite parameter", bad, detail, "load or initialize finite weights"))
    return found


def non_finite_findings(first: FirstNonFinite, loss: torch.Tensor) -> list[Finding]:
    """Return where the pass stopped to be finite: in one layer's output, or the loss, or a gradient."""
    if first.output is not None:
        detail = "the first output that is not finite"
        return [Finding(first.output, "non-finite output", float("nan"), detail, _LOWER_LR)]
    if not is_finite(loss):
        value = loss.item()
        detail = f"the loss is {value:g}, though all outputs of layers are finite"
        return [Finding("", "non-finite loss", value, detail, "look at the loss function and the labels")]
    if first.gradient is not None:
        detail = "the gradient of its output is not finite, and those behind it are"
        return [Finding(first.gradient, "non-finite gradient", float("nan"), detail, _LOWER_LR)]
    return []
