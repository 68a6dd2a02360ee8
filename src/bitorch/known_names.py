"""The names of data sets and models, and what a message says to another one. Without PyTorch, which takes seconds."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from .own_code import MODEL_PACKAGES, is_own
from .short_repr import short_repr

#: The names that `bitorch.data.load` takes.
DATA_NAMES: tuple[str, ...] = (
    "digits", "mnist", "cifar10", "cifar100", "svhn", "imagenet", "images", "webdataset", "fake",
)  # fmt: skip
#: Those of them whose images are picture files, of any size.
PICTURE_DATA: tuple[str, ...] = ("imagenet", "images", "webdataset")
#: The names of architectures of our own, that `bitorch.models.build` takes.
MODEL_NAMES: tuple[str, ...] = (
    "svhn-a", "svhn-b", "svhn-c", "svhn-d", "lenet-28", "lenet-8", "resnet-20", "resnet-18", "mobilenet-v2",
    "alexnet",
)  # fmt: skip
#: The nets of BITorch's zoo that have one size, low-bit as they are built; `bitorch.models.build` takes them, too.
ZOO_NAMES: tuple[str, ...] = (
    "lenet", "resnet18v1", "resnet18v2", "resnet34v1", "resnet34v2", "resnet50v1", "resnet50v2", "resnet152v1",
    "resnet152v2", "resnete18", "resnete34", "birealnet18", "reactneta", "densenet28", "densenet37", "densenet45",
    "meliusnet22", "meliusnet23", "meliusnet29", "meliusnet42", "meliusnet59", "meliusneta", "meliusnetb", "meliusnetc",
    "quicknet", "quicknetsmall", "quicknetlarge",
)  # fmt: skip
#: Factor on a model's channels: more than any net takes, and less than a mistyped number asks of the memory.
MAX_WIDTH = 64.0
#: What names of models and data begin with that were passed in Python, as in fit(settings, model=Net()).
GIVEN_PREFIX = "python-"
#: Other names of what is here, in the spelling of `_plain`.
_OTHER_DATA = {
    "fashionmnist": "mnist", "kmnist": "mnist", "emnist": "mnist", "qmnist": "mnist", "sklearn": "digits",
    "cifar": "cifar10", "imagefolder": "images", "folder": "images", "pictures": "images", "jpeg": "images",
    "ilsvrc": "imagenet", "ilsvrc2012": "imagenet", "imagenet1k": "imagenet", "wds": "webdataset", "tar": "webdataset",
    "fakedata": "fake", "random": "fake", "synthetic": "fake",
}  # fmt: skip
_HOW = {"mnist": "mnist with --folder, which reads the files of the MNIST family"}


def wrong_data(name: str) -> str:
    """Return what is wrong with a name of a data set, "" if nothing is. Functions of one's own are not looked at."""
    if name in DATA_NAMES or is_own(name) or is_given(name):
        return ""
    near = _near(name, DATA_NAMES)
    if _plain(name) in _OTHER_DATA:
        near = [_OTHER_DATA[_plain(name)]]
    hint = f"; did you mean {_HOW.get(near[0], near[0])}?" if near else ""
    return f"data must be one of {', '.join(DATA_NAMES)}, or FILE.py:NAME, got {short_repr(name)}{hint}"


def wrong_model(name: str) -> str:
    """Return what is wrong with a name of a model, "" if nothing is. Names within a package are not looked at."""
    if name in MODEL_NAMES or name in ZOO_NAMES or (":" in name and name.partition(":")[0] in MODEL_PACKAGES):
        return ""
    if is_own(name) or is_given(name):
        return ""
    if name.endswith((".py", ".py:")):
        return f"model {short_repr(name)} is a file; say what in it makes the net, as {name.rstrip(':')}:NAME"
    near = _near(name, (*MODEL_NAMES, *ZOO_NAMES))
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    packages = " or ".join(f"{package}:NAME" for package in MODEL_PACKAGES)
    own = "or FILE.py:NAME or PACKAGE.MODULE:NAME of your own"
    zoo = f"a net of the zoo such as {ZOO_NAMES[1]}"
    return (
        f"model must be one of {', '.join(MODEL_NAMES)}, or {zoo}, or {packages}, {own}, got {short_repr(name)}{hint}"
    )


def is_given(name: str) -> bool:
    """Return whether a name is that of a model or of data that were passed in Python."""
    return name.startswith(GIVEN_PREFIX) and name[len(GIVEN_PREFIX) :].isidentifier()


def _near(name: str, known: Sequence[str]) -> list[str]:
    """Return up to three known names that a name is like, those first that differ in case and punctuation only."""
    by_plain = {_plain(word): word for word in known}
    plain = _plain(name)
    if plain in by_plain:
        return [by_plain[plain]]
    return [by_plain[word] for word in difflib.get_close_matches(plain, by_plain, n=3, cutoff=0.7)]


def _plain(name: str) -> str:
    return "".join(c for c in name[:100].lower() if c.isalnum())
