"""`bitorch.export_c` and `bitorch export --c`: a trained net as a header, on this machine and on emulated ones."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import bitorch
from bitorch.cli import main
from bitorch.data import digits
from bitorch_runtime import Program
from bitorch_runtime.c_source import c_source, export_c
from bitorch_runtime.c_source.standalone import STRICT, executable, execute
from controller import CORTEX_M4, accuracy, measured, sizes
from controller_nets import Net, Plan, digits_net, fashion_net, keyword_net, svhn_net
from controller_runs import MACHINES, Array, Machine, compare, other_bits, with_all_codes

ROOT = Path(__file__).parent.parent


def needs(*commands: str) -> None:
    """Skip a test where one of these commands is not installed."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


@pytest.fixture(scope="module")
def digits_in_few_bits() -> Net:
    """LeNet on digits, trained for some seconds, from pixels, its ends in 8 bits."""
    torch.manual_seed(0)
    return digits_net(Plan(), epochs=3)


@pytest.fixture(scope="module")
def packed() -> bitorch.PackedModel:
    """The same with float ends."""
    torch.manual_seed(0)
    return digits_net(Plan(ends="float"), epochs=3).packed


@pytest.mark.parametrize("machine", MACHINES)
def test_all_numbers_of_digits_are_those_of_the_packed_net(machine: Machine, digits_in_few_bits: Net) -> None:
    """All codes and scores of all test images, to the bit, where nothing sums floats."""
    needs(*MACHINES[machine][0][:1], *MACHINES[machine][1])
    net = digits_in_few_bits
    operations, _ = net.packed.program()
    assert not [one["op"] for one in operations if one["op"].endswith("_float")]
    assert net.answers is not None
    assert len(net.inputs) == len(net.answers) == len(digits().test.images)
    counts = compare(net.packed, net.inputs, machine)
    assert counts.compared > 5000 * len(net.inputs)
    assert counts.differ == 0


@pytest.mark.parametrize("make", [fashion_net, svhn_net], ids=["fashion", "svhn"])
def test_nets_of_random_images_give_the_same_numbers(make: Callable[[Plan], Net]) -> None:
    needs("gcc")
    torch.manual_seed(0)
    net = make(Plan(random=12))
    assert net.name.endswith("not trained")
    assert net.answers is None
    counts = compare(net.packed, net.inputs, "here")
    assert counts.compared > 10_000 * 12
    assert counts.differ == 0


def test_a_net_of_sounds_gives_the_same_numbers() -> None:
    needs("gcc")
    torch.manual_seed(0)
    net = keyword_net(Plan(), epochs=1, sounds=200, tests=50)
    counts = compare(net.packed, net.inputs, "here")
    assert counts.compared > 1000 * 50
    assert counts.differ == 0


def test_data_sets_are_trained_on_where_they_are(tmp_path: Path) -> None:
    """Of the MNIST family, from IDX files; all test images are compared."""
    for part, count in (("train", 40), ("t10k", 7)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        head = struct.pack(">4i", 0x803, count, 28, 28)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, count) + labels.tobytes())
    net = fashion_net(Plan(fashion_mnist=tmp_path, images=30), epochs=1)
    assert net.inputs.shape == (7, 1, 28, 28)
    assert net.answers is not None
    assert net.answers.tolist() == list(range(7))
    assert re.fullmatch(r"\d+\.\d%", accuracy(net))


def test_numbers_with_other_bits_are_counted() -> None:
    one, other = np.array([0.0, 1.0, 2.0, np.nan], np.float32), np.array([-0.0, 1.0, 2.5, np.nan], np.float32)
    assert other_bits(one, one) == 0
    assert other_bits(one, other) == 2


def last_layer(packed: bitorch.PackedModel, x: Array) -> Array:
    """What the last layer makes of its inputs: sums in the order of its weights, each step rounded to float32."""
    operations, arrays = packed.program()
    layer = next(one for one in reversed(operations) if one["op"] == "linear_float")
    weight, total = arrays[layer["weight"]], np.zeros((len(x), layer.get("out_channels", 10)), np.float32)
    for k in range(weight.shape[1]):
        total = total + x[:, k, np.newaxis] * weight[np.newaxis, :, k]
    scores: Array = total * arrays[layer["multiply"]] + arrays[layer["offset"]]
    return scores


