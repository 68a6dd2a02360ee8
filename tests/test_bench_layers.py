"""benchmarks/layers.py: its data are what it says, it notices wrong results, and a run of it writes what it found."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

import bitorch_runtime
from bitorch_runtime import reference
from layers_cases import LAYERS, Bits, Layer, Problem, bits_of, code_thresholds
from layers_ours import Ours
from layers_picture import plain_name

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
    rows = re.findall(r"\{([PBWT](?:, [PBWT]){7})\}", text)
    assert len(rows) == 8, kernels
    letters = {"P": "popcount", "B": "bytes", "W": "words", "T": "tables"}
    methods: dict[str, set[str]] = {}
    for w, row in enumerate(rows, start=1):
        for a, method in enumerate(row.split(", "), start=1):
            methods.setdefault(letters[method], set()).add(f"W{w}A{a}")
    return methods


def page_on_kernels() -> str:
    return (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")


def methods_on_the_page() -> dict[str, dict[str, set[str]]]:
    """Bits by method, by kernels, from the table on the page."""
    lines = page_on_kernels().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    start = next(number for number, cells in enumerate(table) if cells[0] == "kernels")
    columns = [header.strip("`") for header in table[start][2:5]]
    return {
        cells[0].strip("`"): {
            column: set(re.findall(r"W\dA\d", cell)) for column, cell in zip(columns, cells[2:5], strict=True)
        }
        for cells in table[start + 1 : start + 7]
    }


def test_the_page_on_kernels_names_the_methods_in_the_source() -> None:
    page = methods_on_the_page()
    assert len(page) == 6
    for kernels, columns in page.items():
        methods = methods_in_source(kernels)
        assert columns == {column: methods.get(column, set()) for column in columns}, kernels


class Window(NamedTuple):
    """A layer on the page on kernels: square kernel, image without padding."""

    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    size: int = 7

    def weights(self, bits: int) -> npt.NDArray[np.int64]:
        """The largest codes of so many bits."""
        return np.full((self.outputs, self.inputs // self.groups, self.kernel, self.kernel), 2**bits - 1, np.int64)


#: Each beside another one that is on the other side of a rule's limit, for 32 or for 64 channels per look-up.
WINDOWS = [
    *(Window(8, outputs) for outputs in (1, 15, 16, 17, 31, 32, 63, 64, 65, 128)),
    *(Window(8, outputs, kernel=5) for outputs in (23, 24, 25, 47, 48, 49)),
    *(Window(8, outputs, stride=2) for outputs in (124, 128, 252, 256)),
    *(Window(8, outputs, kernel=1) for outputs in (287, 288, 575, 576)),
    *(Window(8, outputs, size=3) for outputs in (16, 17, 64)),  # one pixel leaves
    *(Window(8, outputs, kernel=1, size=1) for outputs in (16, 17, 64)),
    Window(16, 32, groups=2),
    Window(14, 32, groups=2),
    Window(16, 30, groups=2),
    Window(16, 128, groups=2),
    Window(16, 32, groups=2, size=3),
    Window(8, 8, groups=8),
    Window(8, 16, groups=8),
    Window(8, 8, groups=8, size=3),
]
BITS = [(weight, activation) for weight in range(1, 9) for activation in range(1, 9)]


#: Numbers in the sentences after the table, by what they limit.
LIMITS = {
    "planes of one pixel": r"up to W·A = (\d+) it gets `popcount`",
    "look-ups": r"Less than (\d+) times",
    "instead of tables": r"`popcount` stands in up to W·A = (\d+), `bytes` above",
    "of a group": r"where a group has fewer than (\d+) output channels",
    "divisor": r"a number of input channels that (\d+) does not divide",
    "few": r"layers of up to (\d+) output channels get `bytes`",
    "few channels": r"output channels get `bytes` from W·A = (\d+) on",
}


def limits_on_the_page() -> dict[str, int]:
    text = " ".join(page_on_kernels().split())
    return {name: int(re.findall(pattern, text)[0]) for name, pattern in LIMITS.items()}


def method_by_the_page(
    limits: dict[str, int], columns: dict[str, set[str]], lanes: int, window: Window, weight: int, activation: int
) -> str:
    """What the rules on the page give; `lanes` output channels are served by one look-up."""
    pixels = (window.size - window.kernel) // window.stride + 1
    product = weight * activation
    if window.groups > 1 and window.groups == window.inputs == window.outputs:
        return "depthwise"
    method = next((name for name, bits in columns.items() if f"W{weight}A{activation}" in bits), "bytes")
    if pixels == 1 and product <= limits["planes of one pixel"]:
        method = "popcount"
    if method == "tables":
        look_ups = window.kernel**2 * window.outputs / (window.stride**2 * lanes)
        if look_ups < limits["look-ups"] or window.outputs < lanes * 3 / 4 or window.groups > 1:
            method = "popcount" if product <= limits["instead of tables"] else "bytes"
    few = window.outputs // window.groups < limits["of a group"]
    split = window.inputs // window.groups % limits["divisor"] != 0
    if method == "popcount" and window.groups > 1 and (few or split):
        method = "bytes"
    if method == "popcount" and window.outputs <= limits["few"] and product >= limits["few channels"]:
        method = "bytes"
    return method


@pytest.mark.skipif(os.environ.get("BITORCH_FUSED") != "0", reason="fused kernels are chosen by what they cost")
def test_layers_get_the_methods_that_the_page_on_kernels_says() -> None:
    kernels = bitorch_runtime.cpu()["kernel"].replace("-amx", "-vpopcntdq")
    lanes = {
        name: int(number)
        for number, name in re.findall(r"(\d+)(?: output channels)? \(`([\w-]+)`\)", page_on_kernels())
    }
    assert lanes == {"avx2": 32, "avx512-vpopcntdq": 64}
    columns, limits = methods_on_the_page()[kernels], limits_on_the_page()
    wrong = []
    for window in WINDOWS:
        for weight, activation in BITS:
            layer = bitorch_runtime.Conv2d(
                window.weights(weight),
                weight_bits=weight,
                activation_bits=activation,
                stride=window.stride,
                groups=window.groups,
            )
            got = layer.program(window.size, window.size).operations()[1]["kernel"].split()[0]
            expected = method_by_the_page(limits, columns, lanes.get(kernels, 0), window, weight, activation)
            if got != expected:
                wrong.append(f"{kernels}, {window}, W{weight}A{activation}: {got} instead of {expected}")
    assert wrong == []


@pytest.mark.parametrize("kernels", bitorch_runtime.cpu()["kernels"])
def test_layers_get_these_methods_with_every_set_of_kernels(kernels: str) -> None:
    """Kernels are chosen once per process; the test needs no PyTorch and no plugins, which import longer."""
    test = f"{__file__}::{test_layers_get_the_methods_that_the_page_on_kernels_says.__name__}"
    without = ["--noconftest", *(f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "xdist"))]
    command = [sys.executable, "-m", "pytest", "-q", *without, test]
    done = subprocess.run(
        command,
        env=os.environ | {"BITORCH_KERNEL": kernels, "BITORCH_FUSED": "0"},
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_linear_layers_get_the_method_of_one_pixel() -> None:
    for outputs in (16, 17):
        for weight, activation in ((1, 1), (1, 3), (2, 4), (3, 3)):
            codes = np.ones((outputs, 24), np.int64)
            linear = bitorch_runtime.Linear(codes, weight_bits=weight, activation_bits=activation)
            conv = bitorch_runtime.Conv2d(codes[:, :, None, None], weight_bits=weight, activation_bits=activation)
            (_, of_linear, _), (_, of_conv, _) = linear.program().operations(), conv.program(1, 1).operations()
            assert of_linear["kernel"] == of_conv["kernel"]


@pytest.mark.parametrize("other", ["a layer that wants bytes", "a layer with groups", "a concatenation", "nothing"])
def test_popcounts_become_bytes_where_the_page_on_kernels_says(other: str) -> None:
    """Of a layer with W·A = 2 and one pixel, which would have popcounts with all kernels."""
    window = {"kernel_size": [1, 1], "stride": [1, 1], "padding": [0] * 4, "dilation": [1, 1]}

    def conv(input_: str, weight_bits: int, groups: int, **result: object) -> dict[str, object]:
        keys = {"op": "conv2d", "input": input_, "weight": f"w{weight_bits}{groups}", "weight_bits": weight_bits}
        return {**keys, "out_channels": 36, "groups": groups, **window, **result}

    operations: list[dict[str, object]] = [
        {"op": "input", "output": "x", "dtype": "uint8", "bits": 2, "shape": [36, 1, 1], "order": "nhwc"}
    ]
    weights = {(1, 1): 36}
    if other == "a layer with groups":
        operations += [conv("x", 2, 3, bits=2, codes="a", thresholds="t")]
        weights[2, 3] = 12
    else:
        operations += [{"op": "lookup", "input": "x", "output": "a", "bits": 2, "table": "same"}]
    operations += [conv("a", 1, 1, int32="y"), {"op": "output", "input": "y"}]
    if other == "a layer that wants bytes":
        operations += [conv("a", 8, 1, int32="z"), {"op": "output", "input": "z"}]
        weights[8, 1] = 36
    elif other == "a concatenation":
        operations += [{"op": "concat", "inputs": ["a", "a"], "output": "z"}, {"op": "output", "input": "z"}]
    arrays: dict[str, npt.NDArray[Any]] = {
        f"w{bits}{groups}": bitorch_runtime.pack_weights(np.ones((36, inputs), np.int64), bits)
        for (bits, groups), inputs in weights.items()
    }
    if other == "a layer with groups":
        arrays["t"] = np.zeros((36, 3), np.int32)
    else:
        arrays["same"] = np.arange(4, dtype=np.uint8)
    entry = bitorch_runtime.Program(operations, arrays).operations()[2]
    assert entry["kernel"].split()[0] == ("popcount" if other == "nothing" else "bytes")


def test_maps_have_plain_names() -> None:
    assert [plain_name(name) for name in ("3x3s2-64-128@56", "dw3x3-128@28", "1x1-512@7")] == [
        "3×3, 64 → 128 channels\n56×56 pixels, stride 2",
        "depthwise 3×3, 128 channels\n28×28 pixels",
        "1×1, 512 channels\n7×7 pixels",
    ]
    assert plain_name("linear-512-1000@1") == "linear, 512 → 1000\n1 vector"
    assert plain_name("linear-4096@64") == "linear, 4096\n64 vectors"
