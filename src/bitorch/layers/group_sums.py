"""Linear product of integer codes whose weight has a scale for each group of inputs, exact on the integers.

With codes q of the input and c of the weight, and s_g the scale of a group g of an output channel's inputs,

    D_g = Σ over the inputs of g of c·q,   y = ((fl(s_0·D_0) + fl(s_1·D_1)) + …) + bias

Each D_g is an integer, rounded once where float32 does not hold it; each product and each sum rounds once, in the order
of the groups. So bitorch_runtime's `linear_groups` gives the same numbers bit for bit. Backward is that of the values.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .exact import _exact, digit_base
from .products import LinearProduct, Rounding, product_of_codes

#: How many sums of one group are there at once: 1 MiB of float32, which caches hold.
_SUMS_AT_ONCE = 2**18


class GroupSums(NamedTuple):
    """The forward product; its `sums` are `products.Sums`.

    Attributes:
        size: how many inputs a group has.
        max_weight_code: the largest absolute code of the weight.
        base: what its codes are split in, see `exact.digit_base`.
    """

    size: int
    max_weight_code: int
    base: int

    def sums(self, q: Tensor, c: Tensor, input_scale: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
        """Return y [..., out] of q [..., in] and c [out, in], whose scale has the shape of c."""
        scale = weight_scale[:, :: self.size].t()
        is_by_row = input_scale.dim() > 0
        return self.added(q, c, scale if is_by_row else input_scale * scale, bias, input_scale if is_by_row else None)

    def added(self, q: Tensor, c: Tensor, scale: Tensor, bias: Tensor | None, row_scale: Tensor | None) -> Tensor:
        """Return (Σ_g scale_g·D_g)·row_scale + bias, for scale [groups, out] and row_scale [..., 1]."""
        rows = q.flatten(0, -2) if q.dim() > 1 else q.unsqueeze(0)
        at_once = max(1, _SUMS_AT_ONCE // max(1, len(c)))
        if torch.compiler.is_compiling() or len(rows) <= at_once:  # a tracer would count the parts
            y = self._scaled(rows, c, scale)
        else:
            y = torch.cat([self._scaled(part, c, scale) for part in rows.split(at_once)])
        y = y.reshape(*q.shape[:-1], len(c))
        if row_scale is not None:
            y.mul_(row_scale)
        return y if bias is None else y.add_(bias)

    def _scaled(self, rows: Tensor, c: Tensor, scale: Tensor) -> Tensor:
        """Return Σ_g scale_g·D_g, [rows, out], of rows [rows, in]."""
        if len(scale) == 0:
            return rows.new_zeros(len(rows), len(c))
        of_groups = zip(rows.split(self.size, 1), c.split(self.size, 1), scale, strict=True)
        scaled = (self._of_group(q, weight).mul_(factor) for q, weight, factor in of_groups)
        y = next(scaled)
        for one in scaled:
            y.add_(one)
        return y

    def _of_group(self, q: Tensor, weight: Tensor) -> Tensor:
        """Return D_g of one group, [rows, out]."""
        return _exact(lambda digit: F.linear(q, digit), weight, self.max_weight_code, self.base)


def scaled_groups(
    q: Tensor, c: Tensor, scale: Tensor, max_codes: tuple[int, int], bias: Tensor | None = None
) -> Tensor:
    """Return Σ_g scale_g·D_g + bias, [..., out], by the formula of this module; without gradient.

    Args:
        q, c: codes [..., in] and [out, in].
        scale: [out, groups].
        max_codes: largest absolute code of q and of c.
        bias: [out], or None.
    """
    size = c.shape[1] // scale.shape[1]
    form = GroupSums(size, max_codes[1], digit_base(size, max_codes[1], max_codes[0]))
    return form.added(q, c, scale.t(), bias, None)


def grouped_linear(
    q: Tensor,
    c: Tensor,
    input_scale: Tensor,
    weight_scale: Tensor,
    max_codes: tuple[int, int],
    group_size: int,
    bias: Tensor | None = None,
    rounding: Rounding | None = None,
) -> Tensor:
    """Return y [..., out] of codes q [..., in] and c [out, in], by the formula of this module.

    Args:
        input_scale: 0-dim, a factor of each s_g; or [..., 1], one for each row, which multiplies the sum of the groups.
        weight_scale: of the shape of c, each number its group's.
        group_size: how many inputs in a row share a scale; divides in.
        max_codes, bias, rounding: as of `products.scaled_product`.
    """
    form = GroupSums(group_size, max_codes[1], digit_base(group_size, max_codes[1], max_codes[0]))
    product = LinearProduct()
    return product_of_codes(product, q, c, input_scale, weight_scale, max_codes, form.base, bias, rounding, form.sums)
