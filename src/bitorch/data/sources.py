"""Where pictures come from: files of a folder, parts of tar files, tensors, or memory that holds them decoded."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .images import Images
from .names import Names
from .pictures import MODES, PictureError, from_pixels, read_picture


class Source(ABC):
    """Numbered pictures."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many there are."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return what a person finds a picture by."""

    @abstractmethod
    def picture(self, index: int, channels: int, least: int = 0) -> Image.Image:
        """Return a picture as `read_picture` does; a PictureError has its name."""


class FileSource(Source):
    """Pictures that are files, or parts of files."""

    @abstractmethod
    def stream(self, index: int) -> BinaryIO:
        """Open a picture's bytes."""

    @abstractmethod
    def chosen(self, indices: NDArray[np.int64]) -> FileSource:
        """Return a source of these pictures, in this order."""

    @abstractmethod
    def identity(self) -> bytes:
        """Return what tells these pictures and their order from others, without reading them."""

    def picture(self, index: int, channels: int, least: int = 0) -> Image.Image:
        """Return a picture as `read_picture` does; a PictureError has its name."""
        try:
            with self.stream(index) as stream:
                return read_picture(stream, channels, least)
        except PictureError as error:
            raise PictureError(f"{self.name(index)} {error}") from None


class FolderSource(FileSource):
    """Files below a folder.

    Args:
        folder: that the names are below.
        names: of the files.
    """

    def __init__(self, folder: Path, names: Names) -> None:
        self._folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Return a file's path."""
        return str(self._folder / os.fsdecode(self.names[index]))

    def stream(self, index: int) -> BinaryIO:
        """Open a file."""
        return open(os.path.join(os.fsencode(self._folder), self.names[index]), "rb")

    def chosen(self, indices: NDArray[np.int64]) -> FolderSource:
        """Return a source of these files, in this order."""
        return FolderSource(self._folder, self.names.chosen(indices))

    def identity(self) -> bytes:
        """Return the files' names."""
        return self.names.identity()


class TarSource(FileSource):
    """Members of tar files, read where they stand.

    Args:
        shards: the tar files.
        members: int64 [N, 3]: number of the shard, place of the first byte, bytes.
        names: of the members.
    """

    def __init__(self, shards: Sequence[Path], members: NDArray[np.int64], names: Names) -> None:
        self._shards, self.members, self.names = list(shards), members, names
        self._files: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.members)

    def name(self, index: int) -> str:
        """Return the tar file and the member's name in it."""
        return f"{self._shards[int(self.members[index, 0])]}:{os.fsdecode(self.names[index])}"

    def stream(self, index: int) -> BinaryIO:
        """Read a member."""
        shard, place, size = map(int, self.members[index])
        if shard not in self._files:
            self._files[shard] = os.open(self._shards[shard], os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        data = os.pread(self._files[shard], size, place)  # which has no place in the file to share with other processes
        if len(data) < size:
            raise PictureError("is not whole: its tar file has become shorter since it was looked at")
        return BytesIO(data)

    def chosen(self, indices: NDArray[np.int64]) -> TarSource:
        """Return a source of these members, in this order."""
        return TarSource(self._shards, self.members[indices], self.names.chosen(indices))

    def identity(self) -> bytes:
        """Return names and places of the members."""
        return self.names.identity() + self.members.tobytes()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def __del__(self) -> None:
        for file in self._files.values():
            os.close(file)


class TensorSource(Source):
    """Images in memory, as pictures."""

    def __init__(self, images: Images) -> None:
        self._images = images.images.cpu()

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        """Return which image it is."""
        return f"image {index}"

    def picture(self, index: int, channels: int, least: int = 0) -> Image.Image:
        """Return an image of 1 or 3 channels."""
        return from_pixels(self._images[index]).convert(MODES[channels])


class MemorySource(Source):
    """Decoded pictures of several sizes, in one tensor that worker processes share.

    Args:
        pixels: uint8 [bytes], all pictures one behind the other, each [H, W, C].
        sizes: int64 [N, 2], heights and widths.
        channels: of all of them.
        names: what they are called.
    """

    def __init__(self, pixels: Tensor, sizes: Tensor, channels: int, names: Source) -> None:
        self._pixels, self._sizes, self._names, self._channels = pixels, sizes, names, channels
        self._ends = (sizes.prod(1) * channels).cumsum(0)

    def __len__(self) -> int:
        return len(self._sizes)

    def name(self, index: int) -> str:
        """Return the name of the file that it was read from."""
        return self._names.name(index)

    def picture(self, index: int, channels: int, least: int = 0) -> Image.Image:
        """Return a picture."""
        height, width = self._sizes[index].tolist()
        end = int(self._ends[index])
        data = self._pixels[end - height * width * self._channels : end]
        return Image.frombytes(MODES[self._channels], (width, height), data.numpy().tobytes())


def bytes_of(pictures: Sequence[Image.Image]) -> Tensor:
    """Return the pixels of pictures one behind the other, uint8."""
    return torch.from_numpy(np.concatenate([np.asarray(picture).reshape(-1) for picture in pictures]))
