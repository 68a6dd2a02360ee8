"""Learning from a teacher's outputs beside the labels."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Distillation:
    """The loss of a student that learns from labels y and from a teacher's logits v (Hinton et al. 2015).

    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", https://arxiv.org/abs/1503.02531. With the
    student's logits z, temperature T, weight λ and softened probabilities (eq. 1)

        q_i(z) = exp(z_i/T) / Σ_j exp(z_j/T)

    the loss, averaged over the batch, is

        (1 − λ)·CE(z, y) + λ·T²·Σ_i q_i(v)·(log q_i(v) − log q_i(z))

    T² makes up for the gradient of the second term, which shrinks as 1/T². That term is the paper's cross-entropy with
    soft targets less their entropy: the same gradient, and 0 where both agree.

    Args:
        weight: λ, in [0, 1]. 1 leaves the labels out.
        temperature: T, above 0.

    Raises:
        ValueError: weight or temperature out of range.
    """

    weight: float = 0.5
    temperature: float = 4.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must be at least 0 and at most 1, got {self.weight}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    def loss(self, label_loss: Tensor, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the loss, 0-dim.

        Args:
            label_loss: CE(z, y), 0-dim.
            logits: z, [B, num_classes], or [B, num_classes, …] for a class of each pixel, which then all count alike.
            teacher_logits: v, of the same shape.
        """
        if logits.shape != teacher_logits.shape:
            raise ValueError(
                f"the teacher returns {list(teacher_logits.shape)} and the student {list(logits.shape)}; "
                "both must have the same classes"
            )
        classes = logits.shape[1]
        logits, teacher_logits = (z.movedim(1, -1).reshape(-1, classes) for z in (logits, teacher_logits.detach()))
        soft = F.log_softmax(logits.float() / self.temperature, dim=1)
        target = F.log_softmax(teacher_logits.float() / self.temperature, dim=1)
        divergence = F.kl_div(soft, target, reduction="batchmean", log_target=True)
        return (1 - self.weight) * label_loss + self.weight * self.temperature**2 * divergence


def fingerprint(model: nn.Module) -> str:
    """Return what tells a model's state from others: the SHA-256 of its names, shapes and numbers, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
