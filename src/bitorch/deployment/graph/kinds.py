"""The kinds of nodes: one row for each, with all that capture, passes and backends know of a kind.

A new kind is a row in one of the files beside this one, a rule of capture or a pass that makes it, and what each
backend makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .kind import Kind
from .rows_of_embeddings import EMBEDDINGS
from .rows_of_ends import ENDS
from .rows_of_functions import FUNCTIONS
from .rows_of_layers import LAYERS
from .rows_of_matrices import MATRICES
from .rows_of_moves import MOVES
from .rows_of_norms import NORMS
from .rows_of_pairs import PAIRS
from .rows_of_passes import OF_PASSES
from .rows_of_pools import POOLS
from .rows_of_resizes import RESIZES

_ROWS = (*ENDS, *LAYERS, *EMBEDDINGS, *FUNCTIONS, *PAIRS, *MATRICES, *POOLS, *RESIZES, *NORMS, *MOVES, *OF_PASSES)

#: All kinds, by name.
KINDS: Mapping[str, Kind] = MappingProxyType({row.name: row for row in _ROWS})
#: Those of a graph as capture makes it of a model that can be deployed.
CAPTURED = frozenset(row.name for row in _ROWS if row.captured) - {"unsupported"}
