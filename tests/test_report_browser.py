"""The HTML page of `bitorch.report` in a real browser: what it shows, how it sorts, and that it needs nothing else."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bitorch
from bitorch import LowBitConfig, quantize_
from bitorch.models import LeNet8, build
from bitorch.reporting.page_rows import page_rows, worst
from bitorch.reporting.page_table import PAGE_COLUMNS, page_cells, page_totals
from bitorch.reporting.report import Report
from bitorch.reporting.rows import ActivationRange, Histogram, Levels, Row
from webdriver import Browser, browser, missing

WIDTHS = (390, 800, 1280, 1600)  # pixels
NAMES = [column.name for column in PAGE_COLUMNS]
EVIL = '<img src=x onerror="throw 1">&"\''


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    if reason := missing():
        if os.environ.get("BITORCH_REQUIRE_BROWSER") == "1":
            pytest.fail(f"BITORCH_REQUIRE_BROWSER=1, but {reason}")
        pytest.skip(reason)
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def report() -> Report:
    torch.manual_seed(0)
    model = LeNet8(width=0.25)
    quantize_(model, LowBitConfig(1, 2, 6))
    about = {"accuracy": "98.6 %", "settings": "--bits 1 2 6"}
    return bitorch.report(model, torch.rand(8, 1, 8, 8), repeats=2, about=about)


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    report.to_html(path)
    return path


@pytest.fixture
def shown(window: Browser, page: Path) -> Browser:
    """The page in a window."""
    window.resize(1280, 900)
    window.open(page.as_uri())
    return window


def column(window: Browser, name: str) -> list[str]:
    index = NAMES.index(name)
    rows = f"Array.from(document.querySelectorAll('#layers tbody tr')).map(r => r.cells[{index}].textContent)"
    texts: list[str] = window.run(f"return {rows}")
    return texts


def click(window: Browser, name: str) -> None:
    window.click(f"#layers thead th:nth-child({NAMES.index(name) + 1}) button")


def test_the_table_has_every_row_and_the_totals(shown: Browser, report: Report) -> None:
    script = "return Array.from({}).map(row => Array.from(row.cells).map(cell => cell.textContent))"
    rows = shown.run(script.format("document.querySelectorAll('#layers tbody tr')"))
    assert [tuple(text.replace("\u00a0", " ") for text in row) for row in rows] == [
        page_cells(each) for each in page_rows(report.rows)
    ]
    (totals,) = shown.run(script.format("document.querySelectorAll('#layers tfoot tr')"))
    assert tuple(text.replace("\u00a0", " ") for text in totals) == page_totals(report.totals)
    tiles = shown.run("return Array.from(document.querySelectorAll('.tile b')).map(tile => tile.textContent)")
    assert tiles[0] == f"{report.totals.packed_bytes:,}"
    assert tiles[-1] == "yes"
    assert shown.run("return document.title") == "LeNet8: what each layer costs"
    assert shown.log() == []


def test_a_batch_norm_is_in_its_convolution(report: Report) -> None:
    rows = page_rows(report.rows)
    assert [each.kind for each in rows if each.row.weight_shape] == [
        "Conv2d + BatchNorm2d", "QConv2d + BatchNorm2d", "QConv2d + BatchNorm2d", "QLinear + BatchNorm1d", "Linear",
    ]  # fmt: skip
    for name in ("parameters", "float_bytes", "packed_bytes", "macs", "bit_operations"):
        assert sum(getattr(each.row, name) for each in rows) == getattr(report.totals, name)
    assert sum(each.row.milliseconds or 0 for each in rows) == pytest.approx(report.totals.milliseconds)
    assert [row.name for each in rows for row in (each.row, *each.inside)] == [row.name for row in report.rows]


def test_all_numbers_of_a_batch_norm_count() -> None:
    """Where it does not deploy it has bytes and time of its own."""
    numbers: dict[str, Any] = {"parameters": 1, "float_bytes": 2, "packed_bytes": 4, "macs": 8, "bit_operations": 16}
    rows = [
        Row("conv", "Conv2d", weight_shape=(1, 1, 1, 1), milliseconds=0.5, share=0.25, **numbers),
        Row("norm", "BatchNorm2d", weight_shape=(1,), milliseconds=0.25, share=0.5, **numbers),
    ]
    (whole,) = (each.row for each in page_rows(rows))
    assert {name: getattr(whole, name) for name in numbers} == {name: 2 * value for name, value in numbers.items()}
    assert (whole.name, whole.milliseconds, whole.share) == ("conv", 0.75, 0.75)


def test_a_batch_norm_behind_none_has_a_row() -> None:
    rows = [Row("norm", "BatchNorm2d"), Row("pool", "operations"), Row("other", "BatchNorm2d", weight_shape=(4,))]
    assert [each.row for each in page_rows(rows)] == rows


def test_the_worst_layer() -> None:
    plot = Histogram(0, 1, ((1,),))

    def row(name: str, seen: int, above: float, milliseconds: float) -> Row:
        clips = ActivationRange(-1, 2, 0, 1, 0.9, above)
        return Row(
            name, "QConv2d", activation_levels=Levels(seen, 4), activation_range=clips, milliseconds=milliseconds,
            weights=plot, packed_bytes=len(name),
        )  # fmt: skip

    for rows, name, reason in (
        ([row("a", 3, 0.9, 9), row("b", 1, 0, 1), row("c", 4, 0.95, 1)], "b", "levels that never occur"),
        ([row("a", 4, 0.6, 9), row("b", 4, 0.7, 1), row("c", 4, 0, 99)], "b", "of the input clipped"),
        ([row("a", 4, 0.4, 1), row("b", 4, 0.0, 2)], "b", "time"),
        ([row("a", 4, 0.4, 0), row("long", 4, 0.0, 0)], "long", "bytes"),
    ):
        found = worst(page_rows(rows))
        assert found is not None
        assert found[0].row.name == name
        assert reason in found[1]
    assert worst(page_rows([Row("pool", "operations")])) is None


def test_a_click_on_a_heading_sorts(shown: Browser, report: Report) -> None:
    rows = [each.row for each in page_rows(report.rows)]
    calls = [row.name for row in rows]
    click(shown, "bytes")
    assert column(shown, "layer") == [row.name for row in sorted(rows, key=lambda row: -row.packed_bytes)]
    click(shown, "bytes")
    assert column(shown, "layer") == [row.name for row in sorted(rows, key=lambda row: row.packed_bytes)]
    click(shown, "bytes")
    assert column(shown, "layer") == calls
    click(shown, "layer")
    assert column(shown, "layer")[:3] == ["file header", "flatten", "input"]
    click(shown, "MACs")  # not its text: 590k is less than 1.18M
    assert column(shown, "layer") == [row.name for row in sorted(rows, key=lambda row: -row.macs)]
    sorted_by = shown.run("return Array.from(document.querySelectorAll('th')).map(th => th.getAttribute('aria-sort'))")
    assert sorted_by == ["descending" if name == "MACs" else "none" for name in NAMES]
    assert shown.log() == []


def test_what_the_page_is_about(shown: Browser, report: Report) -> None:
    terms = shown.run("return Array.from(document.querySelectorAll('.about dt')).map(term => term.textContent)")
    texts = shown.run("return Array.from(document.querySelectorAll('.about dd')).map(text => text.textContent)")
    facts = dict(zip(terms, texts, strict=True))
    assert facts == report.about
    assert (facts["accuracy"], facts["settings"]) == ("98.6 %", "--bits 1 2 6")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", facts["date"])
    assert f"bitorch {bitorch.__version__}, " in facts["versions"]
    assert f"torch {torch.__version__}" in facts["versions"]
    assert len(facts["machine"]) > 8
    assert "How to read this" in shown.run("return document.querySelector('.how h2').textContent")
    assert shown.run("return document.querySelectorAll('.how dt').length") >= 6


#: The colours of the page, its text, and of a text in a plot.
_COLORS = """
const color = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
return [color('body', 'backgroundColor'), color('body', 'color'), color('details[open] svg text', 'fill')]
"""


def brightness(color: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", color)[:3])
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


def test_light_and_dark(shown: Browser) -> None:
    for scheme, is_dark in (("dark", True), ("light", False)):
        shown.prefer_color_scheme(scheme)
        page, text, plot = map(brightness, shown.run(_COLORS))
        assert (page < 0.15, page > 0.95) == (is_dark, not is_dark)
        assert abs(page - text) > 0.7
        assert plot == text
    shown.prefer_color_scheme("")


def test_every_column_of_a_deep_net_is_in_a_window_of_1280(window: Browser, tmp_path: Path) -> None:
    """With names of three parts, nine blocks and the longest names of kernels."""
    torch.manual_seed(0)
    model = build("mobilenet-v2", 3, 10)
    quantize_(model, LowBitConfig(4, 4, first=8, last=8))
    bitorch.report(model.eval(), torch.rand(2, 3, 32, 32), repeats=1).to_html(tmp_path / "deep.html")
    window.resize(1280, 900)
    window.open((tmp_path / "deep.html").as_uri())
    assert window.run(_OUTSIDE) == [[], []]
    assert window.run("return document.documentElement.scrollWidth <= window.innerWidth")


def test_a_layers_plots_open(shown: Browser, report: Report) -> None:
    plotted = [row for row in report.rows if row.weights is not None or row.activations is not None]
    assert shown.run("return document.querySelectorAll('details').length") == len(plotted) == 5
    found = worst(page_rows(report.rows))
    assert found is not None
    opened = "return Array.from(document.querySelectorAll('details[open] summary b')).map(name => name.textContent)"
    assert shown.run(opened) == [found[0].row.name]
    shown.run("document.querySelectorAll('details').forEach(each => { each.open = false })")
    shown.click("#layers tbody tr:nth-child(2) a")
    assert shown.run(opened) == ["layers.3"]
    captions = "Array.from(document.querySelectorAll('details[open] figcaption'))"
    texts = shown.run(f"return {captions}.map(caption => caption.textContent)")
    seen = next(row.activation_levels for row in report.rows if row.name == "layers.3")
    assert [text.split(",")[0] for text in texts] == ["weights: 2/2 levels occur", f"input: {seen} levels occur"]
    sizes = shown.run(
        "return Array.from(document.querySelectorAll('details[open] svg')).map(s => s.getBoundingClientRect().height)"
    )
    assert len(sizes) == 2
    assert min(sizes) > 100
    shapes = "Array.from(document.querySelectorAll('details[open] svg path')).map(p => p.getBBox().width)"
    assert max(shown.run(f"return {shapes}")) > 100  # the histogram is drawn
    assert shown.log() == []


def test_dead_levels_and_clipped_inputs_are_marked(window: Browser, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    quantize_(model, LowBitConfig(2, 2, first="same", last="same"))
    with torch.no_grad():
        for index, bias in ((0, 0.5), (1, 3.0), (2, 0.0)):  # what the second and the third layer get
            layer = model[index]
            assert isinstance(layer, nn.Linear)
            layer.bias.fill_(bias)
            layer.weight.copy_(torch.tensor([[1.0, -1.0], [0.1, -0.1]]))
    bitorch.report(model, torch.tensor([[-5.0, -5.0], [0.4, 0.4]]), repeats=1).to_html(tmp_path / "marks.html")
    window.open((tmp_path / "marks.html").as_uri())
    marked = window.run(
        "return Array.from(document.querySelectorAll('td.warn')).map(c => [c.parentNode.rowIndex - 1, c.cellIndex])"
    )
    assert [(row, NAMES[column]) for row, column in marked] == [
        (0, "A levels"),
        (1, "A levels"),
        (2, "A levels"),
        (2, "clipped"),
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_as_wide_as_the_window(shown: Browser, width: int) -> None:
    """Wide tables scroll by themselves."""
    shown.resize(width, 800)
    assert shown.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert shown.run("return document.querySelector('.scroll').scrollWidth >= 300")


#: Of the cells of each column, headings among them, those that lie outside of what can be seen of the table, to the
#: right or the left; and those whose text is wider than they are.
_OUTSIDE = """
const box = document.querySelector('.scroll').getBoundingClientRect();
const name = document.querySelector('#layers th').getBoundingClientRect().right;
const right = box.left + document.querySelector('.scroll').clientWidth + 2;
const outside = new Set(), tight = new Set();
for (const cell of document.querySelectorAll('#layers th, #layers td')) {
  const at = cell.getBoundingClientRect();
  if (at.right > right || (cell.cellIndex > 0 && at.left < name - 1)) outside.add(cell.cellIndex);
  if (cell.scrollWidth > cell.clientWidth + 1) tight.add(cell.cellIndex);
}
return [Array.from(outside), Array.from(tight)]
"""


#: Whether there is a hint, and a shade at the right: when the page has seen the window's new size.
_TOLD = """
const shown = () => [getComputedStyle(document.querySelector('.hint')).display,
                     getComputedStyle(document.querySelector('.frame'), '::after').opacity];
