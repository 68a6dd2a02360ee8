"""The C interface: installed as a user installs it, built against with CMake and with pkg-config, run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import bitorch_runtime
import golden
from c_builds import BUILD, COMPILER, RUNTIME, command, find_cmake, flags_of, install, needs_compiler
from open_size_cases import upsampling

pytestmark = needs_compiler

#: A C program that prints what every function says when it is used wrongly, and when a file is damaged.
MISUSE = r"""
#include <stdio.h>
#include <string.h>
#include "bitorch_runtime.h"

static char error[256];

static void say(const char* what, bitorch_status status) { printf("%s: %d %s\n", what, (int)status, error); }

int main(int argc, char** argv) {
  static unsigned char bytes[100000];
  FILE* file = fopen(argv[argc - 1], "rb");
  const size_t size = fread(bytes, 1, sizeof bytes, file);
  bitorch_model* model = NULL;
  bitorch_model* none = (bitorch_model*)bytes;
  float image[90] = {0}, scores[3] = {0}, again[3] = {1, 1, 1};
  const void* inputs[1] = {image};
  void* outputs[1] = {scores};
  char small[8];
  fclose(file);
  say("null path", bitorch_load(NULL, 0, &none, error, sizeof error));
  printf("%d\n", none == NULL);
  say("null model", bitorch_load("x", 0, NULL, error, sizeof error));
  say("missing", bitorch_load("/nothing/here", 0, &none, error, sizeof error));
  say("null data", bitorch_load_memory(NULL, 3, 0, &none, error, sizeof error));
  say("cut off", bitorch_load_memory(bytes, size - 1, 0, &none, error, sizeof error));
  bytes[size - 1] ^= 1;
  say("damaged", bitorch_load_memory(bytes, size, 0, &none, error, sizeof error));
  bytes[size - 1] ^= 1;
  say("limit", bitorch_load_memory(bytes, size, 1000, &none, error, sizeof error));
  say("negative limit", bitorch_load_memory(bytes, size, -1, &none, error, sizeof error));
  say("loaded", bitorch_load_memory(bytes, size, 0, &model, error, sizeof error));
  memset(bytes, 0, sizeof bytes);
  say("run", bitorch_run(model, 1, inputs, outputs, error, sizeof error));
  say("run none", bitorch_run(model, 0, inputs, outputs, error, sizeof error));
  say("negative batch", bitorch_run(model, -1, inputs, outputs, error, sizeof error));
  say("vast batch", bitorch_run(model, (int64_t)1 << 60, inputs, outputs, error, sizeof error));
  say("run null", bitorch_run(NULL, 1, inputs, outputs, error, sizeof error));
  say("null inputs", bitorch_run(model, 1, NULL, outputs, error, sizeof error));
  inputs[0] = (char*)image + 1;
  say("not aligned", bitorch_run(model, 1, inputs, outputs, error, sizeof error));
  inputs[0] = NULL;
  say("null input", bitorch_run(model, 1, inputs, outputs, error, sizeof error));
  inputs[0] = image;
  outputs[0] = NULL;
  say("null output", bitorch_run(model, 1, inputs, outputs, error, sizeof error));
  outputs[0] = again;
  bitorch_run(model, -1, inputs, outputs, small, sizeof small);
  printf("small: %s|\n", small);
  bitorch_run(model, -1, inputs, outputs, NULL, 0);
  bitorch_run(model, 1, inputs, outputs, NULL, 0);
  printf("same: %d\n", memcmp(scores, again, sizeof scores) == 0);
  say("threads", bitorch_set_threads(3, error, sizeof error));
  say("no threads", bitorch_set_threads(0, error, sizeof error));
  printf("get %d\n", bitorch_get_threads());
  printf("%d %d %d %d\n", bitorch_input_count(model), bitorch_output_count(model), bitorch_input(model, 1) == NULL,
         bitorch_output(model, -1) == NULL);
  const bitorch_port* input = bitorch_input(model, 0);
  printf("%s %d %d %d %d %lld\n", input->name, input->dtype, input->order, input->bits, input->dimensions,
         (long long)input->bytes);
  printf("%d %s %d\n", bitorch_class_count(model), bitorch_class_name(model, 1), bitorch_class_name(model, 3) == NULL);
  printf("null %d %d %d\n", bitorch_input_count(NULL), bitorch_class_count(NULL), bitorch_info(NULL) == NULL);
  printf("info %s\nversion %s\n", bitorch_info(model), bitorch_version());
  bitorch_free(model);
  bitorch_free(NULL);
  return 0;
}
"""

#: A C program that runs a model whose sizes are open at two of them.
SIZES = r"""
#include <stdio.h>
#include "bitorch_runtime.h"

