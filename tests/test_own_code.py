"""Code of the user's own, by file or module: found, run once, and its errors shown with their lines."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitorch.own_code import call_with_what_it_takes, errors_shown, is_own, read_own, users_line


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder of its own, and forget its modules and its place in the path afterwards."""
    monkeypatch.chdir(tmp_path)
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


def write(path: str, text: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
    return Path(path)


def test_a_function_of_a_file() -> None:
    file = write("nets/mine.py", "def make(num_classes):\n    return num_classes + 1\n")
    own = read_own("nets/mine.py:make")
    assert own.function(2) == 3
    assert own.text == "nets/mine.py:make"
    assert own.path == file.absolute()
    assert own.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert own.function.__module__ not in ("mine", "__main__")


def test_a_file_runs_once_and_again_when_it_has_changed() -> None:
    file = write("mine.py", "runs = []\nruns.append(1)\ndef a(): return runs\ndef b(): return runs\n")
    assert read_own("mine.py:a").function() is read_own(f"{file.absolute()}:b").function()
    first = read_own("mine.py:a")
    write("mine.py", "runs = []\nruns.append(2)\ndef a(): return runs\ndef b(): return runs\n")  # as long, as old
    second = read_own("mine.py:a")
    assert (first.function(), second.function()) == ([1], [2])
    assert first.sha256 != second.sha256


def test_line_ends_do_not_change_the_hash() -> None:
    write("mine.py", "def make():\n    return 1\n")
    before = read_own("mine.py:make").sha256
    Path("mine.py").write_bytes(b"def make():\r\n    return 1\r\n")
    assert read_own("mine.py:make").sha256 == before


def test_modules_beside_the_file_are_found() -> None:
    write("nets/blocks_of_mine.py", "def block(): return 'block'\n")
    write("nets/mine.py", "def make():\n    import blocks_of_mine\n    return blocks_of_mine.block()\n")
    assert read_own("nets/mine.py:make").function() == "block"


def test_a_module_of_a_package() -> None:
    write("own_package/__init__.py", "")
    write("own_package/blocks.py", "def block(): return 'block'\n")
    file = write("own_package/nets.py", "from .blocks import block\ndef make(): return block()\n")
    own = read_own("own_package.nets:make")
    assert own.function() == "block"
    assert own.path == file.absolute()


def test_two_files_of_one_name() -> None:
    write("a/net.py", "def make(): return 'a'\n")
    write("b/net.py", "def make(): return 'b'\n")
    assert [read_own(f"{folder}/net.py:make").function() for folder in "ab"] == ["a", "b"]


def test_two_modules_of_one_name_beside_files() -> None:
    for folder in "ab":
        write(f"{folder}/same_helpers.py", f"name = {folder!r}\n")
        write(f"{folder}/net.py", "import same_helpers\ndef make(): return same_helpers.name\n")
    assert read_own("a/net.py:make").function() == "a"
    with pytest.raises(ValueError, match=r"b.net\.py imports same_helpers, and beside it is .*a.same_helpers\.py has"):
        read_own("b/net.py:make")


@pytest.mark.parametrize("name", ["random", "types", "queue", "torch"])
def test_a_file_called_like_a_module_that_others_need(name: str) -> None:
    write(f"{name}.py", "import random\ndef make(): return random.random()\n")
    assert 0 <= read_own(f"{name}.py:make").function() < 1
    lines = "import queue, random, types; print(*(x.__file__ for x in (queue, random, types)))"
    code = f"from bitorch.own_code import read_own; read_own('{name}.py:make'); {lines}"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert str(Path.cwd()) not in done.stdout


def test_a_module_hidden_by_one_of_the_standard_library_is_named_by_its_file() -> None:
    write("random.py", "def make(): return 1\n")
    with pytest.raises(ValueError, match=r"random\.py has no 'make'; .*For random\.py say random\.py:make"):
        read_own("random:make")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing.py:make", r"model: there is no such file: missing\.py"),
        ("folder.py:make", r"model: it is a folder: folder\.py"),
        ("no_such_module.nets:make", r"there is no module 'no_such_module', neither in .* nor installed; name a file"),
        ("email.nets:make", r"there is no module 'email\.nets', but a file email.nets\.py: say email.nets\.py:NAME"),
        ("tim:resnet18", r"there is no module 'tim'; did you mean timm:NAME\?"),
        ("sys:make", r"the module 'sys' has no file of its own"),
    ],
)
def test_what_is_not_there(text: str, message: str) -> None:
    Path("folder.py").mkdir()
    write("email/nets.py", "def make(): pass\n")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_own(text)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def make_net(): pass\n", r"mine\.py has no 'make'; did you mean make_net\?"),
        ("def other(): pass\nclass Net: pass\n", r"has no 'make'; it defines other, Net"),
        ("", "has no 'make'; it defines no function or class"),
        ("make = 3\ndef build(): pass\n", "make is of the type int; it must be a function.*it defines build"),
        ("x = 1\ndef make(:\n", r"mine\.py:2: SyntaxError: .*: def make\(:"),
        ("def make():\nreturn 1\n", r"mine\.py:2: IndentationError"),
        ("x = 1\0\n", "null bytes"),
        (
            "import no_such_package\n",
            r"mine\.py:1: import no_such_package: ModuleNotFoundError.*install no_such_package",
        ),
        ("from .blocks import x\n", r"mine\.py:1.*relative import.*PACKAGE\.MODULE:NAME"),
        ("\nx = 1 / 0\n", r"mine\.py:2: x = 1 / 0: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", r"mine\.py:2: sys\.exit\(3\): it ends the program; .*__main__"),
        ("raise RuntimeError\n", r"mine\.py:1: raise RuntimeError: RuntimeError$"),
    ],
)
def test_what_is_wrong_in_the_file(source: str, message: str) -> None:
    write("mine.py", source)
    before = set(sys.modules)
    with pytest.raises(ValueError, match=message) as raised:
        read_own("mine.py:make")
    assert str(raised.value).startswith("model ")
    if "Error" in message or "null" in message:
        assert raised.value.__cause__ is not None
    left = [name for name in set(sys.modules) - before if name.startswith("bitorch_own_mine")]
    assert not (left and "Error" in message), left


