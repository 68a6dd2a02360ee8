"""`bitorch.check`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..batches import Batch, read_batch
from ..in_place import check_module
from ..model_copy import copied
from ..objective import Loss, Objective, check_loss, objective
from ..outputs import logits_of
from ..wrappers import unwrapped
from .diagnose import (
    activation_findings,
    lost_zero_findings,
    non_finite_findings,
    parameter_findings,
    unset_findings,
    weight_findings,
    zero_gradient_findings,
)
from .findings import Check, Finding
from .layers import named_layers
from .non_finite import FirstNonFinite, floats_in, is_finite, watch
from .observe import Observation, input_quantizer, observe
from .starting import told_apart

_RANDOM = "a random direction of the outputs"


def check(model: nn.Module, batch: Any, loss: Loss | None = None) -> Check:
    """Run one batch forward and backward, as training would, and name what will go wrong, layer by layer.

    The batch runs on a deep copy in training mode: the model's parameters, buffers, modes, hooks and random number
    generators stay as they are.

    Args:
        model: any module; only what is quantized is looked at for ranges and levels.
        batch: inputs [B, …], inputs and labels such as (x, y) or ((u, v), y), or a dict for model(**batch) that may
            have labels; docs/training.md has the whole table. An input alone that is uint8 becomes float in [0, 1].
        loss: function of the model's output and the labels, or of the output alone where the batch has no labels, to a
            tensor of one number. None: the loss that the model returns, or else the one that outputs and labels ask
            for, by the table in docs/training.md: cross-entropy for classes, mean squared error for numbers … Without
            labels a random direction of the outputs, which has a gradient everywhere.

    Returns:
        The findings, and which loss it was; false in a condition if there is a problem.

    Raises:
        TypeError: a model that is no module, a batch without a tensor, a loss that is no function of one number,
            outputs without logits where there are labels, or without a floating-point tensor.
        ValueError: a model without a shape yet, a batch without all inputs or of fewer than 2 samples, which BatchNorm
            needs, or labels that do not say which loss.
    """
    model = unwrapped(model)
    check_module(model)
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise TypeError("model is a TorchScript module, which cannot be looked into; pass the Python module")
    check_loss(loss)
    if any(is_lazy(p) for p in model.parameters()):
        raise ValueError("the model has layers without a shape; run one batch through it first")
    given = read_batch(batch, model, "batch", pixels=True)
    _check_samples(given, has_table=loss is None)
    device = next((p.device for p in model.parameters()), given.tensors()[0].device)
    with torch.inference_mode(False), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        trial = _Trial(_copy(model).train(), given.mapped(torch.detach).copied().to(device), loss)
        findings = _findings(trial)
    order = {name: index for index, (name, _) in enumerate(model.named_modules())}
    layers = sum(input_quantizer(module) is not None for _, module in named_layers(model))
    return Check(tuple(sorted(findings, key=lambda finding: order[finding.layer])), layers, trial.loss_is)


def _check_samples(batch: Batch, *, has_table: bool) -> None:
    first, labels = batch.tensors()[0], batch.labels
    if first.dim() == 0 or len(batch) < 2:
        raise ValueError(f"batch must have at least 2 samples, which BatchNorm needs, got inputs {list(first.shape)}")
    is_judged = has_table and batch.labels_name is None and isinstance(labels, Tensor) and labels.dim() > 0
    if is_judged and len(labels) != len(batch):
        raise ValueError(f"batch has {len(batch)} inputs and {len(labels)} labels; there must be as many")


def _copy(model: nn.Module) -> nn.Module:
    """Return a deep copy without gradients, whose explicit generators are copies, too."""
    twin = copied(model)
    twin.zero_grad(set_to_none=True)
    return twin


@dataclass
class _Pass:
    """What one pass forward and backward has shown."""

    first: FirstNonFinite
    observations: list[Observation]
    value: Tensor


@dataclass
class _Trial:
    """A copy of the model with its batch.

    Attributes:
        loss: that of the user.
        loss_is: which one it is, in words; "" before the first pass.
    """

    model: nn.Module
    batch: Batch
    loss: Loss | None
    loss_is: str = ""
    judged: Objective | None = field(default=None, init=False)

    def run(self) -> _Pass:
        """Make a pass; gradients are those of this one."""
        self.model.zero_grad(set_to_none=True)
        with torch.enable_grad(), watch(self.model) as first, observe(self.model) as observations:
            output = self.batch.copied().run(self.model)
            value = self._loss(output)
            ends = [end for end in (value, *self._beside(output)) if end.requires_grad]
            torch.autograd.backward([end.sum() for end in ends])
        return _Pass(first, observations, value.detach())

    def _loss(self, output: Any) -> Tensor:
        if not self.loss_is:
            self.judged = objective(output, [self.batch], self.loss)
            self.loss_is = _RANDOM if self.judged is None else self.judged.name
        if self.judged is not None:
            return self.judged.loss(output, self.batch.labels)
        tensors = floats_in(output)
        if not tensors:
            raise TypeError(
                f"the model returns a {type(output).__name__} without a floating-point tensor; pass a loss of it"
            )
        return torch.stack([_in_a_direction(tensor) for tensor in tensors]).sum()

    def _beside(self, output: Any) -> list[Tensor]:
        """Return the ends of what the model returns beside its logits, such as those of auxiliary heads.

        Training has a loss of them, which the table does not know.
        """
        if self.judged is None or not self.judged.is_of_table:
            return []
        logits = logits_of(output)
        return [_in_a_direction(tensor) for tensor in floats_in(output) if tensor is not logits]


def _in_a_direction(tensor: Tensor) -> Tensor:
    return (tensor * torch.randn_like(tensor)).mean()


def _findings(trial: _Trial) -> list[Finding]:
    found = [*parameter_findings(trial.model), *unset_findings(trial.model), *_input_findings(trial.batch)]
    if found:  # the numbers behind them mean nothing, or there are none
        return found
    seen = trial.run()
    found = non_finite_findings(seen.first, seen.value)
    found += lost_zero_findings(trial.model)
    if seen.first.output is not None:
        return [*found, *_of_activations(seen), *weight_findings(trial.model)]
    return [*found, *told_apart(trial.model, _of_pass(trial, seen), lambda: _of_pass(trial, trial.run()))]


def _input_findings(batch: Batch) -> list[Finding]:
    bad = [x for x in batch.tensors() if x.is_floating_point() and not is_finite(x)]
    if not bad:
        return []
    count = sum(int((~x.isfinite()).sum()) for x in bad)
    detail = f"{count} of the {sum(x.numel() for x in bad)} numbers of the batch are not finite"
    return [Finding("", "non-finite input", count, detail, "clean the data")]


def _of_pass(trial: _Trial, seen: _Pass) -> list[Finding]:
    return [*_of_activations(seen), *weight_findings(trial.model), *zero_gradient_findings(trial.model)]


def _of_activations(seen: _Pass) -> list[Finding]:
    worst: dict[tuple[str, str], Finding] = {}
    for observation in seen.observations:  # a layer that is called several times has one finding of each kind
        for finding in activation_findings(observation):
            known = worst.get((finding.layer, finding.what))
            if known is None or finding.figure > known.figure:
                worst[finding.layer, finding.what] = finding
    return list(worst.values())
