"""PyTorch's contestants: the float networks in channels-last memory, under inference_mode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from layers_timing import NETWORK_SECONDS, Called, Contestant
from networks_graph import Graph
from networks_models import float_model
from networks_names import TORCH_BFLOAT, TORCH_FLOAT


def contestants(net: str, graph: Graph, threads: int, floats: bool) -> list[Contestant]:
    """In bfloat16, and with `floats` in float32.

    Raises:
        RuntimeError: the scores are not those of the graph, whose network this is.
    """
    torch.set_num_threads(threads)
    found = [_contestant(TORCH_FLOAT, net, graph, torch.float32, 1e-4)] if floats else []
    return [*found, _contestant(TORCH_BFLOAT, net, graph, torch.bfloat16, 0.2)]


def _contestant(name: str, net: str, graph: Graph, dtype: torch.dtype, tolerance: float) -> Contestant:
    model: nn.Module = float_model(net).to(dtype)
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    pixels = torch.from_numpy(graph.images).permute(0, 3, 1, 2)
    images = (pixels.float() / 255).to(dtype=dtype, memory_format=torch.channels_last)

    def call() -> Tensor:
        with torch.inference_mode():
            scores: Tensor = model(images)
        return scores

    graph.check(name, call().float().numpy(), tolerance)
    return Called(name, "", call, NETWORK_SECONDS)