def test_an_error_in_a_module_beside_is_shown_where_it_is() -> None:
    write("broken_helpers.py", "def f(): pass\nf(1)\n")
    write("mine.py", "import broken_helpers\n")
    with pytest.raises(ValueError, match=r"broken_helpers\.py:2: f\(1\): TypeError"):
        read_own("mine.py:make")
    write("broken_nets/__init__.py", "import no_such_package\n")
    with pytest.raises(ValueError, match=r"broken_nets.__init__\.py:1: import no_such_package: ModuleNotFoundError"):
        read_own("broken_nets:make")


def test_the_line_is_the_users_where_a_library_raises() -> None:
    write("mine.py", "import json\n\ndef make():\n    return json.loads('{')\n")
    own = read_own("mine.py:make")
    with (
        pytest.raises(ValueError, match=r"^model mine\.py:make: mine\.py:4, in make: return json\.loads"),
        errors_shown(own, "model mine.py:make"),
    ):
        own.function()


def test_no_line_where_none_of_the_users_is_to_blame() -> None:
    with pytest.raises(ValueError, match="invalid literal") as raised:
        int("x")
    assert users_line(raised.value, Path("/nowhere")) == ""
    assert users_line(raised.value, Path(__file__).parent).endswith('int("x")')


def test_functions_get_what_they_name() -> None:
    def none() -> tuple[object, ...]:
        return ()

    def some(num_classes: int, width: int = 3) -> tuple[object, ...]:
        return num_classes, width

    def keyword(*args: int, channels: int) -> tuple[object, ...]:
        return (*args, channels)

    def everything(**others: int) -> tuple[object, ...]:
        return tuple(others)

    offered = {"num_classes": 10, "channels": 1}
    given = [call_with_what_it_takes(f, **offered) for f in (none, some, keyword, everything)]
    assert given == [(), (10, 3), (1,), ("num_classes", "channels")]

    class Net:
        def __init__(self, channels: int) -> None:
            self.channels = channels

    class PassesOn:
        def __init__(self, *args: object, **others: object) -> None:
            assert not args
            assert not others

    assert call_with_what_it_takes(Net, **offered).channels == 1
    assert isinstance(call_with_what_it_takes(PassesOn, **offered), PassesOn)


def test_a_function_that_needs_more_is_refused() -> None:
    def needs(num_classes: int, depth: int) -> None: ...

    def positional(num_classes: int, /) -> None: ...

    with pytest.raises(TypeError, match="needs needs depth; it is offered num_classes, by these names, so give what"):
        call_with_what_it_takes(needs, num_classes=3)
    with pytest.raises(TypeError, match="positional needs num_classes"):
        call_with_what_it_takes(positional, num_classes=3)


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("mine.py:make", True), ("a b/my net.py:make", True), ("C:\\nets\\mine.py:make", True), ("nets:make", True),
        ("package.nets:make", True), ("timm:resnet18", False), ("torchvision:vgg11", False), ("lenet-8", False),
        ("mine.py", False), ("mine.py:", False), (":make", False), ("a-b:make", False), ("a..b:make", False),
    ],
)  # fmt: skip
def test_what_counts_as_own(text: str, own: bool) -> None:
    assert is_own(text) is own
    if not own:
        with pytest.raises(ValueError, match=r"data must be FILE\.py:NAME or PACKAGE\.MODULE:NAME, got"):
            read_own(text, "data")


def test_pytorch_is_not_needed() -> None:
    code = "import sys, bitorch.own_code; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
