"""What happens to images before a packed net sees them, as its file says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import to_float
from ..deployment.deployed_net import DeployedNet
from .example_shapes import example_shapes

_KEYS = ("channels", "size", "padding", "scale", "mean", "std", "crop_share")
#: Of a net that takes floats: pixels are divided by 255. One that takes uint8 does it inside.
_SCALE = "1/255"


@dataclass(frozen=True)
class Preprocessing:
    """How images of one size become the inputs of a net: pixels/255, (x − mean)/std, and a border of zeros.

    Attributes:
        channels: 1 (grey) or 3 (RGB), or what the net was trained on.
        size: height and width of the images as they are given.
        padding: rows and columns of zeros put above, left, below and right of them.
        mean, std: one for each channel; both or neither, and only of a net that takes floats. Nets of bitorch's trainer
            have them inside.
        crop_share: pictures of any size are fitted: their shorter side is resized, and the middle cut out, of which
            it keeps this share. None: only images of the right size are taken.
    """

    channels: int
    size: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_share: float | None = None

    @classmethod
    def padded(
        cls, input_shape: tuple[int, int, int], size: tuple[int, int], crop_share: float | None = None
    ) -> Preprocessing:
        """Return that of a net whose training images of this height and width were padded, as `pad_to` does it."""
        channels, height, width = input_shape
        top, left = (height - size[0]) // 2, (width - size[1]) // 2
        return cls(channels, size, (top, left, height - size[0] - top, width - size[1] - left), crop_share=crop_share)

    @classmethod
    def of(cls, packed: DeployedNet) -> Preprocessing:
        """Return that of a packed net; without any in its file: images as large as its input.

        Raises:
            ValueError: the net does not take one image, or its file asks for more than is known here.
        """
        if len(packed.inputs) != 1 or len(packed.inputs[0].shape) != 3:
            raise ValueError(f"the net must take one image [batch, C, H, W], but is a {packed!r}")
        channels, height, width = example_shapes(packed)[0]
        if packed.preprocessing is None:
            return cls(channels, (height, width))
        result = _parse(packed.preprocessing)
        top, left, bottom, right = result.padding
        gives = (result.channels, top + result.size[0] + bottom, left + result.size[1] + right)
        if gives != (channels, height, width):
            raise ValueError(
                f"the file's preprocessing gives images {list(gives)}, but its net takes {[channels, height, width]}"
            )
        if result.mean is not None and packed.inputs[0].dtype == torch.uint8:
            raise ValueError("the file's preprocessing has mean and std, but its net takes pixels as they are")
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return it as a file holds it."""
        fields: dict[str, Any] = {
            "channels": self.channels, "size": list(self.size), "padding": list(self.padding), "scale": _SCALE,
        }  # fmt: skip
        if self.crop_share is not None:
            fields["crop_share"] = self.crop_share
        if self.mean is None or self.std is None:
            return fields
        return {**fields, "mean": list(self.mean), "std": list(self.std)}

    def inputs(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Return images [N, channels, *size] as a net of this input dtype takes them.

        The images are uint8 pixels or, but not where dtype is uint8, floats in [0, 1].
        """
        if dtype != torch.uint8:
            images = to_float(images) if images.dtype == torch.uint8 else images.to(torch.float32)
        if self.mean is not None and self.std is not None:
            mean, std = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (self.mean, self.std))
            images = (images - mean) / std
        top, left, bottom, right = self.padding
        return F.pad(images, (left, right, top, bottom)) if any(self.padding) else images


def _parse(fields: dict[str, Any]) -> Preprocessing:
    unknown = [name for name in fields if name not in _KEYS]
    if unknown:
        raise ValueError(
            f"the file's preprocessing has {', '.join(map(repr, unknown))}, and only {', '.join(_KEYS)} are "
            "known here; prepare the images in Python and call bitorch_runtime.load(path)"
        )
    if fields.get("scale", _SCALE) != _SCALE:
        raise ValueError(f"the file's preprocessing has scale {fields['scale']!r}, and only {_SCALE!r} is known here")
    channels: Any = fields.get("channels")
    size: Any = fields.get("size")
    padding: Any = fields.get("padding", [0, 0, 0, 0])
    if not (_are_ints([channels], 1, 1) and _are_ints(size, 2, 1) and _are_ints(padding, 4, 0)):
        raise ValueError(
            "the file's preprocessing must have channels, size [height, width] and padding [top, left, bottom, right], "
            f"all integers, got {fields}"
        )
    share: Any = fields.get("crop_share")
    if share is not None and not (type(share) in (int, float) and 0 < share <= 1):
        raise ValueError(f"the file's preprocessing must have a crop_share above 0 and at most 1, got {share!r}")
    mean, std = _normalization(fields, channels)
    return Preprocessing(
        channels, (size[0], size[1]), (padding[0], padding[1], padding[2], padding[3]), mean=mean, std=std,
        crop_share=share,
    )  # fmt: skip


def _normalization(fields: dict[str, Any], channels: int) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    if "mean" not in fields and "std" not in fields:
        return None, None
    mean, std = (fields.get(name) for name in ("mean", "std"))
    if not (_are_numbers(mean, channels) and _are_numbers(std, channels) and min(std) > 0):
        raise ValueError(
            f"the file's preprocessing must have both mean and std, {channels} numbers each and std above 0, "
            f"got {mean} and {std}"
        )
    return tuple(mean), tuple(std)


def _are_ints(values: object, count: int, minimum: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(type(v) is int and v >= minimum for v in values)


def _are_numbers(values: object, count: int) -> TypeGuard[list[float]]:
    return isinstance(values, list) and len(values) == count and all(type(v) in (int, float) for v in values)
