"""A training step of a net, as each contestant makes it. Imports torch alone, but for what is ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from svhn_a import MakeConv
from training_contestants import THEIRS, Contestant, contestant
from training_nets import CLASSES, NETS, Net


@dataclass(frozen=True)
class Trained:
    """A net with its optimizer and the batch that it learns. Calling it makes a step, and returns the loss."""

    net: nn.Module
    forward: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    images: Tensor
    labels: Tensor
    bf16: bool

    def __call__(self) -> float:
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = nn.functional.cross_entropy(self.forward(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def batch_of(net: str, batch: int) -> tuple[Tensor, Tensor]:
    """Return random images, channels last, and labels."""
    size = NETS[net].image_size
    images = torch.rand(batch, 3, size, size).to(memory_format=torch.channels_last)
    return images, torch.randint(0, CLASSES, (batch,))


def prepare(name: str, net: str, images: Tensor, labels: Tensor) -> Trained:
    """Return a contestant's net, ready to train.

    Args:
        name: of the contestant.
        net: one of NETS.
    """
    who = Contestant() if name == THEIRS else contestant(name)
    model = _theirs(NETS[net]) if name == THEIRS else _ours(who, NETS[net])
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its overloads lack the memory format
    if who.fused:
        from bitorch import fuse_training_

        fuse_training_(model)
    # One kernel for all parameters, for each contestant alike.
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-5, fused=True)
    forward = torch.compile(model) if who.compiled else model
    return Trained(model, forward, optimizer, images, labels, who.bf16)


def _ours(who: Contestant, net: Net) -> nn.Module:
    def plain(inputs: int, outputs: int, kernel: int, padding: int) -> nn.Module:
        return nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False)

    model = net.build(plain, "sign" not in who.config)  # behind a ReLU all signs are +1
    if who.bits is not None:
        from bitorch import LowBitConfig, calibrate, quantize_

        config = LowBitConfig(*who.bits, **{"absorb_relu": True, **who.config})
        quantize_(model, config)
        if config.range != "unit":
            calibrate(model, [torch.rand(4, 3, net.image_size, net.image_size)])
    return model


def _theirs(net: Net) -> nn.Module:
    return net.build(_their_conv(), False)  # its activation quantizer clips


def _their_conv() -> MakeConv:
    from bitorch.layers import QConv2d
    from bitorch.quantizations import InputDoReFa, WeightDoReFa

    def quantized(inputs: int, outputs: int, kernel: int, padding: int) -> nn.Module:
        bits = {"input_quantization": InputDoReFa(2), "weight_quantization": WeightDoReFa(1)}
        return QConv2d(inputs, outputs, kernel, padding=padding, **bits)  # type: ignore[arg-type]  # theirs

    return quantized
