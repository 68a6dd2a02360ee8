"""The kinds that passes make, of every backend first, then those of bitorch_runtime."""

from __future__ import annotations

from . import shapes
from .kind import (
    CODES,
    FLAG,
    GEOMETRY,
    INT,
    INTS,
    TENSOR,
    TENSOR_OR_NONE,
    TEXT,
    TRANSPOSED,
    WEIGHT,
    Kind,
    elementwise_kind,
    finite,
    positive,
)

OF_PASSES: tuple[Kind, ...] = (
    Kind(
        "codes",
        "float32 to integer codes: `form`, `bits`, `zero_point`, see quantizations.arithmetic; `sign`: they are ±1; "
        "`keeps_nan`: NaN is NaN, else the lowest code.",
        settings={"form": TEXT, "zero_point": INT, "keeps_nan": FLAG, **CODES},
        shape=shapes.same,
        captured=False,
        makes_codes=True,
    ),
    Kind(
        "values",
        "Codes to floats: `table` of the values by code, [levels] or [C, levels]; None: code/(2^bits − 1), or ±1.",
        settings={**CODES, "table": TENSOR_OR_NONE},
        shape=shapes.same,
        captured=False,
    ),
    Kind(
        "product",
        "Codes to D = Σ c·(q − `zero_point`). The weight's settings of low_bit, and the geometry of conv, which a "
        "linear layer has not.",
        settings={**WEIGHT, "sign": FLAG, "zero_point": INT},
        geometry=GEOMETRY,
        optional=TRANSPOSED,
        shape=shapes.weighted,
        captured=False,
        weighs=True,
    ),
    Kind(
        "group_product",
        "Codes to Σ_g `scale`·D_g + `bias`, D_g = Σ c·(q − `zero_point`) of a group g of inputs, one after the other: "
        "`scale` [C_out, G], `bias` or None. The weight's settings of low_bit.",
        settings={**WEIGHT, "sign": FLAG, "zero_point": INT, "scale": TENSOR, "bias": TENSOR_OR_NONE},
        shape=shapes.weighted,
        captured=False,
    ),
    Kind(
        "code_matmul",
        "Codes of two tensors to D = Σ (q − zero)·(r − zero), `zero_points` of both; where `signs` of one is 1, its "
        "codes are ±1. The rest as of matmul, and `largest` of low_bit_matmul.",
        arity=2,
        settings={"transposed": INTS, "zero_points": INTS, "signs": INTS, "largest": INTS},
        shape=shapes.multiplied,
        captured=False,
    ),
    elementwise_kind(
        "scale",
        "D·`scale`, [1] or [C]: D to float32.",
        {"scale": TENSOR},
        monotone=finite("scale"),
        rising=positive("scale"),
        captured=False,
    ),
    Kind(
        "lookup",
        "Codes to codes: `table` [levels] or [C, levels] of what the program stores.",
        settings={**CODES, "table": TENSOR},
        shape=shapes.same,
        captured=False,
        makes_codes=True,
    ),
    Kind(
        "thresholds",
        "D or float32 to codes: how many of `thresholds` [C, n] are reached, from below, or from above where "
        "`descending` [C]; with a `table` [n + 1] or [C, n + 1], of D only, what it holds for that many.",
        settings={**CODES, "thresholds": TENSOR, "descending": TENSOR, "table": TENSOR_OR_NONE},
        shape=shapes.same,
        captured=False,
        makes_codes=True,
    ),
)
