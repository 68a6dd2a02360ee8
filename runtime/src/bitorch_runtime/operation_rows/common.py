"""What rows of several families say: why results are inexact, and which tensors may leave."""

from __future__ import annotations

SUMS = "float sums: they are added in an order that depends on the CPU"
EXPONENTIAL = (
    "it has an exponential or a logarithm, computed in one sequence of float32 operations: the same on every CPU, "
    "within 3 units in the last place, where another library has other last bits"
)
SOFTMAX = (
    "it has exponentials and their sum, computed in one sequence of float32 operations: the same on every CPU, where "
    "another library has other last bits"
)

#: Groups of keys of which one or more must be there.
OUTPUTS = (("int32", "float32", "codes"),)
FLOAT_OUTPUTS = (("float32", "codes"),)
