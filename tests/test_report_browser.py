"""The HTML page of `bitorch.report` in a real browser: what it shows, how it sorts, and that it needs nothing else."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import bitorch
from bitorch import LowBitConfig, quantize_
from bitorch.models import LeNet8
from bitorch.reporting.report import Report
from bitorch.reporting.tables import COLUMNS, cells, total_cells
from webdriver import Browser, browser, missing

WIDTHS = (390, 800, 1200, 1600)  # pixels
NAMES = [column.name for column in COLUMNS]
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
    return bitorch.report(model, torch.rand(8, 1, 8, 8), repeats=2)


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    report.to_html(path)
    return path


@pytest.fixture
def shown(window: Browser, page: Path) -> Browser:
    """The page in a window."""
    window.resize(1200, 900)
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
    assert [tuple(row) for row in rows] == [cells(row) for row in report.rows]
    (totals,) = shown.run(script.format("document.querySelectorAll('#layers tfoot tr')"))
    assert tuple(totals) == total_cells(report.totals)
    tiles = shown.run("return Array.from(document.querySelectorAll('.tile b')).map(tile => tile.textContent)")
    assert tiles[0] == f"{report.totals.packed_bytes:,}"
    assert tiles[-1] == "yes"
    assert shown.run("return document.title") == "LeNet8: what each layer costs"
    assert shown.log() == []


def test_a_click_on_a_heading_sorts(shown: Browser, report: Report) -> None:
    calls = [row.name for row in report.rows]
    by_bytes = sorted(report.rows, key=lambda row: -row.packed_bytes)
    click(shown, "packed B")
    assert column(shown, "layer") == [row.name for row in by_bytes]
    click(shown, "packed B")
    assert column(shown, "layer") == [row.name for row in sorted(report.rows, key=lambda row: row.packed_bytes)]
    click(shown, "packed B")
    assert column(shown, "layer") == calls
    click(shown, "layer")
    assert column(shown, "layer")[:3] == ["file header", "flatten", "input"]
    click(shown, "MACs")  # not its text: 590k is less than 1.18M
    assert column(shown, "layer") == [row.name for row in sorted(report.rows, key=lambda row: -row.macs)]
    sorted_by = shown.run("return Array.from(document.querySelectorAll('th')).map(th => th.getAttribute('aria-sort'))")
    assert sorted_by == ["descending" if name == "MACs" else "none" for name in NAMES]
    assert shown.log() == []


def test_a_layers_plots_open(shown: Browser, report: Report) -> None:
    plotted = [row for row in report.rows if row.weights is not None or row.activations is not None]
    assert shown.run("return document.querySelectorAll('details').length") == len(plotted) == 5
    assert shown.run("return document.querySelectorAll('details[open]').length") == 0
    shown.click("#layers tbody tr:nth-child(3) a")
    assert shown.run("return document.querySelector('details[open] summary b').textContent") == "layers.3"
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
    """As it is from 1200 pixels on; else the table has a bar to scroll it, and says so."""
    shown.resize(width, 900)
    shown.run("document.querySelector('.scroll').scrollLeft = 0")
    outside, tight = shown.run(_OUTSIDE)
    assert tight == []
    told = shown.run(_TOLD)
    if width >= 1200:
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
    sizes = [row.packed_bytes for row in report.rows if row.packed_bytes]
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
    assert column(window, "layer") == [row.name for row in found.rows]
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