static char error[256];

static void say(const char* what, bitorch_status status) { printf("%s: %d %s\n", what, (int)status, error); }

int main(int argc, char** argv) {
  bitorch_model *model = NULL, *sized = NULL, *other = NULL;
  float image[2 * 12 * 6], result[2 * 12 * 6];
  const void* inputs[1] = {image};
  void* outputs[1] = {result};
  const int64_t good[] = {2, 12, 6}, small[] = {2, 8, 2}, bad[] = {2, 13, 6}, channels[] = {3, 12, 6};
  const int64_t* shapes[1] = {good};
  for (int i = 0; i < 2 * 12 * 6; ++i) image[i] = (float)(i % 7);
  say("load", bitorch_load(argv[argc - 1], 0, &model, error, sizeof error));
  const bitorch_port* input = bitorch_input(model, 0);
  for (int d = 0; d < input->dimensions; ++d) {
    printf("%lld %lld %lld\n", (long long)input->shape[d], (long long)input->least[d], (long long)input->step[d]);
  }
  printf("bytes %lld\n", (long long)input->bytes);
  say("run", bitorch_run(model, 1, inputs, outputs, error, sizeof error));
  shapes[0] = bad;
  say("bad", bitorch_at_sizes(model, shapes, &sized, error, sizeof error));
  printf("%d\n", sized == NULL);
  shapes[0] = channels;
  say("channels", bitorch_at_sizes(model, shapes, &sized, error, sizeof error));
  say("null shapes", bitorch_at_sizes(model, NULL, &sized, error, sizeof error));
  say("null model", bitorch_at_sizes(NULL, shapes, &sized, error, sizeof error));
  say("null sized", bitorch_at_sizes(model, shapes, NULL, error, sizeof error));
  shapes[0] = good;
  say("good", bitorch_at_sizes(model, shapes, &sized, error, sizeof error));
  shapes[0] = small;
  say("small", bitorch_at_sizes(model, shapes, &other, error, sizeof error));
  bitorch_free(model);
  printf("%lld %lld\n", (long long)bitorch_input(sized, 0)->bytes, (long long)bitorch_output(other, 0)->shape[1]);
  say("sized run", bitorch_run(sized, 1, inputs, outputs, error, sizeof error));
  printf("%g %g\n", (double)result[0], (double)result[2 * 12 * 6 - 1]);
  say("of one size", bitorch_at_sizes(sized, shapes, &model, error, sizeof error));
  bitorch_free(sized);
  bitorch_free(other);
  return 0;
}
"""

SAID_OF_SIZES = """\
load: 0 ?
2 2 0
-1 8 4
-1 2 2
bytes 0
run: 1 model: its sizes are open .*bitorch_at_sizes.*
bad: 1 input "x": the height is 13 — must be 8, 12, 16 …; the nearest are 12 and 16
1
channels: 1 input "x": the array is \\[batch, 3, 12, 6\\], but must be \\[batch, 2, any, any\\]
null shapes: 1 shapes: must not be null
null model: 1 model: must not be null
null sized: 1 sized: must not be null
good: 0 ?
small: 0 ?
576 8
sized run: 0 ?
6 4
of one size: 1 shapes.0.: the model has input "x" of one size: .2, 12, 6.
"""

SAID = """\
null path: 1 path: must not be null
1
null model: 1 model: must not be null
missing: 1 /nothing/here: cannot be opened: No such file or directory
null data: 1 data: must not be null
cut off: 1 safetensors: tensor .* end <= .*
damaged: 1 the content does not have the SHA-256 that the file states: .*
limit: 1 .* raise the limit if you trust where the program comes from
negative limit: 1 memory_limit: -1; it must not be negative
loaded: 0 ?
run: 0 ?
run none: 0 ?
negative batch: 1 batch: -1; it must not be negative
vast batch: (1 .*does not fit in 64 bits|2 there is not enough memory)
run null: 1 model: must not be null
null inputs: 1 inputs and outputs must not be null
not aligned: 1 input "image": the pointer is not aligned to its dtype
null input: 1 input "image": the pointer is null
null output: 1 output "scores": the pointer is null
small: batch: \\|
same: 1
threads: 0 ?
no threads: 1 .*1 to 256.*
get 3
1 1 1 1
image 0 0 0 3 360
3 café 1
null 0 0 1
info {.*"class_names":\\["nothing",.*}
version [0-9.]+
"""


@pytest.fixture(scope="module")
def cmake() -> str:
    return find_cmake()


@pytest.fixture(scope="module")
def prefix(cmake: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, installed from the build directory."""
    return install(cmake, tmp_path_factory.mktemp("prefix"))


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "net.bit.safetensors"
    bitorch_runtime.save(path, *golden.network(), **golden.INFO)
    return path


def test_example_with_cmake(cmake: str, prefix: Path, network: Path, tmp_path: Path) -> None:
    build = tmp_path / "build"
    command(cmake, "-S", RUNTIME / "examples", "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}")
    command(cmake, "--build", build)
    image = golden.images()[:1]
    image.tofile(tmp_path / "image")
    lines = command(build / "classify", network, tmp_path / "image").splitlines()
    assert lines[:2] == ["input image: float32 nchw [batch, 3, 6, 5]", "output scores: float32 nf [batch, 3]"]
    scores = np.asarray(bitorch_runtime.load(network)(image))[0]
    order = np.argsort(-scores, kind="stable")
    assert lines[2:] == [f"{scores[i]:g} {golden.INFO['class_names'][i]}" for i in order]
    operations, arrays = golden.network()
    operations[0]["array_shape"], operations[-1]["array_shape"] = [3, 30], [1, 3, 1, 1]
    other = tmp_path / "other.bit.safetensors"
    bitorch_runtime.save(other, operations, arrays, **golden.INFO)
    shaped = command(build / "classify", other, tmp_path / "image").splitlines()
    assert shaped[:2] == ["input image: float32 nchw [batch, 3, 30]", "output scores: float32 nf [batch, 1, 3, 1, 1]"]
    assert shaped[2:] == lines[2:]
    for arguments, said in (
        ([network], "usage: classify NETWORK IMAGE"),
        ([tmp_path / "image", tmp_path / "image"], "the network: .*/image: safetensors: "),
        ([network, network], "has not as many bytes as the input"),
    ):
        done = subprocess.run([build / "classify", *arguments], capture_output=True, text=True)
        assert done.returncode == 1
        assert re.search(said, done.stderr), done.stderr


def check_program(source: str, expected: str, prefix: Path, network: Path, folder: Path) -> None:
    """Compile strict C99 by hand, run it on a network, and compare what it prints with patterns, line by line."""
    (folder / "program.c").write_text(source)
    assert COMPILER is not None
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    command(COMPILER, *strict, folder / "program.c", "-o", folder / "program", *flags_of(prefix))
    said = command(folder / "program", network).splitlines()
    assert len(said) == len(expected.splitlines()), said
    for line, pattern in zip(said, expected.splitlines(), strict=True):
        assert re.fullmatch(pattern, line), f"{line!r} is not {pattern!r}"


def test_misuse_with_pkg_config(prefix: Path, network: Path, tmp_path: Path) -> None:
    """Every mistake is an error with a text."""
    check_program(MISUSE, SAID, prefix, network, tmp_path)


def test_open_sizes(prefix: Path, tmp_path: Path) -> None:
    """A model for each size, which outlives the model that it comes from."""
    bitorch_runtime.save(tmp_path / "open.bit.safetensors", upsampling(), {})
    check_program(SIZES, SAID_OF_SIZES, prefix, tmp_path / "open.bit.safetensors", tmp_path)


def test_wheels_take_nothing_of_it(cmake: str, tmp_path: Path) -> None:
    if "SKBUILD:" not in (BUILD / "CMakeCache.txt").read_text():
        pytest.skip("this build directory makes no wheel")
    command(cmake, "--install", BUILD, "--prefix", tmp_path)
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".so"]
