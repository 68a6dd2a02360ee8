"""Functions in files of the user's own, named on a command line: "file.py:make" or "package.module:make".

Only what a user names is run, never what a checkpoint or a packed file names by itself. Without PyTorch, which takes
seconds to import.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import inspect
import re
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

#: Packages whose models are called "PACKAGE:NAME", which are no modules of the user's.
MODEL_PACKAGES: tuple[str, ...] = ("timm", "torchvision")
_SUFFIX = ".py"
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_MOST_BYTES = 2**22
_LONGEST_REASON = 400
_LONGEST_LINE = 100
_SHOWN_NAMES = 5
_MODULE_PREFIX = "bitorch_own"
_IS_SCRIPT = "put what a script does behind `if __name__ == '__main__':`"
#: Files that are being run to find a name in them.
_running: list[Path] = []
#: Folders of installed packages.
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class OwnFile:
    """Where a name of the user's own stands. Nothing has been run to find it.

    Attributes:
        text: as the user named it.
        path: of the file, absolute.
        folder: what lies in it is the user's own code, too.
        source: what the file holds.
    """

    text: str
    path: Path
    folder: Path
    source: bytes

    @property
    def sha256(self) -> str:
        """Of the source, with "\\n" between its lines, as sha256sum prints it of such a file."""
        return hashlib.sha256(self.source.replace(b"\r\n", b"\n")).hexdigest()


@dataclass(frozen=True)
class OwnCode:
    """Something callable of the user's: a function, a class, or an object that can be called, such as an nn.Module.

    Attributes:
        text: as the user named it.
        function: what is called so.
        sha256: of the source that was run, with "\\n" between its lines: as sha256sum prints it of such a file.
        path: of the file, absolute.
        folder: what lies in it is the user's own code, too.
    """

    text: str
    function: Callable[..., Any]
    sha256: str
    path: Path
    folder: Path


def is_own(text: str) -> bool:
    """Return whether a text has the form "file.py:name" or "module:name", and is not "timm:…" or "torchvision:…"."""
    place, colon, name = text.rpartition(":")
    if not colon or not name or place in MODEL_PACKAGES:
        return False
    return place.endswith(_SUFFIX) or _DOTTED.fullmatch(place) is not None


def read_own(text: str, what: str = "model") -> OwnCode:
    """Run a file or module of the user's, and return what has a name in it.

    A file is run once, under a module name of its own, so that it may be called as any other module is. Modules beside
    it are found as by a script, but behind those of the standard library; for "package.module:name" those in the
    current folder are.

    Args:
        text: "file.py:name", the path as given or relative to the current folder, or "package.module:name".
        what: it is wanted for, in messages.

    Raises:
        FileNotFoundError: no such file. ValueError: a text of another form, no such module or name, something that
            cannot be called, or code that raises, with the user's file and line and the error as its cause.
    """
    return run_own(find_own(text, what), what)


def find_own(text: str, what: str = "model") -> OwnFile:
    """Return where a name stands, running nothing. Raises as `read_own` what concerns the text and the place."""
    if not is_own(text):
        raise ValueError(f"{what} must be FILE.py:NAME or PACKAGE.MODULE:NAME, got {text!r}")
    place = text.rpartition(":")[0]
    if place.endswith(_SUFFIX):
        path = Path(place).expanduser().absolute()
        return OwnFile(text, path, path.parent, _source(path, what))
    path, folder = _module_file(place, what)
    return OwnFile(text, path, folder, _source(path, what))


def run_own(file: OwnFile, what: str = "model") -> OwnCode:
    """Run the code that was found, and return what has the name in it. Raises as `read_own` what concerns the code."""
    place, _, name = file.text.rpartition(":")
    if place.endswith(_SUFFIX):
        module = _run_file(file.path, file.source, what)
    else:
        with _shown(f"{what} {place}", file.folder), _run_of(file.path):
            module = importlib.import_module(place)
    return OwnCode(file.text, _named(module, name, file, what), file.sha256, file.path, file.folder)


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return a function's parameters by name; none of those written in C that do not say them."""
    with suppress(ValueError):
        return inspect.signature(function).parameters
    return {}


def call_with_what_it_takes(function: Callable[..., Any], **offered: object) -> Any:
    """Call a function with those of the keyword arguments that it names, or with all if it has ``**kwargs``.

    A class whose ``__init__`` has nothing but ``*args`` and ``**kwargs`` is called with none.

    Raises:
        TypeError: it needs an argument that is not offered. What the function raises goes through.
    """
    parameters = parameters_of(function)
    kinds = {parameter.kind for parameter in parameters.values()}
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    taken = {name for name, parameter in parameters.items() if parameter.kind in by_keyword}
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    # A class without __init__ has that of its base, which passes everything on: nn.Module's takes nothing.
    takes_all = inspect.Parameter.VAR_KEYWORD in kinds and not (inspect.isclass(function) and kinds == {*variable})
    given = offered if takes_all else {name: value for name, value in offered.items() if name in taken}
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind not in variable and name not in given
    ]
    if missing:
        name = getattr(function, "__name__", repr(function))
        raise TypeError(
            f"{name} needs {', '.join(missing)}; it is offered {', '.join(offered) or 'nothing'}, by these names, so "
            "give what else it takes a default"
        )
    return function(**given)


