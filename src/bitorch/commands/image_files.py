"""Images from files, in the shape and numbers that a net takes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..data import PictureError, decoded_at, fit, read_picture, to_pixels
from .preprocessing import Preprocessing

#: Of a float array: how far x·255 may be from an integer, as float16 rounds it.
_PIXEL_TOLERANCE = 0.07


def read_images(path: Path, preprocessing: Preprocessing, *, pixels: bool, resize: bool) -> tuple[Tensor, bool]:
    """Read an image file, or a .npy file of one image or a batch, as the input of a net.

    Args:
        path: the file. Arrays are [H, W] (of one channel), [C, H, W] or [H, W, C], or batches of these; uint8 pixels,
            or floats in [0, 1].
        preprocessing: of the net.
        pixels: the net takes uint8 pixels; otherwise float32.
        resize: bring images of another size to the right one, bilinearly, without keeping the ratio of their sides.
            Pictures for a net whose file says how they are fitted are so without it.

    Returns:
        [N, C, H, W], with the border that the preprocessing asks for; whether the file held a batch.

    Raises:
        OSError: the file cannot be read. ValueError: it holds no such images. Both name it.
    """
    if path.suffix.lower() == ".npy":
        images, is_batch = _from_array(path, preprocessing.channels)
    else:
        images, is_batch = _from_picture(path, preprocessing), False
    if pixels and images.dtype != torch.uint8:
        images = _as_pixels(path, images)
    size = tuple(images.shape[2:])
    if size != preprocessing.size:
        wanted = f"{preprocessing.size[0]}×{preprocessing.size[1]}"
        if not resize:
            raise ValueError(
                f"{path} is {size[0]}×{size[1]} pixels (height×width), and the net takes {wanted}; "
                "--resize makes it fit"
            )
        images = F.interpolate(images, preprocessing.size, mode="bilinear", antialias=True)
    return preprocessing.inputs(images, torch.uint8 if pixels else torch.float32), is_batch


def _as_pixels(path: Path, images: Tensor) -> Tensor:
    """Return floats that are pixels/255 as uint8."""
    scaled = images * 255
    nearest = scaled.round()
    if bool(((scaled - nearest).abs() > _PIXEL_TOLERANCE).any()):
        raise ValueError(
            f"{path} holds floats that are no multiples of 1/255, and the net takes uint8 pixels; round them to "
            "pixels, or deploy the net with --float-input"
        )
    return nearest.to(torch.uint8)


def _from_picture(path: Path, preprocessing: Preprocessing) -> Tensor:
    """Return uint8 [1, C, H, W], read as training pictures are, and fitted as they are where the net's file says so."""
    channels, (height, width), share = preprocessing.channels, preprocessing.size, preprocessing.crop_share
    if channels not in (1, 3):
        raise ValueError(f"{path}: the net takes images of {channels} channels, which only .npy files can hold")
    least = 0 if share is None else decoded_at((height, width), share)
    try:
        with path.open("rb") as stream:
            picture = read_picture(stream, channels, least)
    except PictureError as error:
        raise ValueError(f"{path} {error}") from None
    return to_pixels(picture if share is None else fit(picture, height, width, share)).unsqueeze(0)


def _from_array(path: Path, channels: int) -> tuple[Tensor, bool]:
    """Return uint8 or floating [N, C, H, W], and whether the array was a batch."""
    try:
        array: NDArray[np.generic] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OverflowError, MemoryError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npy file of numbers, or a damaged one: {error}") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"{path} is an archive of arrays (.npz), and no .npy file; save one array with np.save")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{path} holds {array.dtype}; it must be uint8 pixels or floats in [0, 1]; use astype")
    if array.size == 0:
        raise ValueError(f"{path} holds an empty array of shape {list(array.shape)}")
    if array.dtype != np.uint8 and not (array.min() >= 0 and array.max() <= 1):  # NaN is neither
        raise ValueError(f"{path} holds floats that are not all in [0, 1]; pixels 0 to 255 must be uint8")
    images, is_batch = _with_batch_and_channels(path, array, channels)
    kept = images if array.dtype == np.uint8 else images.astype(np.float64)
    return torch.from_numpy(np.ascontiguousarray(kept)), is_batch


def _with_batch_and_channels(path: Path, array: NDArray[np.generic], channels: int) -> tuple[NDArray[np.generic], bool]:
    """Return [N, C, H, W]. Where both could be meant, channels come first, and are not missing."""
    shape = array.shape
    if array.ndim == 4 and shape[1] == channels:
        return array, True
    if array.ndim == 4 and shape[3] == channels:
        return array.transpose(0, 3, 1, 2), True
    if array.ndim == 3 and shape[0] == channels:
        return array[None], False
    if array.ndim == 3 and shape[2] == channels:
        return array.transpose(2, 0, 1)[None], False
    if array.ndim == 3 and channels == 1:
        return array[:, None], True
    if array.ndim == 2 and channels == 1:
        return array[None, None], False
    single = "[H, W], [1, H, W]" if channels == 1 else f"[{channels}, H, W], [H, W, {channels}]"
    raise ValueError(
        f"{path} has the shape {list(shape)}; for a net of {channels} channels it must be {single}, or a batch of these"
    )
