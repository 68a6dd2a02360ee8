"""Picture files as images of 8 bits a channel, and how they are brought to a net's size."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

#: By channels: Pillow's name of what has 8 bits in each of them.
MODES = {1: "L", 3: "RGB"}
#: What Pillow turns into these as everybody expects it to.
_EIGHT_BIT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_GREY_MODES = ("1", "L", "LA", "La", *_SIXTEEN_BIT_MODES)
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # values of that tag by which height and width change places
#: How whole files of these formats end; what follows the end, they do not mind.
_ENDS = {"JPEG": (b"\xff\xd9", 2), "PNG": (b"IEND\xaeB`\x82", 8)}
#: What decoders raise at damaged files, besides OSError.
_DAMAGE = (
    SyntaxError, EOFError, ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError, struct.error,
    zlib.error, MemoryError, Image.DecompressionBombError,
)  # fmt: skip


class PictureError(ValueError):
    """Why a file is no picture that can be read, to be said behind its name: "is a damaged image: …"."""


@dataclass(frozen=True)
class Kind:
    """What the head of a picture file says.

    Attributes:
        height, width: as the picture is shown, turned by its orientation tag.
        grey: without colours. turned, transparent, cmyk, deep, animated: has an orientation, an alpha channel, printing
            inks, 16 bits a channel, several frames.
    """

    height: int
    width: int
    grey: bool = False
    turned: bool = False
    transparent: bool = False
    cmyk: bool = False
    deep: bool = False
    animated: bool = False


@cache
def picture_suffixes() -> frozenset[str]:
    """Return the endings of file names, in lower case with their dots, of what Pillow reads."""
    Image.init()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN)


def read_picture(stream: BinaryIO, channels: int, least: int = 0) -> Image.Image:
    """Return a picture in mode L (1 channel) or RGB (3), turned as its orientation tag says.

    Of an animation it is the first frame; transparent pixels are put on white; of 16 bits the upper 8 are kept.

    Args:
        stream: of the file, from its start.
        channels: 1 or 3.
        least: height and width that are enough: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, but not below.
            0: its full size.

    Raises:
        PictureError: no picture, a damaged or truncated one, or pixels that have no 8 bits.
        OSError: of the file system.
    """
    with _saying_damage(), Image.open(stream) as opened:
        if least:
            opened.draft(None, (least, least))
        picture = _eight_bits(opened)
        turned = ImageOps.exif_transpose(picture) if picture.getexif().get(_ORIENTATION, 1) != 1 else picture
        return turned.convert(MODES[channels])


def look_at(stream: BinaryIO) -> Kind:
    """Return what a picture file is. Where its end is missing, all pixels are decoded, to see whether they are there.

    Raises:
        PictureError, OSError: as `read_picture`.
    """
    with _saying_damage(), Image.open(stream) as opened:
        _check_mode(opened.mode)
        orientation = opened.getexif().get(_ORIENTATION, 1)
        width, height = opened.size
        kind = Kind(
            *((width, height) if orientation in _TURNED else (height, width)),
            grey=opened.mode in _GREY_MODES or (opened.mode in ("P", "PA") and _is_grey_palette(opened)),
            turned=orientation not in (0, 1),
            transparent=opened.has_transparency_data,
            cmyk=opened.mode == "CMYK",
            deep=opened.mode in _SIXTEEN_BIT_MODES,
            animated=bool(getattr(opened, "is_animated", False)),
        )
        if not _has_its_end(stream, opened.format):
            stream.seek(0)
            with Image.open(stream) as again:
                again.load()
        return kind


def fit(picture: Image.Image, height: int, width: int, crop_share: float = 1.0) -> Image.Image:
    """Resize a picture until its middle fills height × width, bilinearly with antialiasing, and cut the middle out.

    Args:
        picture: of any size.
        height, width: of the result.
        crop_share: share of the shorter side that is kept, above 0 and at most 1.
    """
    given_width, given_height = picture.size
    if (given_height, given_width) == (height, width) and crop_share == 1:
        return picture
    scale = max(height / given_height, width / given_width) / crop_share
    kept_height, kept_width = height / scale, width / scale
    top, left = (given_height - kept_height) / 2, (given_width - kept_width) / 2
    # Rounding must not put the box outside.
    box = (max(left, 0.0), max(top, 0.0), min(left + kept_width, given_width), min(top + kept_height, given_height))
    return picture.resize((width, height), Image.Resampling.BILINEAR, box=box)


def to_pixels(picture: Image.Image) -> Tensor:
    """Return a picture in mode L or RGB as uint8 [C, H, W]."""
    array = np.array(picture)  # a copy: Pillow's own memory cannot be written
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def from_pixels(pixels: Tensor) -> Image.Image:
    """Return uint8 [1, H, W] or [3, H, W] as a picture."""
    array = pixels.numpy()
    return Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))


def _eight_bits(opened: Image.Image) -> Image.Image:
    _check_mode(opened.mode)
    if opened.mode in _SIXTEEN_BIT_MODES:
        values = np.asarray(opened).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise PictureError("has pixels of more than 16 bits; convert it first")
        shallow = Image.fromarray((values >> 8).astype(np.uint8))
        shallow.info.update(exif=opened.info.get("exif", b""))
        return shallow
    if opened.has_transparency_data:
        layers = opened.convert("RGBA")
        white = Image.new("RGBA", layers.size, "white")
        white.alpha_composite(layers)
        white.info.update(exif=opened.info.get("exif", b""))
        return white
    opened.load()
    return opened


def _check_mode(mode: str) -> None:
    if mode not in (*_EIGHT_BIT_MODES, *_SIXTEEN_BIT_MODES):
        raise PictureError(
            f"has pixels of Pillow's mode {mode!r}, and only 8 or 16 bits per channel are taken; convert it first"
        )


def _is_grey_palette(opened: Image.Image) -> bool:
    palette = opened.getpalette("RGB")
    rows = np.array([] if palette is None else palette, np.uint8).reshape(-1, 3)
    return bool((rows == rows[:, :1]).all())


def _has_its_end(stream: BinaryIO, kind: str | None) -> bool:
    if kind not in _ENDS:
        return False
    end, length = _ENDS[kind]
    try:
        stream.seek(-length, 2)
    except OSError:
        return False
    return stream.read(length) == end


@contextmanager
def _saying_damage() -> Iterator[None]:
    """Turn what Pillow raises at damaged files into a PictureError; its warnings about them are not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except PictureError:
            raise
        except UnidentifiedImageError:
            raise PictureError("is no image that Pillow can read, or a damaged one") from None
        except _DAMAGE as error:
            raise PictureError(f"is a damaged image: {error}") from None
        except OSError as error:
            if error.errno is not None:  # of the file system
                raise
            raise PictureError(f"is a damaged image: {error}") from None
