"""What a row of the table of operations holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

#: What the value of a key is: the name (or names) of tensors that the operation reads, of one that it gives, of an
#: array, or a setting.
Role: TypeAlias = Literal["reads", "gives", "array", "setting"]


@dataclass(frozen=True)
class Choice:
    """One of the texts that a setting may be.

    Attributes:
        value: the text.
        doc: what it stands for.
        inexact: as of `Op`, of the operation with this choice.
    """

    value: str
    doc: str = ""
    inexact: str = ""


@dataclass(frozen=True)
class Key:
    """One key of an operation.

    Attributes:
        name: of the key.
        role: what its value is.
        form: in words: what tensors hold, the dtype and shape of an array, the type of a setting.
        values: of tensors "float32", "int32" or "codes"; of an array its dtypes; none of a setting.
        low, high: the smallest and the largest integer, of each where there are several; None where there is no such
            bound, or where it depends on other keys and `form` says it.
        choices: of a setting that is one of some texts.
        default: what holds where the key is missing; None where it must be there.
        beside: another key, without which this one has no meaning and is refused; "" where there is none.
        doc: what it says.
    """

    name: str
    role: Role
    form: str
    values: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    choices: tuple[Choice, ...] = ()
    default: str | None = None
    beside: str = ""
    doc: str = ""


@dataclass(frozen=True)
class Op:
    """One operation.

    Attributes:
        name: the value of "op".
        family: what it is listed under.
        keys: those that it may have besides "op": tensors, arrays and settings.
        doc: what it does.
        formula: what it computes.
        one_of: groups of keys of which one or more must be there.
        inexact: "" where the result is that of `reference`, bit for bit and on every CPU; else why its last bits may be
            others.
        multiplies: whether it is made of multiply-adds, which `Program.operations` counts as ``macs``.
    """

    name: str
    family: str
    keys: tuple[Key, ...]
    doc: str
    formula: str = ""
    one_of: tuple[tuple[str, ...], ...] = ()
    inexact: str = ""
    multiplies: bool = False

    def __getitem__(self, key: str) -> Key:
        """The key of a name; a KeyError where the operation has none such."""
        for one in self.keys:
            if one.name == key:
                return one
        raise KeyError(key)

    def __contains__(self, key: str) -> bool:
        return any(one.name == key for one in self.keys)

    def names(self, role: Role) -> tuple[str, ...]:
        """The names of the keys that hold such values."""
        return tuple(key.name for key in self.keys if key.role == role)

    @property
    def reads(self) -> tuple[str, ...]:
        """The keys that name tensors which it reads."""
        return self.names("reads")

    @property
    def gives(self) -> tuple[str, ...]:
        """The keys that name tensors which it gives."""
        return self.names("gives")

    @property
    def arrays(self) -> tuple[str, ...]:
        """The keys that name arrays."""
        return self.names("array")

    def may_give(self, key: str, operation: Mapping[str, Any]) -> bool:
        """Say whether an operation, with the other keys that it has, may give a tensor under this key too."""
        return key in self.gives and (self[key].beside == "" or self[key].beside in operation)
