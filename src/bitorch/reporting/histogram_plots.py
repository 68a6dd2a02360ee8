"""Histograms of a report as SVG for a page. Needs the extra `plots`."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from .rows import ActivationRange, Histogram

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise ImportError(
        'the HTML page of a report needs matplotlib: pip install ".[plots]" in a checkout of bitorch', name=error.name
    ) from error

_SIZE = (4.4, 2.5)  # inches
_BLUE, _CLIP, _LINE = "#2f6fb0", "#e4ebf3", "#1a1d21"
#: From the lowest level to the highest.
_LEVELS = LinearSegmentedColormap.from_list("levels", ["#1d4f91", "#77aadb", "#e9b95b", "#b4512b"])
#: More lines than this hide what they stand on, and more labels than this cover each other.
_MOST_LINES, _MOST_LABELS = 16, 8
#: By colour of a plot, the colour of the page that stands in its place, and is another one in the dark.
_OF_PAGE = {
    _LINE: "var(--text)",
    _BLUE: "var(--bytes)",
    _CLIP: "var(--clip)",
    "#565d66": "var(--quiet)",
    "#ffffff": "var(--page)",
}
#: Of which each figure would have a block.
_METADATA = ("Creator", "Date", "Format", "Type")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "font.sans-serif": ["DejaVu Sans"],  # the page has others
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#565d66",
    "xtick.color": "#1a1d21",
    "ytick.color": "#1a1d21",
}


def weight_plot(histogram: Histogram, name: str) -> str:
    """Return the histogram of a weight, coloured by the level that each number becomes.

    A line stands at the mean of a level's weights; above it the level's value.

    Args:
        name: unique among the plots of a page.
    """

    def draw(axes: Axes) -> None:
        bottom = [0.0] * len(histogram.counts[0])
        for index, counts in enumerate(histogram.counts):
            is_one = len(histogram.counts) == 1
            color = _BLUE if is_one else _LEVELS(index / (len(histogram.counts) - 1))
            top = [below + count for below, count in zip(bottom, counts, strict=True)]
            first, end = _occupied(counts)
            edges = _edges(histogram)[first : end + 1]
            axes.stairs(top[first:end], edges, baseline=bottom[first:end], fill=True, color=color, linewidth=0)
            bottom = top
        axes.set_ylim(0, 1.18 * max(bottom))
        means = [_mean(histogram, index) for index in range(len(histogram.levels))]
        _draw_lines(axes, means)
        if len(means) <= _MOST_LABELS:
            _write_levels(axes, means, histogram.levels)
        axes.set_xlabel("weight")

    return _svg(draw, name)


def activation_plot(histogram: Histogram, found: ActivationRange | None, levels: int, name: str) -> str:
    """Return the histogram of what comes to a quantizer, with counts on a logarithmic axis.

    Its range, from the lowest to the highest level, is shaded, and the levels are lines.

    Args:
        levels: how many there are; 0 without a grid.
        name: unique among the plots of a page.
    """

    def draw(axes: Axes) -> None:
        lines: list[float] = []
        if found is not None and found.low is not None and found.high is not None:
            axes.axvspan(found.low, found.high, color=_CLIP, linewidth=0)
            if 2 <= levels <= _MOST_LINES:
                step = (found.high - found.low) / (levels - 1)
                lines = [found.low + index * step for index in range(levels)]
        counts = histogram.counts[0]
        axes.stairs(counts, _edges(histogram), baseline=0.5, fill=True, color=_BLUE, linewidth=0)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: _power_of_ten(value))
        axes.set_ylim(0.5, 2 * max(counts))
        _draw_lines(axes, lines)
        axes.set_xlabel("input of the quantizer")

    return _svg(draw, name)


def _power_of_ten(value: float) -> str:
    """Such as "10k": matplotlib's own powers are slow to set."""
    factor, prefix = next(((f, p) for f, p in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= f), (1.0, ""))
    return f"{value / factor:.0f}{prefix}"


def _draw_lines(axes: Axes, positions: Sequence[float]) -> None:
    """Draw vertical lines as one path, which is much smaller than one path for each."""
    bottom, top = axes.get_ylim()
    xs = [x for position in positions for x in (position, position, math.nan)]
    ys = [bottom, top, math.nan] * len(positions)
    axes.plot(xs, ys, color=_LINE, linewidth=0.8, linestyle=(0, (3, 2)), scaley=False)


def _write_levels(axes: Axes, positions: Sequence[float], levels: Sequence[float]) -> None:
    top = axes.get_ylim()[1]
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for position, level in zip(positions, levels, strict=True):
        axes.text(position, top, f"{level:.3g}".replace("-", "−"), ha="center", va="top", fontsize=8, bbox=box)


def _occupied(counts: Sequence[int]) -> tuple[int, int]:
    """The first bin that is not empty, and the one behind the last."""
    filled = [index for index, count in enumerate(counts) if count]
    return (filled[0], filled[-1] + 1) if filled else (0, 1)


def _edges(histogram: Histogram) -> list[float]:
    bins = len(histogram.counts[0])
    return [histogram.low + (histogram.high - histogram.low) * index / bins for index in range(bins + 1)]


def _mean(histogram: Histogram, series: int) -> float:
    counts, edges = histogram.counts[series], _edges(histogram)
    middles = [(one + other) / 2 for one, other in pairwise(edges)]
    return sum(c * middle for c, middle in zip(counts, middles, strict=True)) / sum(counts)


def _svg(draw: Callable[[Axes], None], name: str) -> str:
    """Return a figure as an SVG element whose ids no other figure has."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=_SIZE)
        figure.subplots_adjust(left=0.13, right=0.985, top=0.97, bottom=0.2)  # a layout that looks for it is slow
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        draw(axes)
        axes.minorticks_off()
        axes.set_ylabel("count")
        axes.margins(x=0.02)
        text = io.StringIO()
        FigureCanvasSVG(figure)
        figure.savefig(text, format="svg", metadata=dict.fromkeys(_METADATA))
    return _smaller(text.getvalue())


def _smaller(svg: str) -> str:
    """Return the element alone, in the page's colours, without comments, ids that each figure has, and digits that
    nobody sees."""
    svg = svg[svg.index("<svg") :]
    for color, of_page in _OF_PAGE.items():
        svg = svg.replace(color, of_page)
    svg = re.sub(r'<g id="[A-Za-z0-9_.]+">', "<g>", svg)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"<[^>]*>", _smaller_tag, svg))


def _smaller_tag(tag: re.Match[str]) -> str:
    numbers = re.sub(r"(?<=\.\d)\d+", "", tag[0])
    return re.sub(r"\s*\n\s*(?=[MLz])|(?<=[ML])\s(?=\d)|\s+(?=\"/>)", "", numbers)
