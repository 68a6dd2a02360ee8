"""A file with data of several structures, nets, losses and metrics, as users write them; small enough for a test."""

from __future__ import annotations

TASKS = '''
import random

import numpy as np
import torch
from torch import nn


class Rows(torch.utils.data.Dataset):
    """Two vectors and a label; training adds noise of three generators, drawn anew in every epoch."""

    def __init__(self, count, seed, kind):
        self.rows, self.kind = torch.randn(count, 10, generator=torch.Generator().manual_seed(seed)), kind
        self.noisy = seed == 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        noise = torch.randn(()) + random.random() + float(np.random.rand()) if self.noisy else 0.0
        u, v = row[:4] + 0.01 * noise, row[4:]
        if self.kind == "number":
            return (u, v), row[:4].sum() * (float("nan") if index == 70 else 1)
        return {"u": u, "v": v, "labels": (row[:3] > 0).long(), "file": f"{index}.txt"}


def numbers():
    return Rows(64, 0, "number"), Rows(20, 1, "number")


def with_nan():
    return Rows(80, 0, "number"), Rows(20, 1, "number")


def tags():
    return {"train": Rows(64, 0, "tags"), "val": Rows(20, 1, "tags")}


def pixels(void=-100, classes=3):
    x = torch.randint(0, 256, (48, 1, 8, 8), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    y = (x[:, 0].long() * 3) // 256
    y[:, 0] = void
    data = torch.utils.data.TensorDataset(x, y)
    return {"train": torch.utils.data.Subset(data, range(32)), "val": torch.utils.data.Subset(data, range(32, 48))}


def void_pixels():
    return pixels(255)


def wrong_classes():
    return {**pixels(), "num_classes": 5}


class Two(nn.Module):
    def __init__(self, outputs=1):
        super().__init__()
        self.left, self.right = nn.Linear(4, 8), nn.Linear(6, 8)
        self.low, self.norm, self.drop = nn.Linear(16, 16), nn.LayerNorm(16), nn.Dropout(0.1)
        self.head = nn.Linear(16, outputs)

    def forward(self, u, v):
        x = torch.cat([self.left(u), self.right(v)], 1).relu()
        return self.head(self.drop(self.norm(self.low(x)).relu()))


def tagger():
    return Two(3)


class Pixels(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.head = nn.Conv2d(6, 3, 1)

    def forward(self, x):
        return {"out": self.head(self.norm(self.two(self.one(x).relu())).relu()), "seen": len(x)}


def absolute(outputs, labels):
    return (outputs.squeeze(1) - labels).abs().mean()


def no_scalar(outputs, labels):
    return outputs - labels[:, None]


def raising(outputs, labels):
    return outputs.undefined


def worst(outputs, labels):
    return (outputs.squeeze(1) - labels).abs().max()


worst.higher_is_better = False


def vague(outputs, labels):
    return 0.0
'''
