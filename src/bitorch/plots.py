"""Pictures: what quantizers do to numbers, and how trainings went. Needs the extra `plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from .quantizations import GradientQuantization, Quantization

try:
    from matplotlib.axes import Axes
    from matplotlib.ticker import MaxNLocator, PercentFormatter
except ModuleNotFoundError as error:
    raise ImportError('bitorch.plots needs matplotlib: pip install ".[plots]" in a checkout of bitorch') from error

_POINTS = 1201


def plot_staircase(axes: Axes, quantizer: Quantization, low: float = -1.5, high: float = 1.5) -> None:
    """Draw a quantizer's values over [low, high], and the gradient that it passes back for an incoming 1."""
    x = torch.linspace(low, high, _POINTS, requires_grad=True)
    value = quantizer(x)
    value.backward(torch.ones_like(value))
    assert x.grad is not None  # backward just set it
    xs = x.detach().tolist()
    axes.plot(xs, x.grad.tolist(), color="tab:orange", linewidth=1.2, label="gradient passed back")
    axes.plot(xs, value.detach().tolist(), color="tab:blue", linewidth=1.8, label="value")
    axes.set_xlabel("input")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)


def plot_gradient_levels(axes: Axes, quantizer: GradientQuantization, draws: int = 200) -> None:
    """Draw what a gradient quantizer makes of gradients in [−1, 1]: some single draws, and the mean of many."""
    gradient = torch.linspace(-1, 1, 241)
    quantized = torch.stack([quantizer.quantize_gradient(gradient.unsqueeze(0)).squeeze(0) for _ in range(draws)])
    xs = gradient.tolist()
    for draw in quantized[:3]:
        axes.scatter(xs, draw.tolist(), s=2, color="tab:blue", alpha=0.5, linewidths=0)
    axes.plot(xs, quantized.mean(0).tolist(), color="tab:orange", linewidth=1.8, label=f"mean of {draws} draws")
    axes.scatter([], [], s=8, color="tab:blue", label="single draws")
    axes.set_xlabel("gradient")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)


def plot_curves(
    axes: Axes,
    histories: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    metric: str,
    *,
    percent: bool = False,
) -> None:
    """Draw a metric over the epochs: per label the mean over its runs, and the band from the worst to the best run.

    Args:
        histories: for each label its runs; a run has one row per epoch, such as `Result.history`. All of equal length.
        percent: write the metric, a share, in per cent.
    """
    for label, runs in histories.items():
        values = torch.tensor([[row[metric] for row in run] for run in runs])  # [runs, epochs]
        epochs = range(1, values.shape[1] + 1)
        (line,) = axes.plot(epochs, values.mean(0).tolist(), linewidth=1.8, label=label)
        axes.fill_between(epochs, values.amin(0).tolist(), values.amax(0).tolist(), alpha=0.2, color=line.get_color())
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
