"""Pictures show the numbers that they are made of."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

from bitorch.plots import plot_curves, plot_gradient_levels, plot_staircase
from bitorch.quantizations import GradientDoReFa, InputDoReFa

mpl.use("agg")


def test_staircase_draws_values_and_gradient() -> None:
    figure, axes = plt.subplots()
    plot_staircase(axes, InputDoReFa(2, variant="paper"))
    gradient, value = (torch.tensor(line.get_ydata()) for line in axes.get_lines())
    assert sorted(set(value.tolist())) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert set(gradient.tolist()) == {0.0, 1.0}
    plt.close(figure)


def test_gradient_levels_draw_an_unbiased_mean() -> None:
    torch.manual_seed(0)
    figure, axes = plt.subplots()
    plot_gradient_levels(axes, GradientDoReFa(3), draws=400)
    (line,) = axes.get_lines()
    x, y = torch.tensor(line.get_xdata()), torch.tensor(line.get_ydata())
    assert (y - x).abs().max() < 0.06  # five standard errors of rounding to steps of 2/7
    plt.close(figure)


def test_curves_draw_the_mean_of_each_net() -> None:
    figure, axes = plt.subplots()
    runs = [[{"val/acc": 0.5}, {"val/acc": 0.7}], [{"val/acc": 0.7}, {"val/acc": 0.9}]]
    plot_curves(axes, {"net": runs}, "val/acc")
    (line,) = axes.get_lines()
    assert torch.tensor(line.get_ydata()).tolist() == pytest.approx([0.6, 0.8])
    assert line.get_label() == "net"
    plt.close(figure)


def test_shares_are_written_in_per_cent() -> None:
    figure, axes = plt.subplots()
    plot_curves(axes, {"net": [[{"val/acc": 0.875}, {"val/acc": 1.0}]]}, "val/acc", percent=True)
    (line,) = axes.get_lines()
    assert torch.tensor(line.get_ydata()).tolist() == [0.875, 1.0]
    assert axes.yaxis.get_major_formatter()(0.875, 0) == "87.5 %"
    plt.close(figure)
