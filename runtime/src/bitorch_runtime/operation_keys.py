"""Keys that several operations have: the rows of `operations` are made of them."""

from __future__ import annotations

from bitorch_runtime.operation_row import Choice, Key

#: The largest height and width of images, and the largest window, stride, dilation and padding.
MOST_EXTENT = 2**20
#: The largest number of channels, features and groups.
MOST_CHANNELS = 2**24

FLOATS = ("float32",)
CODES = ("codes",)
FLOATS_OR_CODES = ("float32", "codes")


def reads(name: str, values: tuple[str, ...], doc: str = "") -> Key:
    """The tensor that an operation reads, of one of these values."""
    return Key(name, "reads", " or ".join(values), values, doc=doc)


def gives(name: str, values: tuple[str, ...], doc: str = "") -> Key:
    """The tensor that an operation always gives."""
    return Key(name, "gives", " or ".join(values), values, doc=doc)


def leaves(name: str, doc: str, beside: str = "") -> Key:
    """A tensor that an operation may give."""
    return Key(name, "gives", name, (name,), default="does not leave", beside=beside, doc=doc)


def array(
    name: str, form: str, values: tuple[str, ...], doc: str = "", default: str | None = None, beside: str = ""
) -> Key:
    """An array of one of these dtypes; `form` says dtype and shape."""
    return Key(name, "array", form, values, default=default, beside=beside, doc=doc)


def per_channel(name: str, doc: str, default: str = "this step is left out", beside: str = "") -> Key:
    """One float32 for each channel of the result, of a step that may be left out."""
    return array(name, "float32 [N]", FLOATS, doc, default, beside)


def pair(name: str, doc: str = "", default: str | None = None, low: int = 1) -> Key:
    """A setting with one number for each axis of a window."""
    return Key(
        name,
        "setting",
        "[vertical, horizontal]; of one axis or of three as many numbers",
        low=low,
        high=MOST_EXTENT,
        default=default,
        doc=doc,
    )


def shape(doc: str) -> Key:
    """A key for the shape of one image."""
    rule = "[C, rows …], up to eight dimensions, or [F]"
    return Key("shape", "setting", rule, low=1, high=MOST_CHANNELS, doc=doc)


def flag(name: str, doc: str, default: str | None = "false", beside: str = "") -> Key:
    """A setting that is true or false."""
    return Key(name, "setting", "true or false", default=default, beside=beside, doc=doc)


def number(name: str, doc: str, default: str) -> Key:
    """A setting that is a number."""
    return Key(name, "setting", "a number, finite as float32", default=default, doc=doc)


def number_of(name: str, functions: str, doc: str) -> Key:
    """A number that functions need, and that others have no use for."""
    return number(name, doc, f"needed with {functions}, refused with the others")


def choice(name: str, choices: tuple[Choice, ...], doc: str = "", default: str | None = None) -> Key:
    """A setting that is one of some texts."""
    return Key(name, "setting", "one of", choices=choices, default=default, doc=doc)


BITS = Key("bits", "setting", "an integer", low=1, high=8, doc="of the codes that leave")
CODE_BITS = Key(
    "bits",
    "setting",
    "an integer",
    low=1,
    high=8,
    default="no codes leave",
    beside="codes",
    doc="of the codes that leave",
)
WEIGHT_BITS = Key("weight_bits", "setting", "an integer", low=1, high=8, doc="of a weight code")
ORDER = choice(
    "order",
    (Choice("nchw", "[batch, C, rows …]"), Choice("nhwc", "[batch, rows …, C]")),
    "of the array's numbers in memory",
    "needed, unless the tensor is a vector, [1, 1, F]",
)
ARRAY_SHAPE = Key(
    "array_shape",
    "setting",
    "a list of up to eight integers",
    low=1,
    default="the shape that the other keys say",
    doc="of one image of the array, where it is another one for the same numbers in the same order: [C, 1, 1] of a "
    "vector, [] of one number",
)
_BORDERS = "[top, left, bottom, right]: before each axis, then after each; [before, after] of one"
PADDING = Key("padding", "setting", _BORDERS, low=0, high=MOST_EXTENT, doc="pixels around the image")
GROUPS = Key(
    "groups",
    "setting",
    "an integer",
    low=1,
    high=MOST_CHANNELS,
    doc="divides the channels of the input and of the result",
)
PADDING_OF_ANY = Key(
    "padding",
    "setting",
    "[top, left, bottom, right]: before each axis of rows, then after each; all 0 of any number",
    low=0,
    high=MOST_EXTENT,
    doc="pixels around the image, along any axes",
)
#: Of pools: no dilation.
POOL_WINDOW = (pair("kernel_size"), pair("stride"), PADDING)
WINDOW = (
    pair("kernel_size", "with its dilation not larger than the padded image"),
    pair("stride"),
    Key("padding", "setting", _BORDERS, low=0, high=MOST_EXTENT, doc="around the image; it contributes 0"),
    pair("dilation"),
    GROUPS,
)
#: Of a transposed convolution.
TRANSPOSED_WINDOW = (
    pair("kernel_size"),
    pair("stride"),
    pair("padding", "outputs that are cut off at both ends of each axis", low=0),
    pair("output_padding", "outputs that are added at the end of each axis; smaller than stride or dilation", low=0),
    pair("dilation"),
    GROUPS,
)
#: Of codes that are made by thresholds or by the unit quantizer, where they are what an operation is for.
THRESHOLDS = array(
    "thresholds",
    "float32 [C, 2^bits − 1]",
    FLOATS,
    "y is compared with them; see [codes](#codes)",
    "q = round(n·clip(y, 0, 1)), half to even",
)
DESCENDING = array(
    "descending",
    "bool [C]",
    ("bool",),
    "the channels in which q counts the thresholds that are not exceeded",
    "in none",
    "thresholds",
)