return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(shown()))))
"""


@pytest.mark.parametrize("width", WIDTHS)
def test_every_column_can_be_seen(shown: Browser, width: int) -> None:
    """As it is from 1280 pixels on; else the table has a bar to scroll it, and says so."""
    shown.resize(width, 900)
    shown.run("document.querySelector('.scroll').scrollLeft = 0")
    outside, tight = shown.run(_OUTSIDE)
    assert tight == []
    told = shown.run(_TOLD)
    if width >= 1280:
        assert (outside, told) == ([], ["none", "0"])
        return
    assert outside != []
    assert told == ["block", "1"]
    bar = shown.run("const s = document.querySelector('.scroll'); return s.offsetHeight - s.clientHeight")
    assert bar > 8  # the bar, beside borders of a pixel
    seen = set(range(len(NAMES))) - set(outside)
    while len(seen) < len(NAMES):
        before = len(seen)
        moved = shown.run("const s = document.querySelector('.scroll'); s.scrollLeft += 100; return s.scrollLeft")
        outside, _ = shown.run(_OUTSIDE)
        seen |= set(range(len(NAMES))) - set(outside)
        assert len(seen) > before or moved < 2000, [NAMES[index] for index in outside]
    shown.run("document.querySelector('.scroll').scrollLeft = 1e6")
    assert NAMES.index("kernel") not in shown.run(_OUTSIDE)[0]


def test_the_bar_of_a_long_table_is_in_the_window(window: Browser, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.BatchNorm1d(4) for _ in range(60)])  # without plots, which take time
    bitorch.report(model, torch.rand(2, 4), repeats=1).to_html(tmp_path / "long.html")
    window.resize(800, 700)
    window.open((tmp_path / "long.html").as_uri())
    assert window.run("return document.querySelector('.scroll').offsetHeight <= window.innerHeight")
    head = "document.querySelector('#layers th').getBoundingClientRect().top"
    before = window.run(f"return {head}")
    window.run("document.querySelector('.scroll').scrollTop = 500")
    assert window.run(f"return {head}") == before  # headings stay


def test_long_names_are_whole(window: Browser, tmp_path: Path) -> None:
    name = "a" * 40 + "_without_a_dot_anywhere"
    model = nn.Sequential()
    model.add_module(name, nn.Linear(4, 4))
    bitorch.report(model, torch.rand(2, 4), repeats=1).to_html(tmp_path / "names.html")
    for width in WIDTHS:
        window.resize(width, 900)
        window.open((tmp_path / "names.html").as_uri())
        assert column(window, "layer")[0] == name
        wide = "const c = document.querySelector('#layers tbody td'); return [c.scrollWidth, c.clientWidth]"
        text, cell = window.run(wide)
        assert text <= cell < width


def test_bars_are_as_long_as_their_numbers(shown: Browser, report: Report) -> None:
    script = (
        "return Array.from(document.querySelectorAll('.bars .bytes i')).map(bar => bar.getBoundingClientRect().width)"
    )
    widths = shown.run(script)
    sizes = [each.row.packed_bytes for each in page_rows(report.rows) if each.row.packed_bytes]
    assert len(widths) == len(sizes)
    expected = [max(1.0, max(widths) * size / max(sizes)) for size in sizes]
    assert widths == pytest.approx(expected, abs=0.5)


def test_names_are_text(window: Browser, tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module(EVIL, nn.Linear(4, 4))
    bitorch.report(model, torch.rand(2, 4), repeats=1).to_html(tmp_path / "evil.html")
    window.open((tmp_path / "evil.html").as_uri())
    assert column(window, "layer")[0] == EVIL
    assert window.run("return document.images.length") == 0
    assert window.log() == []


@pytest.mark.slow
def test_a_deep_net_is_a_small_page(window: Browser, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(60)]
    model = nn.Sequential(*layers)
    quantize_(model, LowBitConfig(4, 4))
    found = bitorch.report(model, torch.rand(2, 8, 6, 6), repeats=1)
    found.to_html(tmp_path / "deep.html")
    assert (tmp_path / "deep.html").stat().st_size < 3_000_000
    window.open((tmp_path / "deep.html").as_uri())
    assert column(window, "layer") == [each.row.name for each in page_rows(found.rows)]
    assert window.run("return document.querySelectorAll('details').length") == 60
    assert window.log() == []


def test_the_file_needs_no_other(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert {path.name for path in page.parent.iterdir()} == {"report.html"}
    addresses = set(re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", text)) | set(re.findall(r"url\(([^)]*)\)", text))
    assert all(address.startswith(("#", "data:,")) for address in addresses)
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))


def test_without_matplotlib(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bitorch.reporting.page", "bitorch.reporting.histogram_plots"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'needs matplotlib: pip install "\.\[plots\]"'):
        report.to_html(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
