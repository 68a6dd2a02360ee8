"""Networks as headers of C99: no heap, no threads, nothing but what the network needs. Needs NumPy only."""

from .source import ArenaError as ArenaError
from .source import CSource as CSource
from .source import c_source as c_source