def code_stage(thresholds: str, values: tuple[str, ...], doc: str, beside: str = "bits") -> tuple[Key, ...]:
    """The keys of codes that may leave beside other tensors; the thresholds' dtype and shape, and what is compared."""
    by_thresholds = array("thresholds", thresholds, values, doc, THRESHOLDS.default, "codes")
    falling = array("descending", "bool [N]", ("bool",), DESCENDING.doc, DESCENDING.default, "thresholds")
    return leaves("codes", "q", beside), CODE_BITS, by_thresholds, falling


#: Of what gives floats, codes of them, or both.
FLOATS_AND_CODES = (
    leaves("float32", "y"),
    *code_stage("float32 [N, 2^bits − 1]", FLOATS, "y is compared with them; see [codes](#codes)"),
)


def norm(beside: str) -> tuple[Key, ...]:
    """Batch normalisation, as PyTorch computes it, and what it needs."""
    return (
        per_channel("norm_multiply", "y ← y·norm_multiply + norm_offset, one rounding", beside=beside or "norm_offset"),
        per_channel("norm_offset", "see norm_multiply", beside="norm_multiply"),
    )


def residual(beside: str) -> Key:
    """A tensor that is added."""
    doc = "of the result's shape: y ← y + residual"
    return Key("residual", "reads", "float32", FLOATS, default="nothing is added", beside=beside, doc=doc)


def scale_and_offset(doc: str, default: str) -> tuple[Key, ...]:
    """A factor and a term per channel."""
    return (
        per_channel("multiply", doc, default, "offset"),
        per_channel("offset", "see multiply", default, "multiply"),
    )


#: What may follow D, the exact sums.
INTEGER_STAGES = (
    *scale_and_offset("the float stage: y = float32(D)·multiply + offset, two roundings", "there is no y"),
    *norm("multiply"),
    residual("multiply"),
    flag("relu", "y ← max(y, 0); NaN and −0 stay", beside="multiply"),
    leaves("int32", "D"),
    leaves("float32", "y", "multiply"),
    *code_stage(
        "int32 or float32 [N, 2^bits − 1]",
        ("int32", "float32"),
        "D is compared with int32, y with float32; see [codes](#codes)",
    ),
)
#: What may follow sums of floats.
FLOAT_STAGES = (
    *scale_and_offset("y ← y·multiply + offset, two roundings", "y are the sums"),
    *norm(""),
    residual(""),
    flag("relu", "y ← max(y, 0); NaN and −0 stay"),
    *FLOATS_AND_CODES,
)
WEIGHT_GRID = choice(
    "weight_grid",
    (
        Choice("odd", "the odd integers −n … n, n = 2^weight_bits − 1"),
        Choice("signed", "−2^(weight_bits − 1) … 2^(weight_bits − 1) − 1"),
    ),
    "the weight codes",
    '"odd"',
)
#: What the codes of a low-bit layer stand for.
MEANING = (
    WEIGHT_GRID,
    flag("sign_activations", "the codes 0 and 1 of a 1-bit input mean −1 and +1"),
    Key(
        "zero_point",
        "setting",
        "an integer, up to 2^bits − 1 of the input",
        low=0,
        default="0",
        doc="the code that means 0; 0 beside sign_activations",
    ),
)
PACKED = array(
    "weight",
    "uint8 [N, ⌈K·weight_bits / 8⌉]",
    ("uint8",),
    "packed weight codes, K for each of the N channels of the result; see [packed weights](runtime.md#packed-weights)",
)
#: Of linear layers whose inputs share a scale in groups.
GROUP_SCALES = (
    array("scale", "float32 [N, G]", FLOATS, "of each group of F/G inputs of an output channel; G divides F"),
    array("bias", "float32 [N]", FLOATS, "is added", default="nothing is added"),
)
OUT_CHANNELS = Key("out_channels", "setting", "an integer", low=1, high=MOST_CHANNELS, doc="N")
#: Of float weights, which say it themselves.
OUT_CHANNELS_AGAIN = Key(
    "out_channels", "setting", "an integer", low=1, high=MOST_CHANNELS, default="that of weight", doc="N"
)
