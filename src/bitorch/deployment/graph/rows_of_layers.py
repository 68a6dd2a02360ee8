"""Quantizers and layers with weights."""

from __future__ import annotations

from . import shapes
from .kind import GEOMETRY, INT, QUANTIZER, TENSOR, TENSOR_OR_NONE, TEXT, TRANSPOSED, WEIGHT, Kind

LAYERS: tuple[Kind, ...] = (
    Kind(
        "quantizer",
        "A QActivation or Quantization whose values go on as floats. `form`, `bits`: see quantizations.arithmetic; "
        "what comes before: `divide` and `plus`, [1] or [C], None for nothing; what codes stand for: "
        "(code − `zero_point`)·`code_scale`, 0-dim, None for the form's own values.",
        settings=QUANTIZER,
        shape=shapes.same,
    ),
    Kind(
        "low_bit",
        "A low-bit convolution, transposed or not, or a QLinear. Settings of its input's quantizer, and `weight`, "
        "integers as float32 [C_out, …], of `weight_bits` on `weight_grid`; `largest` absolute codes of input and "
        "weight; `scale` [1] or [C_out], of both, or of a QLinear [C_out, G], of each of G groups of inputs, G > 1; "
        "`bias` or None. Of convolutions the geometry of conv, `padding_mode` "
        "and `pad_code`, which transposed ones have no use for.",
        settings={**QUANTIZER, **WEIGHT, "scale": TENSOR, "bias": TENSOR_OR_NONE},
        geometry={**GEOMETRY, "padding_mode": TEXT, "pad_code": INT},
        optional=TRANSPOSED,
        shape=shapes.weighted,
    ),
    Kind(
        "conv",
        "A float convolution, of one dimension to three. `weight` [C_out, C_in / groups, …], `bias` or None; `padding` "
        "before and after each dimension, outermost first. With `output_padding` a transposed one: then `padding` has "
        "one number for each dimension.",
        settings={"weight": TENSOR, "bias": TENSOR_OR_NONE, **GEOMETRY},
        optional=TRANSPOSED,
        shape=shapes.weighted,
        weighs=True,
        sums=True,
        exact=False,
    ),
    Kind(
        "linear",
        "A float linear layer, of the channels at each place of the rows. `weight` [F_out, F_in], `bias` or None.",
        settings={"weight": TENSOR, "bias": TENSOR_OR_NONE},
        shape=shapes.weighted,
        weighs=True,
        sums=True,
        exact=False,
    ),
    Kind(
        "weight_only",
        "A QLinear whose input stays floats, of the channels at each place of the rows. `weight`, integers as float32 "
        "[F_out, F_in], of `weight_bits` on `weight_grid`; `scale` [F_out, G], of each group of F_in / G inputs; "
        "`bias` or None.",
        settings={
            "weight": TENSOR,
            "weight_bits": INT,
            "weight_grid": TEXT,
            "scale": TENSOR,
            "bias": TENSOR_OR_NONE,
        },
        shape=shapes.weighted,
        sums=True,
        exact=False,
    ),
)
