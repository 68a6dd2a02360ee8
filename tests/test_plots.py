"""Pictures show the numbers that they are made of."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

from bitorch.allocation.sensitivity import LayerSensitivity, Sensitivity
from bitorch.deployment.partial.evaluation_forms import EvaluationForms
from bitorch.plots import plot_curves, plot_gradient_levels, plot_sensitivity, plot_staircase
from bitorch.quantizations import GradientDoReFa, InputDoReFa, Sign, WeightDoReFa

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


@pytest.mark.parametrize("accuracy", [0.9, None])
def test_sensitivity_draws_what_each_layer_loses(accuracy: float | None) -> None:
    changes = {("a", (1, 2)): -0.25, ("a", (2, 2)): 0.125, ("b", (2, 2)): -0.5}
    rows = [
        LayerSensitivity(layer, *bits, accuracy, 1.0, None if accuracy is None else change, 2 * change)
        for (layer, bits), change in changes.items()
    ]
    found = Sensitivity(accuracy, 1.0, 10, True, {"a": (4, 4), "b": (4, 4)}, tuple(rows), (), EvaluationForms(()))
    figure, axes = plt.subplots()
    plot_sensitivity(axes, found)
    drawn = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}
    assert drawn == ({"W1A2": [25], "W2A2": [-12.5, 50]} if accuracy else {"W1A2": [-0.5], "W2A2": [0.25, -1]})
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_xlabel() == ("points of accuracy lost" if accuracy else "cross-entropy gained")
    plt.close(figure)


def test_no_line_of_a_staircase_runs_through_the_legend() -> None:
    for quantizer in (InputDoReFa(2), WeightDoReFa(1), Sign()):
        figure, axes = plt.subplots(figsize=(2.8, 2.8), layout="constrained")
        plot_staircase(axes, quantizer)
        figure.canvas.draw()
        legend = axes.get_legend()
        assert legend is not None
        lowest = axes.transData.inverted().transform(legend.get_window_extent())[0][1]
        assert max(float(torch.tensor(line.get_ydata()).max()) for line in axes.get_lines()) < lowest
        plt.close(figure)