def refuse_while_imported(what: str) -> None:
    """Raise a RuntimeError if the user's file is being run to find a name in it, where it must not do what it does.

    A script without `if __name__ == "__main__":` would begin another run in the middle of this one.

    Args:
        what: it does, for the message: "a training run".
    """
    if _running:
        raise RuntimeError(f"{what} is started while {_short(_running[-1])} is imported; {_IS_SCRIPT}")


@contextmanager
def errors_shown(own: OwnCode, what: str) -> Iterator[None]:
    """Turn what the user's code raises inside into a ValueError with their file and line, and the error as its cause.

    Args:
        own: the code.
        what: is done, for the message: "model mine.py:make".
    """
    with _shown(what, own.folder):
        yield


def users_line(error: BaseException, folder: Path) -> str:
    """Return where in the user's code an error comes from, "mine.py:3, in make: return x", "" if nowhere."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_users(Path(frame.filename), folder)]
    if not own:
        return ""
    frame = own[-1]
    function = "" if frame.name == "<module>" else f", in {frame.name}"
    line = (frame.line or "").strip()[:_LONGEST_LINE]
    return f"{_short(Path(frame.filename))}:{frame.lineno}{function}" + (f": {line}" if line else "")


def _source(path: Path, what: str) -> bytes:
    if not path.is_file():
        kind = "it is a folder" if path.is_dir() else "there is no such file"
        raise FileNotFoundError(f"{what}: {kind}: {_short(path)}")
    with path.open("rb") as file:
        source = file.read(_MOST_BYTES + 1)
    if len(source) > _MOST_BYTES:
        raise ValueError(f"{what}: {_short(path)} has more than {_MOST_BYTES // 2**20} MiB, which is no Python source")
    return source


def _run_file(path: Path, source: bytes, what: str) -> ModuleType:
    """Run a file as a module of its own, or return the one that it has been made before."""
    identity = hashlib.sha256(b"\0".join([str(path).encode(errors="surrogateescape"), source])).hexdigest()
    name = f"{_MODULE_PREFIX}_{re.sub(r'[^a-zA-Z0-9]', '_', path.stem)}_{identity[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    with _shown(f"{what} {_short(path)}", path.parent):
        # What is run is what was hashed: not a .pyc, which may be of a source of the same second.
        tree = ast.parse(source, str(path))
        code = compile(tree, str(path), "exec", dont_inherit=True)
    _make_importable(path.parent)
    _refuse_other_modules(tree, path, what)
    spec = spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None  # as it has a name
    module = module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module  # as dataclasses and pickle look there
    try:
        with _shown(f"{what} {_short(path)}", path.parent), _run_of(path):
            exec(code, module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _run_of(path: Path) -> Iterator[None]:
    _running.append(path)
    try:
        yield
    finally:
        _running.pop()


def _module_file(name: str, what: str) -> tuple[Path, Path]:
    """Return the file of a module, in the current folder or where packages are, and the folder of its top package."""
    _make_importable(Path.cwd())
    top, *below = name.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # of a module without a spec, such as __main__
        spec = None
    places = [] if spec is None or spec.submodule_search_locations is None else [*spec.submodule_search_locations]
    found, top_places = top, places
    for part in below:
        if spec is not None:
            found = f"{found}.{part}"
            spec = PathFinder.find_spec(found, places)
            places = (
                [] if spec is None or spec.submodule_search_locations is None else [*spec.submodule_search_locations]
            )
    if spec is None:
        raise ValueError(f"{what}: there is no module {found!r}{_where_to_look(name)}")
    if not spec.has_location or spec.origin is None:
        raise ValueError(f"{what}: the module {name!r} has no file of its own; name one as PATH/TO/FILE.py:NAME")
    path = Path(spec.origin).absolute()
    return path, Path(top_places[0]).absolute().parent if top_places else path.parent


def _where_to_look(name: str) -> str:
    file = Path(*name.split(".")).with_suffix(_SUFFIX)
    if file.is_file():
        return f", but a file {file}: say {file}:NAME"
    near = difflib.get_close_matches(name, MODEL_PACKAGES, n=1)
    if near:
        return f"; did you mean {near[0]}:NAME?"
    return f", neither in {Path.cwd()} nor installed; name a file as PATH/TO/FILE.py:NAME"


def _named(module: ModuleType, name: str, file: OwnFile, what: str) -> Callable[..., Any]:
    if not hasattr(module, name):
        raise ValueError(
            f"{what} {file.text}: {_short(file.path)} has no {name!r}; {_near(module, name)}{_shadowed(file)}"
        )
    value = getattr(module, name)
    if not callable(value):
        raise ValueError(
            f"{what} {file.text}: {name} is of the type {type(value).__name__}; it must be a function, a class or an "
            f"object that can be called; {_near(module, name)}"
        )
    return value  # type: ignore[no-any-return]  # as just seen


def _near(module: ModuleType, name: str) -> str:
    """Return which names were meant, or that a file defines, for messages."""
    own = [
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and key != name and callable(value)
        and getattr(value, "__module__", module.__name__) in (module.__name__, type(value).__module__)
    ]  # fmt: skip
    near = difflib.get_close_matches(name, own, n=2)
    if near:
        return f"did you mean {' or '.join(near)}?"
    more = f" and {len(own) - _SHOWN_NAMES} more" if len(own) > _SHOWN_NAMES else ""
    return f"it defines {', '.join(own[:_SHOWN_NAMES])}{more}" if own else "it defines no function or class"


def _shadowed(file: OwnFile) -> str:
    """Return what to say where a module was found that is not the file of that name in the current folder."""
    place, _, name = file.text.rpartition(":")
    beside = Path(*place.split(".")).with_suffix(_SUFFIX)
    if place.endswith(_SUFFIX) or not beside.is_file() or beside.samefile(file.path):
        return ""
    return f". For {beside} say {beside}:{name}"


def _make_importable(folder: Path) -> None:
    """Let modules in a folder be imported: before installed ones, as a script's, and behind the standard library's.

    A file that is called random.py or types.py then harms nobody.
    """
    if str(folder) in sys.path:
        return
    first = next((i for i, entry in enumerate(sys.path) if Path(entry).name in _INSTALLED), len(sys.path))
    sys.path.insert(first, str(folder))
    importlib.invalidate_caches()


def _refuse_other_modules(tree: ast.Module, path: Path, what: str) -> None:
    """Raise a ValueError if a module that the file imports from beside it is here already, from somewhere else."""
    for name in sorted(_imported(tree)):
        loaded = sys.modules.get(name)
        beside = next(
            (p for p in (path.parent / f"{name}.py", path.parent / name / "__init__.py") if p.is_file()), None
        )
        if loaded is None or beside is None or name in sys.stdlib_module_names:
            continue
        file = getattr(loaded, "__file__", None)
        if file is not None and not Path(file).samefile(beside):
            raise ValueError(
                f"{what}: {_short(path)} imports {name}, and beside it is {_short(beside)}, but {file} has been "
                "imported by that name already; rename one of them"
            )


def _imported(tree: ast.Module) -> set[str]:
    """Return the top-level names of what a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            names.add(node.module.partition(".")[0])
    return names


