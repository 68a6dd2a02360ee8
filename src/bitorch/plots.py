"""Pictures: what quantizers do to numbers, and how trainings went. Needs the extra `plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from .allocation.candidates import spelled
from .allocation.sensitivity import LayerSensitivity, Sensitivity
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
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.35 * (top - bottom))  # room for the legend above all lines
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


def plot_sensitivity(axes: Axes, found: Sensitivity) -> None:
    """Draw how much worse a model is with other bits in one layer: a row for each layer, a bar for each choice of bits.

    Bars are the points of accuracy that are lost; where no output is right or wrong, what the loss gains.
    """
    layers = list(dict.fromkeys(row.layer for row in found.rows))
    choices = list(dict.fromkeys(row.bits for row in found.rows))
    height = 0.8 / max(1, len(choices))
    for index, bits in enumerate(choices):
        rows = [row for row in found.rows if row.bits == bits]
        places = [layers.index(row.layer) - 0.4 + (index + 0.5) * height for row in rows]
        axes.barh(places, [_worse(row) for row in rows], height, label=spelled(bits))
    axes.set_yticks(range(len(layers)), layers)
    axes.invert_yaxis()  # the first layer on top
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel(f"{found.loss_is} gained" if found.accuracy is None else "points of accuracy lost")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="best", frameon=False)


def _worse(row: LayerSensitivity) -> float:
    return row.loss_change if row.accuracy_change is None else -100 * row.accuracy_change
