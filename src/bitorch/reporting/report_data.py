"""The numbers of a report, which tables and pages are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .rows import Row, Totals

if TYPE_CHECKING:
    from ..deployment.runtime.packed_model import PackedModel


@dataclass(frozen=True)
class ReportData:
    """The attributes of a `Report`, which documents them."""

    model: str
    rows: tuple[Row, ...]
    totals: Totals
    deployment: str
    bytes_are: str
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    packed: PackedModel | None = field(default=None, compare=False, repr=False)
    about: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
