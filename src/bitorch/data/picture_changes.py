"""Random changes to single pictures, made by worker processes, each a function of its random numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from PIL import Image, ImageEnhance, ImageOps

from .options import LARGEST_MAGNITUDE
from .pictures import fit as fit

_RATIOS = (math.log(3 / 4), math.log(4 / 3))
_TRIES = 10
_BILINEAR = Image.Resampling.BILINEAR


def random_resized_crop(
    picture: Image.Image, height: int, width: int, scale: tuple[float, float], random: Random
) -> Image.Image:
    """Cut a random rectangle out and resize it bilinearly; where none fits in ten tries, the middle."""
    given_width, given_height = picture.size
    for _ in range(_TRIES):
        area = given_width * given_height * random.uniform(*scale)
        ratio = math.exp(random.uniform(*_RATIOS))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 1 <= w <= given_width and 1 <= h <= given_height:
            left, top = random.randint(0, given_width - w), random.randint(0, given_height - h)
            return picture.resize((width, height), _BILINEAR, box=(left, top, left + w, top + h))
    return fit(picture, height, width)


def color_jitter(picture: Image.Image, amounts: tuple[float, float, float, float], random: Random) -> Image.Image:
    """Change brightness, contrast, saturation and hue, in random order. Grey pictures have neither of the last two."""
    steps = [index for index in range(4) if amounts[index] and not (index > 1 and picture.mode == "L")]
    random.shuffle(steps)
    for index in steps:
        amount = amounts[index]
        if index == 3:
            picture = _turn_hue(picture, random.uniform(-amount, amount))
        else:
            picture = _ENHANCERS[index](picture).enhance(random.uniform(max(0.0, 1 - amount), 1 + amount))
    return picture


def rand_augment(picture: Image.Image, count: int, magnitude: int, random: Random) -> Image.Image:
    """Make so many operations, each drawn from all with equal chances, at one magnitude."""
    share = magnitude / LARGEST_MAGNITUDE
    for _ in range(count):
        picture = random.choice(_OPERATIONS)(picture, share, random)
    return picture


_ENHANCERS: tuple[Callable[[Image.Image], ImageEnhance._Enhance], ...] = (
    ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color,
)  # fmt: skip


def _turn_hue(picture: Image.Image, share: float) -> Image.Image:
    hue, saturation, value = picture.convert("HSV").split()
    offset = round(share * 256)
    turned = hue.point([(level + offset) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def _signed(value: float, random: Random) -> float:
    return value if random.random() < 0.5 else -value


def _affine(picture: Image.Image, matrix: tuple[float, float, float, float, float, float]) -> Image.Image:
    """Read the pixel (x, y) at (ax + by + c, dx + ey + f); what lies outside is black."""
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


def _shear_x(picture: Image.Image, share: float, random: Random) -> Image.Image:
    shear = _signed(0.3 * share, random)
    return _affine(picture, (1, shear, 0, 0, 1, 0))


def _shear_y(picture: Image.Image, share: float, random: Random) -> Image.Image:
    shear = _signed(0.3 * share, random)
    return _affine(picture, (1, 0, 0, shear, 1, 0))


def _translate_x(picture: Image.Image, share: float, random: Random) -> Image.Image:
    return _affine(picture, (1, 0, _signed(round(150 / 331 * picture.width * share), random), 0, 1, 0))


def _translate_y(picture: Image.Image, share: float, random: Random) -> Image.Image:
    return _affine(picture, (1, 0, 0, 0, 1, _signed(round(150 / 331 * picture.height * share), random)))


def _rotate(picture: Image.Image, share: float, random: Random) -> Image.Image:
    return picture.rotate(_signed(30 * share, random), Image.Resampling.NEAREST)


def _enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Callable[..., Image.Image]:
    def enhance(picture: Image.Image, share: float, random: Random) -> Image.Image:
        return kind(picture).enhance(1 + _signed(0.9 * share, random))

    return enhance


def _posterize(picture: Image.Image, share: float, random: Random) -> Image.Image:
    return ImageOps.posterize(picture, 8 - round(4 * share))


def _solarize(picture: Image.Image, share: float, random: Random) -> Image.Image:
    return ImageOps.solarize(picture, round(255 * (1 - share)))


def _auto_contrast(picture: Image.Image, share: float, random: Random) -> Image.Image:
    return ImageOps.autocontrast(picture)


def _equalize(picture: Image.Image, share: float, random: Random) -> Image.Image:
    return ImageOps.equalize(picture)


def _same(picture: Image.Image, share: float, random: Random) -> Image.Image:
    return picture


_OPERATIONS: tuple[Callable[[Image.Image, float, Random], Image.Image], ...] = (
    _same, _shear_x, _shear_y, _translate_x, _translate_y, _rotate, _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Color), _enhanced(ImageEnhance.Contrast), _enhanced(ImageEnhance.Sharpness), _posterize,
    _solarize, _auto_contrast, _equalize,
)  # fmt: skip
