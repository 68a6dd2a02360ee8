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
@pytest.mark.parametrize("size", [(4, 3), (3, 9), (13, 2), (17, 20), (1, 6), (26, 22)])
def test_adaptive_pool_is_torchs_to_the_last_bit(channels: int, size: tuple[int, int]) -> None:
    x = np.random.default_rng(channels).normal(0, 3, (2, channels, 13, 11)).astype(np.float32)
    y = pooled(x, {"op": "adaptive_avg_pool", "output_size": list(size)})
    expected = F.adaptive_avg_pool2d(torch.from_numpy(x), size).numpy()
    np.testing.assert_array_equal(y, expected.reshape(y.shape))


def test_adaptive_pool_divides_twice() -> None:
    x = np.full((1, 1, 3, 3), 0, np.float32)
    x[0, 0, 0, 0] = seven = np.float32(7)
    three, nine = np.float32(3), np.float32(9)
    x = np.tile(x, (1, 1, 2, 2))
    assert seven / three / three != seven / nine
    y = pooled(x, {"op": "adaptive_avg_pool", "output_size": [2, 2]})
    np.testing.assert_array_equal(y, np.full((1, 1, 2, 2), seven / three / three))


@pytest.mark.parametrize("channels", [1, 5, 40])
def test_global_average_pool_is_equal(channels: int) -> None:
    x = np.random.default_rng(channels).normal(0, 3, (2, channels, 13, 11)).astype(np.float32)
    y = pooled(x, {"op": "global_avg_pool"})
    np.testing.assert_array_equal(y, F.avg_pool2d(torch.from_numpy(x), (13, 11)).numpy()[:, :, 0, 0])
