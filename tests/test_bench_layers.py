"""benchmarks/layers.py: its data are what it says, it notices wrong results, and a run of it writes what it found."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bitorch_runtime import reference
from layers_cases import LAYERS, Bits, Layer, Problem, bits_of, code_thresholds
from layers_ours import Ours

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "layers.py"


@pytest.mark.parametrize(
    ("name", "macs", "output_shape"),
    [
        ("3x3-64@56", 56 * 56 * 64 * 64 * 9, (1, 56, 56, 64)),
        ("3x3s2-64-128@56", 28 * 28 * 64 * 128 * 9, (1, 28, 28, 128)),
        ("1x1s2-8-4@7", 4 * 4 * 8 * 4, (1, 4, 4, 4)),
        ("dw5x5-16@9", 9 * 9 * 16 * 25, (1, 9, 9, 16)),
        ("linear-24-7@3", 3 * 24 * 7, (3, 7)),
    ],
)
def test_a_name_says_what_layer_it_is(name: str, macs: int, output_shape: tuple[int, ...]) -> None:
    layer = Layer.parse(name)
    assert layer.macs == macs
    assert layer.output_shape == output_shape


@pytest.mark.parametrize("name", ["3x3", "2x2-8@4", "3x5-8@4", "dw3x3-8-16@4", "3x3-0@4", "linear-8", "3x3s0-8@4"])
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*layer|layer.*{name}"):
        Layer.parse(name)


@pytest.mark.parametrize("name", ["W9A1", "W1A2±", "A1W1", "W1"])
def test_wrong_bits_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Bits.parse(name)


def test_bits_read_what_they_print() -> None:
    pairs = [bits for name in LAYERS for bits in bits_of(Layer.parse(name))]
    assert [Bits.parse(str(bits)) for bits in pairs] == pairs


@pytest.mark.parametrize("levels", [1, 3, 15, 255])
def test_thresholds_are_the_staircase_of_batch_norm_and_quantizer(levels: int) -> None:
    multiply = np.array([0.013, 0.4, 1e-6, 0.0021], np.float32)
    offset = np.array([0.31, -0.2, 0.5, 1.7], np.float32)
    thresholds = code_thresholds(multiply, offset, levels, bound=300)
    d = np.arange(-300, 301)[:, None]
    y = d.astype(np.float32) * multiply + offset
    expected = np.rint(np.float32(levels) * np.clip(y, 0, 1))
    np.testing.assert_array_equal((d[..., None] >= thresholds).sum(-1), expected)


@pytest.mark.parametrize("name", ["3x3-32@6", "linear-64-32@9"])
@pytest.mark.parametrize("bits", ["W1A1", "W1A1±", "W1A2", "W4A3", "W8A8"])
def test_layers_use_their_whole_range_of_codes(name: str, bits: str) -> None:
    problem = Problem.random(Layer.parse(name), Bits.parse(bits), np.random.default_rng(0))
    sums = reference.conv2d_codes(
        problem.inputs if problem.inputs.ndim == 4 else problem.inputs[:, None, None, :],
        problem.weights.transpose(0, 2, 3, 1) if problem.weights.ndim == 4 else problem.weights[:, None, None, :],
        padding=[problem.layer.padding] * 4,
        sign_activations=problem.bits.sign,
    )
    codes = reference.apply_thresholds(sums, problem.thresholds, problem.descending)
    assert codes.min() == 0
    assert codes.max() == problem.bits.activation_levels
    assert 0.2 < codes.mean() / codes.max() < 0.8


def test_a_wrong_code_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem.random(Layer.parse("3x3-8@5"), Bits.parse("W2A2"), np.random.default_rng(0))
    Ours(problem, np.random.default_rng(0))
    right = reference.apply_thresholds

    def wrong(*args: object) -> object:
        codes = right(*args)  # type: ignore[arg-type]
        codes[0, 0, 0, 0] ^= 1
        return codes

    monkeypatch.setattr(reference, "apply_thresholds", wrong)
    with pytest.raises(RuntimeError, match="3x3-8@5 W2A2: 1 of 80 codes differ"):
        Ours(problem, np.random.default_rng(0))


def test_a_run_writes_tables_and_picture(tmp_path: Path) -> None:
    layers = ["3x3-8@5", "3x3s2-5-11@9", "dw3x3-8@6", "linear-24-7@3"]
    kept = tmp_path / "layers.json"
    options = ["--layers", *layers, "--bits", "W1A1±", "W2A3", "W8A8", "--engines", "torch", "--rounds", "2"]
    shown = run(*options, "--json", str(kept), "--docs", str(tmp_path / "docs"))
    assert all(layer in shown for layer in layers)

    with (tmp_path / "docs" / "layers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ours = [row for row in rows if row["contestant"].startswith("W")]
    assert [(row["layer"], row["contestant"]) for row in ours] == [
        (layer, bits) for layer in layers for bits in ("W1A1±", "W2A3", "W8A8")
    ]
    assert all(0 < float(row["least"]) <= float(row["seconds"]) for row in ours)
    assert {"PyTorch float32", "PyTorch bfloat16"} <= {row["contestant"] for row in rows}
    assert (tmp_path / "docs" / "layers.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "docs" / "layers.md").read_text(encoding="utf-8")
    assert page.count("\n| W2A3 |") == len(layers)

    run("--again", str(kept), "--docs", str(tmp_path / "again"))
    for name in ("layers.csv", "layers.md"):
        assert (tmp_path / "again" / name).read_text() == (tmp_path / "docs" / name).read_text()


def run(*options: str) -> str:
    command = [sys.executable, "-W", "error", str(SCRIPT), *options]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout


def methods_in_source(kernels: str) -> dict[str, set[str]]:
    """Bits by method, from the table in a kernel file."""
    text = (ROOT / "runtime" / "csrc" / "kernels" / f"{kernels.replace('-', '_')}.cpp").read_text()
    rows = re.findall(r"\{(k\w+(?:, k\w+){7})\}", text)
    assert len(rows) == 8, kernels
    methods: dict[str, set[str]] = {}
    for w, row in enumerate(rows, start=1):
        for a, method in enumerate(row.split(", "), start=1):
            methods.setdefault(method.removeprefix("k").lower(), set()).add(f"W{w}A{a}")
    return methods


def test_the_page_on_kernels_names_the_methods_in_the_source() -> None:
    lines = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8").splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    start = next(number for number, cells in enumerate(table) if cells[0] == "kernels")
    columns = [header.strip("`") for header in table[start][2:5]]
    named = {cells[0].strip("`"): cells[2:5] for cells in table[start + 1 : start + 7]}
    assert len(named) == 6
    for kernels, cells in named.items():
        methods = methods_in_source(kernels)
        expected = {column: methods.get(column, set()) for column in columns}
        assert dict(zip(columns, (set(re.findall(r"W\dA\d", cell)) for cell in cells), strict=True)) == expected, (
            kernels
        )
