"""What became of the architectures, as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from architectures_trial import STEPS, Architecture, Bits, Trial

_HEADER = ("network", "package", "image", "low-bit layers", "float layers", "W1A2G6", "W2A2", "W4A4", "deploys",
           "float bytes", "W1A2G6 bytes")  # fmt: skip
_HEAD = """# Architectures written elsewhere

Written by `.venv/bin/python recipes/architectures.py --docs docs/architectures.md`: networks of timm and torchvision,
with random weights and 10 classes, each converted by one call of `bitorch.quantize_`, first and last layer float.

- The float `state_dict` loads into the converted network with `strict=True`, and its own into a float one.
- "trains": {steps} steps of Adam on random images, in train mode, had finite losses, gradients and weights.
- "equal": the packed program gave the model's numbers on new images, so many of them bit for bit. The rest are sums of
  floats: the first and last layer, means, functions with an exponential ([what is equal](deploying.md#what-is-equal)).
- Bytes: of the packed file at W1A2G6; where it deploys partially, of all weights.

"""
_PARTIAL = """
## Why some deploy partially

What stands in the way of a single program, and in how many places; `bitorch.can_deploy` names each of them. With
`partial=True` low-bit layers become packed ones wherever they stand, and what is between them stays PyTorch.

"""


def row(architecture: Architecture, trials: Mapping[Bits, Trial]) -> tuple[str, ...]:
    """Return the cells of one line."""
    package, _, name = architecture.name.partition(":")
    first = next(iter(trials.values()))
    whole = all(trial.is_whole for trial in trials.values())
    return (
        name,
        package,
        f"{architecture.side}×{architecture.side}",
        str(len(first.low_bit)),
        str(len(first.float_layers)),
        *map(_outcome, trials.values()),
        "yes" if whole else f"partially: {_short(first)}",
        f"{first.float_bytes:,}",
        f"{first.deployed_bytes:,}",
    )


def page(tried: Sequence[tuple[Architecture, Mapping[Bits, Trial]]]) -> str:
    """Return the table, and below it the reasons of all that is no single program."""
    lines = [_line(_HEADER), "|" + "---|" * len(_HEADER), *(_line(row(*one)) for one in tried)]
    text = _HEAD.format(steps=STEPS) + "\n".join(lines) + "\n"
    partial = [(architecture, next(iter(trials.values()))) for architecture, trials in tried]
    reasons = [_line((a.name, _counted(t.problems), _layers(t))) for a, t in partial if not t.is_whole]
    if not reasons:
        return text
    heading = [_line(("network", "why it is no single program", "layers")), "|---|---|---|"]
    return text + _PARTIAL + "\n".join([*heading, *reasons]) + "\n"


def _outcome(trial: Trial) -> str:
    if trial.verification is None:
        return f"trains, {trial.packed} layers packed"
    numbers = sum(c.elements for c in trial.verification.comparisons if c.exact)
    return f"trains, {numbers:,} equal" if trial.verification else "trains, DIFFERS"


def _short(trial: Trial) -> str:
    """The functions without a counterpart; where there are none, the first problem."""
    suffix = " cannot be deployed"
    functions = [problem.removesuffix(suffix) for problem in trial.problems if problem.endswith(suffix)]
    quoted = [f"`{name}`" if name.isidentifier() else name for name in functions]
    return ", ".join(quoted) if quoted else next(iter(trial.problems))


def _counted(reasons: Mapping[str, int]) -> str:
    return "<br>".join(f"{count} × {reason}" for reason, count in reasons.items())


def _layers(trial: Trial) -> str:
    return "<br>".join([f"{trial.packed} packed", *(f"{count} stay: {why}" for why, count in trial.stays.items())])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