@pytest.mark.parametrize("machine", MACHINES)
def test_float_ends_give_every_code_of_the_packed_net(
    machine: Machine, packed: bitorch.PackedModel, tmp_path: Path
) -> None:
    """All codes of all test images, the floats that follow from integers, and scores in the order of weights."""
    compiler, emulator = MACHINES[machine]
    needs(compiler[0], *emulator)
    operations, arrays = packed.program()
    last = next(one["input"] for one in reversed(operations) if one["op"] == "linear_float")
    all_of_them = [*with_all_codes(operations), {"op": "output", "input": last}]
    program, images = Program(all_of_them, arrays), digits().test.images.numpy()
    expected = program(images)
    assert isinstance(expected, dict)
    made = executable(c_source(all_of_them, arrays).text, "net", program, tmp_path / "net", compiler)
    found = execute([*emulator, str(made)], program, [images])
    assert found.keys() == expected.keys()
    assert len(found) >= 5
    for name, array in found.items():
        if name != packed.outputs[0].name:
            assert array.dtype == expected[name].dtype
            assert np.array_equal(array, expected[name]), name
    scores = found[packed.outputs[0].name]
    assert np.array_equal(scores, last_layer(packed, expected[last]))
    assert np.allclose(scores, expected[packed.outputs[0].name], rtol=1e-5, atol=1e-5)


def test_the_recipe_counts_what_differs(packed: bitorch.PackedModel, digits_in_few_bits: Net) -> None:
    """Float ends: only scores, and not their classes."""
    needs("gcc", "arm-none-eabi-gcc")
    counts = compare(packed, digits().test.images[:20].numpy(), "here")
    assert 0 < counts.differ <= 20 * 10
    assert measured(packed).float_weights
    header = measured(digits_in_few_bits.packed)
    assert header.float_weights == {}
    assert header.code_bytes is not None
    assert header.stack_bytes is not None
    flash, ram = header.code_bytes + header.constant_bytes, header.arena_bytes + header.stack_bytes
    cells = sizes(digits_in_few_bits.packed)
    assert cells[1:] == [
        f"{n:,}" for n in (flash, header.code_bytes, header.constant_bytes, ram, header.arena_bytes, header.stack_bytes)
    ]


