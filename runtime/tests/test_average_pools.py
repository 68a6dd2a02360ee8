"""Average pools of floats: the order of their sums is part of the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bitorch_runtime import Program, reference


def pooled(x: np.ndarray[Any, Any], pool: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The pool of x [B, C, H, W], by the program; it must be the reference's."""
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": list(x.shape[1:]), "order": "nchw"},
        {**pool, "input": "x", "output": "y"},
        {"op": "output", "input": "y", "order": "nchw"},
    ]
    y = Program(operations, {})(x)
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(y, reference.run(operations, {}, x))
    return y


@pytest.mark.parametrize("channels", [1, 5, 40])
@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [((3, 3), (2, 2), (1, 1)), ((5, 2), (1, 2), (2, 0))])
def test_average_pool_is_torchs_to_the_last_bit(
    channels: int, count_include_pad: bool, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    x = np.random.default_rng(channels).normal(0, 3, (2, channels, 13, 11)).astype(np.float32)
    pool = {"op": "avg_pool", "kernel_size": list(kernel), "stride": list(stride), "padding": [*padding, *padding]}
    y = pooled(x, {**pool, "count_include_pad": count_include_pad})
    expected = F.avg_pool2d(torch.from_numpy(x), kernel, stride, padding, False, count_include_pad)
    np.testing.assert_array_equal(y, expected.numpy())


@pytest.mark.parametrize("channels", [1, 5, 40])
def test_global_average_pool_is_equal(channels: int) -> None:
    x = np.random.default_rng(channels).normal(0, 3, (2, channels, 13, 11)).astype(np.float32)
    y = pooled(x, {"op": "global_avg_pool"})
    np.testing.assert_array_equal(y, F.avg_pool2d(torch.from_numpy(x), (13, 11)).numpy()[:, :, 0, 0])
