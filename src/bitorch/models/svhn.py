"""The nets that DoReFa-Net (arXiv 1606.06160) trains on the Street View House Numbers."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from torch import nn

from .blocks import Sequence, conv_block

SVHNVariant = Literal["A", "B", "C", "D"]

#: Net B has half of A's channels in every convolution, C a quarter, D an eighth.
_DIVISOR: dict[SVHNVariant, int] = {"A": 1, "B": 2, "C": 4, "D": 8}
#: As in the authors' training code; torch's default is 1e-5.
_BN_EPS = 1e-4


class SVHNNet(Sequence):
    """Seven convolutions and a linear layer on 40×40 images.

    Args:
        variant: "A" (48 to 512 channels), or "B", "C", "D" with 1/2, 1/4, 1/8 of them.
        in_channels: channels of the images.
        num_classes: number of logits.

    Shapes: float [B, in_channels, 40, 40] in [0, 1] to logits [B, num_classes].

    Raises:
        ValueError: unknown variant, a count below 1; in forward, images of another shape.
        TypeError: a count that is no int.
    """

    image_size: ClassVar[int] = 40

    def __init__(self, variant: SVHNVariant = "A", in_channels: int = 3, num_classes: int = 10) -> None:
        if variant not in get_args(SVHNVariant):
            raise ValueError(f"variant must be one of {', '.join(get_args(SVHNVariant))}, got {variant!r}")
        super().__init__(in_channels, num_classes)
        c48, c64, c128, c512 = (channels // _DIVISOR[variant] for channels in (48, 64, 128, 512))
        self.layers = nn.Sequential(
            *conv_block(in_channels, c48, 5, pool=True, bias=True, bn_eps=_BN_EPS),  # 40 -> 36 -> 18
            *conv_block(c48, c64, 3, padding=1, bn_eps=_BN_EPS),
            *conv_block(c64, c64, 3, padding=1, pool=True, bn_eps=_BN_EPS),  # 18 -> 9
            *conv_block(c64, c128, 3, bn_eps=_BN_EPS),  # 9 -> 7
            *conv_block(c128, c128, 3, padding=1, bn_eps=_BN_EPS),
            *conv_block(c128, c128, 3, bn_eps=_BN_EPS),  # 7 -> 5
            nn.Dropout(0.5),
            *conv_block(c128, c512, 5, bn_eps=_BN_EPS),  # 5 -> 1
            nn.Flatten(),
            nn.Linear(c512, num_classes),
        )