def test_digits_fit_a_small_controller(digits_in_few_bits: Net, tmp_path: Path) -> None:
    """A whole program for a Cortex-M4: below 64 KB of flash, and of 16 KB of memory with the stack."""
    needs("arm-none-eabi-gcc", "arm-none-eabi-size")
    packed = digits_in_few_bits.packed
    written = bitorch.export_c(packed, tmp_path / "net.h", compiler=CORTEX_M4, arena_limit=16 * 1024)
    (tmp_path / "main.c").write_text(
        '#define NET_IMPLEMENTATION\n#include "net.h"\nvolatile uint8_t image[NET_INPUT_SIZE];\n'
        "volatile float scores[NET_OUTPUT_SIZE];\n"
        "int main(void) { return net_run((const uint8_t *)image, (float *)scores); }\n"
    )
    words = [*CORTEX_M4.split(), *STRICT, "--specs=nosys.specs", "main.c", "-o", "main"]
    subprocess.run(words, cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    listed = subprocess.run(["arm-none-eabi-size", "main"], cwd=tmp_path, capture_output=True, text=True, check=True)
    text, data, bss = map(int, listed.stdout.splitlines()[1].split()[:3])
    assert written.code_bytes is not None
    assert written.stack_bytes is not None
    assert text >= written.code_bytes + written.constant_bytes
    assert bss >= written.arena_bytes
    assert 100 < written.stack_bytes < 1024
    assert text + data < 64 * 1024
    assert data + bss + written.stack_bytes < 16 * 1024
    header = (tmp_path / "net.h").read_text()
    assert f"\n * stack: {written.stack_bytes} bytes by the same\n" in header


def test_a_file_and_a_model_give_the_same_header(packed: bitorch.PackedModel, tmp_path: Path) -> None:
    packed.save(tmp_path / "net.bit.safetensors")
    bitorch.export_c(packed, tmp_path / "a.h")
    bitorch.export_c(tmp_path / "net.bit.safetensors", tmp_path / "b.h")
    written = export_c(tmp_path / "net.bit.safetensors", tmp_path / "c.h")
    texts = [(tmp_path / f"{name}.h").read_text() for name in "abc"]
    assert texts[0] == texts[1] == texts[2]
    assert str(written).startswith(f"{tmp_path}/c.h: constants ")


def test_the_command_prints_bytes(
    packed: bitorch.PackedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = tmp_path / "net.bit.safetensors"
    packed.save(net)
    assert main(["export", str(net), "--c", str(tmp_path / "seven.h"), "--name", "seven"]) == 0
    printed = capsys.readouterr().out
    text = (tmp_path / "seven.h").read_text()
    found = re.search(r"#define SEVEN_ARENA_BYTES (\d+)", text)
    assert found is not None
    assert f"{int(found[1]):,} bytes" in printed
    assert "float weights" in printed
    assert "layers.14 5,120 bytes" in printed
    assert "int seven_run(const uint8_t *in, float *out);" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to write: name an ONNX file with --onnx net.onnx, or a header with --c net.h"),
        (["--c", "FOLDER"], "is a folder; name a file in it with --c"),
        (["--c", "FOLDER/none/net.h"], "there is no folder"),
        (["--c", "FOLDER/net.h", "--name", "1"], "name='1': must be a name of C"),
        (["--c", "FOLDER/net.h", "--arena-limit", "64"], "more than the limit of 64; "),
        (["--c", "FOLDER/net.h", "--arena-limit", "-1"], "arena_limit"),
        (["--c", "FOLDER/net.h", "--size", "big"], "--size big: must be shapes such as 3x64x64"),
        (["--c", "FOLDER/net.h", "--size", "1x9x9"], "takes [(1, 8, 8)] and no others"),
        (["--c", "FOLDER/net.h", "--compiler", "no-compiler"], "'no-compiler' cannot be run"),
    ],
)
def test_what_the_command_refuses(
    flags: list[str], message: str, packed: bitorch.PackedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = tmp_path / "net.bit.safetensors"
    packed.save(net)
    (tmp_path / "folder").mkdir()
    words = [flag.replace("FOLDER", str(tmp_path / "folder")) for flag in flags]
    assert main(["export", str(net), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "folder").iterdir())


def test_any_size_needs_a_size(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3))
    bitorch.quantize_(model, bitorch.LowBitConfig(1, 2, last="same"))
    packed = bitorch.deploy(model.eval(), torch.rand(1, 1, 8, 8), sizes="any")
    with pytest.raises(ValueError, match="takes images of many sizes"):
        bitorch.export_c(packed, tmp_path / "net.h")
    bitorch.export_c(packed, tmp_path / "net.h", shapes=[(1, 12, 10)])
    assert "#define NET_INPUT_SIZE 120\n" in (tmp_path / "net.h").read_text()


def test_the_program_of_the_page_runs(packed: bitorch.PackedModel, tmp_path: Path) -> None:
    needs("gcc")
    page = (ROOT / "docs" / "c-header.md").read_text(encoding="utf-8")
    found = re.search(r"^```c\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert found is not None
    bitorch.export_c(packed, tmp_path / "net.h")
    (tmp_path / "main.c").write_text(found[1])
    subprocess.run(["gcc", *STRICT, "-O2", "main.c", "-o", "main"], cwd=tmp_path, check=True)
    image = digits().test.images[:1]
    done = subprocess.run([tmp_path / "main"], input=image.numpy().tobytes(), capture_output=True, check=True)
    scores = np.array([float(line.split()[1]) for line in done.stdout.decode().splitlines()])
    expected = packed(image)
    assert isinstance(expected, torch.Tensor)
    assert np.allclose(scores, expected[0].numpy(), rtol=1e-4)
