"""Training of one small net on images in memory: the same order of images for the same seed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitorch.data import Images, random_shift, to_float

BATCH_SIZE = 64


def train(model: nn.Module, images: Images, *, epochs: int, lr: float, seed: int) -> None:
    """Train with Adam and a cosine from `lr` to 0, images shifted by up to a pixel."""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    steps = len(images) // BATCH_SIZE
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for chosen in order[: steps * BATCH_SIZE].split(BATCH_SIZE):
            shifted = random_shift(to_float(images.images[chosen]), 1)
            loss = F.cross_entropy(model(shifted), images.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def batches(images: Images) -> list[tuple[Tensor, Tensor]]:
    """Return float images and labels in batches."""
    return list(zip(to_float(images.images).split(BATCH_SIZE), images.labels.split(BATCH_SIZE), strict=True))


@torch.no_grad()
def accuracy(model: nn.Module, images: Images) -> float:
    model.eval()
    right = sum(int((model(x).argmax(1) == labels).sum()) for x, labels in batches(images))
    return right / len(images)


def split(images: Images, first: int, held_out: int) -> tuple[Images, Images]:
    """Return the first images to train with, and the last ones held out."""
    if first + held_out > len(images):
        raise ValueError(f"{first} images to train and {held_out} held out are more than the {len(images)} there are")
    train_part, rest = slice(0, first), slice(len(images) - held_out, None)
    return (
        Images(images.images[train_part], images.labels[train_part], images.num_classes),
        Images(images.images[rest], images.labels[rest], images.num_classes),
    )
