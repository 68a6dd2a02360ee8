"""What the compiler put into the object files: wide instructions only where the CPU was asked whether it has them.

A function that two object files emit is merged by the linker, which may keep the copy with AVX-512 for the code that
runs everywhere. So kernel files define their tables and fused kernels alone as global symbols, and the rest of the core
has baseline instructions only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

#: What each kernel file defines: a table, two that differ in little, or fused kernels.
SYMBOLS = {
    "kernel_portable": {"kPortableKernels"},
    "kernel_resize_portable": {"kPortableResize"},
    "kernel_resize_avx2": {"kAvx2Resize"},
    "kernel_resize_avx512": {"kAvx512Resize"},
    "kernel_avx2": {"kAvx2Kernels"},
    "kernel_avx512": {"kAvx512Kernels"},
    "kernel_avx512_vpopcntdq": {"kAvx512VpopcntdqKernels", "kAvx512AmxKernels"},
    "kernel_fused_bytes": {"kFusedBytesAvx512"},
    "kernel_fused_amx": {"kFusedAmx"},
    "kernel_fused_popcount": {"kFusedPopcount8", "kFusedPopcount16", "kFusedPopcount32", "kFusedPopcountFew"},
    "kernel_fused_tables": {"kFusedTables9"},
    "kernel_fused_tables16": {"kFusedTables16"},
    "kernel_fused_depthwise": {"kFusedDepthwise8", "kFusedDepthwise4"},
    "kernel_fused_depthwise_planes": {"kFusedDepthwisePlanes"},
    "kernel_fused_grouped": {"kFusedGrouped"},
    "kernel_fused_stem": {"kFusedStem"},
    "kernel_fused_stem_amx": {"kFusedStemAmx"},
    "kernel_fused_linear": {"kFusedLinear"},
    "kernel_fused_linear_avx2": {"kFusedLinearAvx2"},
    "kernel_fused_linear_amx": {"kFusedLinearAmx"},
    "kernel_fused_linear_neon": {"kFusedLinearNeon"},
    "kernel_norms_portable": {"kPortableNorms"},
    "kernel_norms_avx2": {"kAvx2Norms"},
    "kernel_norms_avx512": {"kAvx512Norms"},
    "kernel_norms_neon": {"kNeonNorms"},
    "kernel_functions_portable": {"kPortableFunctions"},
    "kernel_functions_avx2": {"kAvx2Functions"},
    "kernel_functions_avx512": {"kAvx512Functions"},
    "kernel_matrix_portable": {"kMatrixPortable"},
    "kernel_matrix_avx2": {"kMatrixAvx2"},
    "kernel_matrix_avx512": {"kMatrixAvx512"},
    "kernel_matrix_neon": {"kMatrixNeon"},
    "kernel_matrix_neon_dotprod": {"kMatrixNeonDotprod"},
    "kernel_training_portable": {"kPortableTraining"},
    "kernel_training_avx2": {"kAvx2Training"},
    "kernel_training_avx512": {"kAvx512Training"},
    "kernel_training_avx512_vpopcntdq": {"kAvx512Planes"},
    "kernel_training_norm_portable": {"kPortableTrainingNorm"},
    "kernel_training_norm_avx2": {"kAvx2TrainingNorm"},
    "kernel_training_norm_avx512": {"kAvx512TrainingNorm"},
    "kernel_few_channels_portable": {"kPortableFewChannels"},
    "kernel_few_channels_avx2": {"kAvx2FewChannels"},
    "kernel_few_channels_avx512": {"kAvx512FewChannels"},
    "kernel_neon": {"kNeonKernels"},
    "kernel_neon_dotprod": {"kNeonDotprodKernels"},
}
ARM = {
    "kernel_matrix_neon",
    "kernel_matrix_neon_dotprod",
    "kernel_neon",
    "kernel_neon_dotprod",
    "kernel_fused_linear_neon",
    "kernel_norms_neon",
}
DEFAULT_BUILD = Path(__file__).parents[2] / "build" / "runtime"


@cache
def objects() -> dict[str, list[Path]]:
    """The object files of each target, from the list that CMake wrote for the installed build."""
    build = Path(os.environ.get("BITORCH_RUNTIME_BUILD", DEFAULT_BUILD))
    listing = build / "objects.txt"
    assert listing.is_file(), (
        f"{listing} is missing: run `make test`, or set BITORCH_RUNTIME_BUILD to a build directory"
    )
    found: dict[str, list[Path]] = {}
    for line in listing.read_text().splitlines():
        target, _, paths = line.partition(" ")
        found[target] = [Path(path) for path in paths.split(";")]
    return found


def output_of(tool: str, *arguments: str) -> str:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} (binutils) is not installed")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout


def machine_of(path: Path) -> str:
    return output_of("objdump", "-f", str(path))


def test_every_kernel_file_is_listed() -> None:
    kernels = {target for target in objects() if target.startswith("kernel_")}
    assert "kernel_portable" in kernels
    assert kernels <= set(SYMBOLS)
    if "x86-64" in machine_of(objects()["kernel_portable"][0]):
        assert kernels == set(SYMBOLS) - ARM


@pytest.mark.parametrize("target", SYMBOLS)
def test_kernel_files_define_their_tables_and_nothing_else(target: str) -> None:
    if target not in objects():
        pytest.skip(f"{target} is for another architecture")
    (path,) = objects()[target]
    symbols = [line.split(maxsplit=2) for line in output_of("nm", "-C", "--defined-only", str(path)).splitlines()]
    # Lower-case letters are local symbols, but for weak (w, v) and unique (u) ones.
    shared = {name for _, kind, name in symbols if kind.isupper() or kind in "wvu"}
    assert shared == {f"bitorch::{name}" for name in SYMBOLS[target]}


@pytest.mark.parametrize("target", SYMBOLS)
def test_nothing_of_a_kernel_file_runs_at_load(target: str) -> None:
    """Tables are constants: code that fills them at load would run AVX-512 on a CPU that has none."""
    if target not in objects():
        pytest.skip(f"{target} is for another architecture")
    (path,) = objects()[target]
    assert not re.search(r"\.(init_array|ctors|text\.startup)", output_of("objdump", "-h", str(path)))


def test_only_kernel_files_have_wide_instructions() -> None:
    paths = objects()["bitorch_core"]
    assert len(paths) > 10
    if "x86-64" not in machine_of(paths[0]):
        pytest.skip("this architecture has no wider registers to look for")
    wide = re.compile(r"%[yz]mm\d+|\tv[a-z]\w+ ")
    found = {path.name for path in paths if wide.search(output_of("objdump", "-d", str(path)))}
    assert found == set()


def test_wide_instructions_are_recognised() -> None:
    """The search above must be able to find them."""
    if "kernel_avx512" not in objects():
        pytest.skip("kernel_avx512 is for another architecture")
    text = output_of("objdump", "-d", str(objects()["kernel_avx512"][0]))
    assert re.search(r"%zmm\d+", text)
    assert re.search(r"\tv[a-z]\w+ ", text)


@pytest.mark.parametrize("target", SYMBOLS)
def test_no_function_leaves_upper_halves_of_vectors_in_use(target: str) -> None:
    """Code of 16-byte vectors waits for some hundred cycles after one that did: GCC 12 forgets `vzeroupper` in some."""
    if target not in objects() or "x86-64" not in machine_of(objects()[target][0]):
        pytest.skip(f"{target} is for another architecture")
    (path,) = objects()[target]
    functions = re.split(r"^[0-9a-f]+ <(.+)>:$", output_of("objdump", "-d", str(path)), flags=re.MULTILINE)[1:]
    left = re.compile(r"%[yz]mm(?:\d|1[0-5])\b")  # the others are no part of narrower registers
    code = dict(zip(functions[::2], functions[1::2], strict=True))
    assert [name for name, text in code.items() if left.search(text) and "vzeroupper" not in text] == []


def blocks_of(text: str) -> list[list[str]]:
    """Instructions of a disassembly, cut after each jump and before what is jumped to."""
    lines = [line for line in text.splitlines() if "\t" in line]
    targets = set(re.findall(r"\tj\w+ +([0-9a-f]+) ", text))
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.split(":")[0].strip() in targets:
            blocks.append([])
        blocks[-1].append(line)
        if re.search(r"\t(j\w+|ret)\b", line):
            blocks.append([])
    return blocks


#: Of a kernel file: what its tiles multiply by, how many products the loops of the largest tiles have, how many such
#: loops there are, and which registers. With AVX2, the sums of words and of dwords; of wide products, two for each sum.
TILES = [
    ("kernel_training_avx512", "vpdpbusd", 24, 2, "%zmm"),
    ("kernel_training_avx512_vpopcntdq", "vpopcntd", 24, 1, "%zmm"),
    ("kernel_training_avx2", "vpmaddubsw", 12, 6, "%ymm"),
    ("kernel_training_avx2", "vpmaddwd", 16, 2, "%ymm"),
]


@pytest.mark.parametrize(("target", "product", "products", "whole", "register"), TILES)
def test_the_sums_of_a_training_tile_stay_in_registers(
    target: str, product: str, products: int, whole: int, register: str
) -> None:
    """On the stack they take twice the time, which the compiler's flags prevent: no result would show it."""
    if target not in objects():
        pytest.skip(f"{target} is for another architecture")
    (path,) = objects()[target]
    text = output_of("objdump", "-d", "--no-show-raw-insn", str(path))
    counted = [(sum(f"{product} " in line for line in block), block) for block in blocks_of(text)]
    least = 13 if product == "vpmaddwd" else products // 2  # up to 12 of these are on their way to memory, too
    loops = [block for count, block in counted if count >= least]
    assert sum(count == products for count, _ in counted) == whole
    spilled = [line for loop in loops for line in loop if re.search(r"%rsp|%rbp", line) and register in line]
    assert spilled == []


@pytest.mark.parametrize(("target", "sums"), [("kernel_few_channels_avx2", 12), ("kernel_few_channels_avx512", 24)])
def test_the_sums_of_few_channels_stay_in_registers(target: str, sums: int) -> None:
    """Of the largest tiles, forward and backward."""
    if target not in objects():
        pytest.skip(f"{target} is for another architecture")
    (path,) = objects()[target]
    text = output_of("objdump", "-d", "--no-show-raw-insn", str(path))
    loops = [block for block in blocks_of(text) if sum("vfmadd" in line for line in block) >= sums]
    assert len(loops) >= 2
    assert [line for loop in loops for line in loop if re.search(r"%rsp|%rbp", line)] == []
