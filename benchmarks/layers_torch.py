"""PyTorch's contestants: the layer in float32 and bfloat16, channels-last, under inference_mode."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.profiler import profile

from layers_cases import Layer
from layers_names import BFLOAT, FLOAT
from layers_timing import Called, Contestant


def exact_sums(
    layer: Layer, inputs: npt.NDArray[np.generic], weights: npt.NDArray[np.generic]
) -> npt.NDArray[np.float64]:
    """The layer's sums in float64, of layer.output_shape: integers come out exactly."""
    result = _apply(layer, _input(layer, torch.from_numpy(inputs).double()), torch.from_numpy(weights).double())
    sums: npt.NDArray[np.float64] = (result if layer.linear else result.permute(0, 2, 3, 1)).numpy()
    return sums


def contestants(layer: Layer, threads: int, rng: np.random.Generator) -> list[Contestant]:
    """In float32 alone and with the BatchNorm and ReLU that follow it in a float network, and in bfloat16."""
    torch.set_num_threads(threads)
    return [
        _contestant(layer, torch.float32, rng),
        _contestant(layer, torch.float32, rng, norm=True),
        _contestant(layer, torch.bfloat16, rng),
    ]


def _contestant(layer: Layer, dtype: torch.dtype, rng: np.random.Generator, norm: bool = False) -> Contestant:
    """Raises RuntimeError where the output is not the layer's."""
    name = FLOAT if dtype == torch.float32 else BFLOAT
    name += ", BatchNorm, ReLU" if norm else ""
    inputs = rng.random(layer.input_shape, np.float32)
    weights = rng.standard_normal(layer.weight_shape, np.float32)
    x = _input(layer, torch.from_numpy(inputs).to(dtype))
    w = torch.from_numpy(weights).to(dtype)
    if not layer.linear:
        w = w.contiguous(memory_format=torch.channels_last)
    mean, variance, slope, shift = (
        torch.rand(4, layer.out_channels, dtype=dtype, generator=torch.Generator().manual_seed(0)) + 0.5
    )

    def call() -> Tensor:
        return _apply(layer, x, w)

    def call_norm() -> Tensor:
        return F.relu_(F.batch_norm(_apply(layer, x, w), mean, variance, slope, shift))

    with torch.inference_mode():
        actual = call() if layer.linear else call().permute(0, 2, 3, 1)
    expected = exact_sums(layer, inputs, weights)
    tolerance = (1e-5 if dtype == torch.float32 else 2e-2) * np.sqrt(layer.inputs_per_output)
    if not np.allclose(actual.double().numpy(), expected, rtol=0, atol=tolerance):
        raise RuntimeError(f"{name} {layer.name}: the output is wrong")
    run = _inference(call_norm if norm else call)
    return Called(name, _slowest_operator(run), run)


def _inference(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.inference_mode():
            return call()

    return run


def _apply(layer: Layer, x: Tensor, w: Tensor) -> Tensor:
    if layer.linear:
        return F.linear(x, w)
    return F.conv2d(x, w, stride=layer.stride, padding=layer.padding, groups=layer.groups)


def _input(layer: Layer, x: Tensor) -> Tensor:
    """NHWC memory seen as NCHW, which is what PyTorch calls channels_last."""
    return x if layer.linear else x.permute(0, 3, 1, 2)


def _slowest_operator(run: Callable[[], object]) -> str:
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler prints to the terminal below that
    run()
    with profile() as profiler:
        run()
    slowest = max(profiler.key_averages(), key=lambda event: event.self_cpu_time_total)
    return str(slowest.key).removeprefix("aten::")
