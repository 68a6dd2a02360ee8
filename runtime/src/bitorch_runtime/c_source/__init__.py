"""Networks as headers of C99: no heap, no threads, nothing but what the network needs. Needs NumPy only."""

from .export import CHeader as CHeader
from .export import export_c as export_c
from .export import write_c as write_c
from .source import ArenaError as ArenaError
from .source import CSource as CSource
from .source import c_source as c_source
