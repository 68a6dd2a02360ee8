"""What rows of several families say: why results are inexact, and which tensors may leave."""

from __future__ import annotations

SUMS = "float sums: they are added in an order that depends on the CPU"
EXPONENTIAL = (
    "it has an exponential, computed in one sequence of float32 operations: the same on every CPU, within 2.5 units in "
    "the last place, where another library has other last bits"
)
DOUBLE = (
    "it has exponentials, computed in double and rounded once: the same on every CPU, but another library may round "
    "the other way"
)

#: Groups of keys of which one or more must be there.
OUTPUTS = (("int32", "float32", "codes"),)
FLOAT_OUTPUTS = (("float32", "codes"),)
