"""Bytes of stack: by the call graph, and as a Cortex-M4 uses them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from bitorch_runtime import Program
from bitorch_runtime.c_source import c_source
from bitorch_runtime.c_source.compiling import compile_c
from bitorch_runtime.c_source.measuring import measured
from bitorch_runtime.c_source.stack_size import stack_bytes
from bitorch_runtime.c_source.standalone import images_in
from c_headers import CORTEX_M4, for_cortex_m4, needs, run_cortex_m4
from test_c_header import small_net


def graph(own: dict[str, int], calls: str) -> str:
    """A call graph as GCC writes it; `calls` such as "a>b b>c"."""
    nodes = [f'node: {{ title: "{name}" label: "{name}\\nnet.c:1:1\\n{n} bytes (static)" }}' for name, n in own.items()]
    pairs = [pair.split(">") for pair in calls.split()]
    edges = [f'edge: {{ sourcename: "{one}" targetname: "{other}" label: "net.c:2:2" }}' for one, other in pairs]
    outside = 'node: { title: "memset" label: "__builtin_memset\\n<built-in>" shape : ellipse }'
    return "\n".join(['graph: { title: "net.c"', *nodes, outside, *edges, "}"])


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ("", 100),
        ("run>a", 110),
        ("run>a run>b a>c", 160),
        ("run>a run>b b>c a>memset", 170),
        ("run>a run>b a>__indirect_call b>c", 180),  # 100 + a 10 + the deepest that has no indirect call, b > c
        ("run>__indirect_call", 150),
    ],
)
def test_the_deepest_chain_counts(calls: str, expected: int) -> None:
    assert stack_bytes(graph({"run": 100, "a": 10, "b": 20, "c": 50}, calls), "run") == expected


def test_graphs_that_say_nothing() -> None:
    with pytest.raises(ValueError, match="no function 'run'"):
        stack_bytes(graph({"a": 1}, ""), "run")
    with pytest.raises(ValueError, match=r"no bound: .*a calls run"):
        stack_bytes(graph({"run": 1, "a": 1}, "run>a a>run"), "run")


def test_clang_tells_no_stack_and_gcc_does() -> None:
    needs("gcc", "clang")
    text = c_source(*small_net()).text
    assert measured(text, "net", "clang -Os").stack is None
    stack = measured(text, "net", "gcc -Os").stack
    assert stack is not None
    assert 64 < stack < 2048


_PAINTED = """
#define NET_IMPLEMENTATION
#include "net.h"
#include <stdio.h>
enum { MOST = 4096 };
static uint8_t in[NET_INPUT_SIZE];
static int32_t out[NET_OUTPUT_SIZE];
static __attribute__((noinline)) uint32_t used(void)
{
    volatile uint8_t *top;
    __asm__ volatile("mov %0, sp" : "=r"(top));
    for (int i = 1; i <= MOST; i++) {
        top[-i] = 0xA5;
    }
    net_run(in, out);
    uint32_t most = MOST;
    while (most > 0 && top[-(int)most] == 0xA5) {
        most--;
    }
    return most;
}
int main(void)
{
    FILE *from = fopen(IN, "rb"), *to = fopen(OUT, "wb");
    if (fread(in, 1, sizeof in, from) != sizeof in) {
        return 1;
    }
    uint32_t most = used();
    fwrite(&most, 4, 1, to);
    return fclose(to) != 0;
}
"""


def test_a_controller_uses_the_stack_that_was_measured(tmp_path: Path) -> None:
    """Memory below the stack is painted, and what a run has painted over is counted; memset and memcpy come on top."""
    needs("arm-none-eabi-gcc", "qemu-system-arm")
    operations, arrays = small_net()
    text = c_source(operations, arrays).text
    (tmp_path / "net.h").write_text(text)
    made = compile_c([*for_cortex_m4(tmp_path), "-std=gnu99"], _PAINTED, tmp_path / "painted")
    shape = Program(operations, arrays).inputs[0]["shape"]
    image = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    (used,) = struct.unpack("<I", run_cortex_m4(made, images_in([image])))
    stack = measured(text, "net", " ".join([*CORTEX_M4, "-Os"])).stack
    assert stack is not None
    assert stack - 16 <= used <= stack + 48