@contextmanager
def _shown(what: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except SyntaxError as error:
        raise ValueError(f"{what}: {_syntax(error)}") from error
    except (Exception, SystemExit) as error:  # code of the user may raise anything, and it is told, not swallowed
        raise ValueError(f"{what}: {_reason(error, folder)}") from error


def _syntax(error: SyntaxError) -> str:
    place = "" if error.filename is None else f"{_short(Path(error.filename))}:{error.lineno}: "
    line = "" if error.text is None else f": {error.text.strip()[:_LONGEST_LINE]}"
    return f"{place}{type(error).__name__}: {error.msg}{line}"


def _reason(error: BaseException, folder: Path) -> str:
    where = users_line(error, folder)
    said = " ".join(str(error).split())[:_LONGEST_REASON]
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if isinstance(error, SystemExit):
        text = f"it ends the program; {_IS_SCRIPT}"
    elif isinstance(error, ModuleNotFoundError) and error.name is not None:
        text += f"; install {error.name.partition('.')[0]} in this environment, or put it beside the file"
    elif isinstance(error, ImportError) and "relative import" in said:
        text += "; name it as PACKAGE.MODULE:NAME from the folder above its package, or import without dots"
    return f"{where}: {text}" if where else text


def _is_users(path: Path, folder: Path) -> bool:
    """Whether a file is in a folder, and not in an environment, or this package, that lies in it."""
    if not path.is_relative_to(folder):
        return False
    places = [Path(__file__).parent, *map(Path, site.getsitepackages())]
    places += [Path(place) for key, place in sysconfig.get_paths().items() if key in ("stdlib", "purelib", "platlib")]
    return not any(path.is_relative_to(place) and not folder.is_relative_to(place) for place in places)


def _short(path: Path) -> str:
    """Return a path, from the current folder if it is below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
