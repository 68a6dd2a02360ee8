"""One architecture written elsewhere, through everything: convert, load, train three steps, deploy, verify."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bitorch
from bitorch.deployment.partial.pack_layers import PartialDeployment
from bitorch.deployment.runtime.verification import Verification
from bitorch.models import build_external

CLASSES = 10
STEPS = 3
_BATCH = 4
_LEARNING_RATE = 1e-3

#: Weight, activation and gradient bits.
Bits = tuple[int, int, int]


@dataclass(frozen=True)
class Architecture:
    """A network of timm or torchvision, and images that are small but legal for it.

    Attributes:
        name: as `build_external` takes it.
        side: of the images.
        options: of the architecture.
    """

    name: str
    side: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        return build_external(self.name, CLASSES, **self.options)

    def images(self, batch: int = _BATCH) -> Tensor:
        return torch.rand(batch, 3, self.side, self.side)


@dataclass(frozen=True)
class Trial:
    """What happened to an architecture at some bits.

    Attributes:
        low_bit, float_layers: names of the layers with a weight, by what `quantize_` made of them.
        losses: of the training steps.
        problems: why it is no single program, without shapes, each with the number of places; empty if it is one.
        stays: of a partial deployment, why low-bit layers stay in PyTorch, likewise.
        packed: number of packed layers of a partial deployment.
        verification: of the program, on images that `deploy` did not see.
        float_bytes, deployed_bytes: of the float weights, and of the packed file or the partially packed weights.
    """

    low_bit: tuple[str, ...]
    float_layers: tuple[str, ...]
    losses: tuple[float, ...]
    problems: Mapping[str, int]
    stays: Mapping[str, int]
    packed: int
    verification: Verification | None
    float_bytes: int
    deployed_bytes: int

    @property
    def is_whole(self) -> bool:
        """True if the network became one program that computes what the model computes."""
        return self.verification is not None and bool(self.verification)


def attempt(architecture: Architecture, bits: Bits, seed: int = 0) -> Trial:
    """Convert, load, train, deploy and verify a network with random weights, images and labels.

    Raises:
        RuntimeError: a state_dict does not load with strict=True; a loss, gradient or weight is not finite.
        DeploymentError: the deployed network computes something else.
    """
    torch.manual_seed(seed)
    model = architecture.build()
    float_state = model.state_dict()
    conversion = bitorch.quantize_(model, bitorch.LowBitConfig(*bits))
    model.load_state_dict(float_state, strict=True)
    architecture.build().load_state_dict(model.state_dict(), strict=True)
    losses = _train(model, architecture)
    rows = conversion.layers
    problems, stays, packed, verification, deployed_bytes = _deploy(model.eval(), architecture)
    return Trial(
        low_bit=tuple(row.name for row in rows if row.weight_bits is not None),
        float_layers=tuple(row.name for row in rows if row.weight_bits is None),
        losses=losses,
        problems=problems,
        stays=stays,
        packed=packed,
        verification=verification,
        float_bytes=_bytes(float_state),
        deployed_bytes=deployed_bytes,
    )


def _train(model: nn.Module, architecture: Architecture) -> tuple[float, ...]:
    """Take the steps, in train mode, and return their losses."""
    optimizer = torch.optim.Adam(model.train().parameters(), lr=_LEARNING_RATE)
    losses = []
    for step in range(STEPS):
        images, labels = architecture.images(), torch.randint(CLASSES, (_BATCH,))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        losses.append(loss.item())
        _check_finite(f"the loss of step {step}", {"": loss.detach()})
        _check_finite(
            f"a gradient of step {step}", {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        )
        optimizer.step()
    _check_finite("a weight after training", model.state_dict())
    return tuple(losses)


def _check_finite(what: str, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RuntimeError(f"{what} is not finite{f': {name}' if name else ''}")


def _deploy(
    model: nn.Module, architecture: Architecture
) -> tuple[dict[str, int], dict[str, int], int, Verification | None, int]:
    """Return the problems, what stays in PyTorch, the packed layers, the verification, and the bytes."""
    example = architecture.images(1)
    found = bitorch.can_deploy(model, example)
    if found:
        packed = bitorch.deploy(model, example)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.bit.safetensors"
            packed.save(path)
            return {}, {}, 0, bitorch.verify(model, packed, architecture.images()), path.stat().st_size
    partial = bitorch.deploy(model, example, partial=True)
    problems = Counter(_without_shapes(problem.what) for problem in found.problems)
    return dict(problems), _staying(partial), _packed(partial), None, _bytes(partial.model.state_dict())


def _without_shapes(problem: str) -> str:
    """Return what a problem has in common with those of other places."""
    moved = re.sub(r" from [\d×]+ to [\d×]+(.*), by .*", r" about\1", problem)
    mixed = re.sub(r"gives \[[^]]*\] for a batch of \d+: it ", "", moved)
    return re.sub(r"( of shape| on) \[[^]]*\]", "", mixed)


def _staying(partial: PartialDeployment) -> dict[str, int]:
    return dict(Counter(row.reason for row in partial.rows if row.reason))


def _packed(partial: PartialDeployment) -> int:
    return sum(not row.reason for row in partial.rows)


def _bytes(state: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in state.values())
