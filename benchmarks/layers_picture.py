"""The results as a picture: for each layer a map of weight bits by activation bits."""

from __future__ import annotations

import io
import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from layers_cases import WIDTHS, Bits, Layer
from layers_names import FLOAT, INT8
from layers_results import Results, Row
from layers_table import faster_int8, is_low_bit, ratio

COLUMNS = 4
LARGEST = 3.0  # log2 of the ratio where the colours end
DPI = 200  # a page shows the picture 830 pixels wide, at 100 an inch, and screens may have twice as many
WIDTH = 8.3  # inches


def picture(results: Results) -> bytes:
    """PNG: how many times faster than the faster int8 engine, or than PyTorch's float32 where no int8 engine took part.

    Raises:
        ValueError: neither took part.
    """
    layers = results.layers()
    names = {row.contestant for row in results.rows}
    if names.isdisjoint((FLOAT, *INT8)):
        raise ValueError(
            "the picture compares with other engines, and none took part; leave --docs out, or name --engines"
        )
    base = "the faster int8 engine" if not names.isdisjoint(INT8) else FLOAT
    columns = min(COLUMNS, len(layers))
    lines = math.ceil(len(layers) / columns)
    figure = Figure(figsize=(WIDTH, 2.45 * lines + 1.3), layout="constrained", dpi=DPI)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(layers) :]:
        axes.axis("off")
    for axes, layer in zip(grid.flat, layers, strict=False):
        _layer_map(axes, layer, results.of(layer))
    threads = "1 thread" if results.threads == 1 else f"{results.threads} threads"
    figure.suptitle(f"How many times as fast as {base}\n{results.machine['CPU']}, {threads}", fontsize=11)
    _legend(figure, grid[:, -1].tolist() if lines == 1 else grid[-1].tolist(), base)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _legend(figure: Figure, below: list[Axes], base: str) -> None:
    """One scale of colours for all maps, under the last line of them."""
    colours = ScalarMappable(TwoSlopeNorm(0, -LARGEST, LARGEST), "RdBu")
    bar = figure.colorbar(colours, ax=below, location="bottom", shrink=0.7, aspect=45, extend="both")
    powers = range(-int(LARGEST), int(LARGEST) + 1)
    bar.set_ticks(list(powers), labels=[f"{2**power}×" if power >= 0 else f"1/{2**-power}×" for power in powers])
    bar.ax.tick_params(labelsize=8)
    bar.set_label(f"red: slower than {base}, blue: faster", fontsize=9)


def plain_name(name: str) -> str:
    """A layer as people say it: "3×3, 64 → 128 channels, 56×56 pixels, stride 2"."""
    layer = Layer.parse(name)
    same = layer.in_channels == layer.out_channels
    channels = f"{layer.in_channels}" if same else f"{layer.in_channels} → {layer.out_channels}"
    if layer.linear:
        return f"linear, {channels}\n{layer.batch} vector{'s' if layer.batch > 1 else ''}"
    kind = "depthwise " if layer.groups > 1 else ""
    stride = f", stride {layer.stride}" if layer.stride > 1 else ""
    return f"{kind}{layer.kernel}×{layer.kernel}, {channels} channels\n{layer.size}×{layer.size} pixels{stride}"


def _layer_map(axes: Axes, layer: str, rows: dict[str, Row]) -> None:
    base = faster_int8(rows)
    if base is None:
        base = rows.get(FLOAT)
    values = np.full((len(WIDTHS), len(WIDTHS)), np.nan)
    for row in rows.values():
        bits = Bits.parse(row.contestant) if is_low_bit(row) else None
        if bits is None or bits.sign or bits.weight not in WIDTHS or bits.activation not in WIDTHS:
            continue
        value = ratio(row, base)
        if value is not None:
            values[WIDTHS.index(bits.weight), WIDTHS.index(bits.activation)] = value
    norm = TwoSlopeNorm(0, -LARGEST, LARGEST)
    axes.imshow(np.log2(values), cmap="RdBu", norm=norm, origin="upper")
    for (i, j), value in np.ndenumerate(values):
        if not math.isnan(value):
            colour = "white" if abs(math.log2(value)) > 0.62 * LARGEST else "black"
            axes.text(
                j,
                i,
                _short(value),
                ha="center",
                va="center",
                fontsize=8,
                color=colour,
            )
    took = "" if base is None or base.seconds is None else f"\n{base.contestant}: {_duration(base.seconds)}"
    axes.set_title(f"{plain_name(layer)}{took}", fontsize=8)
    axes.set_xticks(range(len(WIDTHS)), [f"A{a}" for a in WIDTHS], fontsize=7.5)
    axes.set_yticks(range(len(WIDTHS)), [f"W{w}" for w in WIDTHS], fontsize=7.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _duration(seconds: float) -> str:
    return f"{1e6 * seconds:.0f} µs" if seconds < 1e-3 else f"{1e3 * seconds:.2f} ms"


def _short(ratio: float) -> str:
    if ratio < 0.095:
        return f"{ratio:.2f}"
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:.0f}"
