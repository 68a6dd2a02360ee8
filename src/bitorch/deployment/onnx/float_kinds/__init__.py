"""What a node of a float kind is in ONNX's own operators: every kind of the captured graph that multiplies no codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from ...graph.graph import Node
from ..writer import Writer
from . import elementwise, functions, layers, matrices, moves, norms, pairs, pools, resizes
from .call import Call, Shape

_ONE_OPERATOR = {
    "relu": "Relu",
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "erf": "Erf",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "reciprocal": "Reciprocal",
    "abs": "Abs",
}
_PAIRS = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "minimum": "Min", "maximum": "Max"}

#: What writes each kind.
_WRITERS: Mapping[str, Callable[[Call], str]] = MappingProxyType(
    {
        **{kind: elementwise.operator(op_type) for kind, op_type in _ONE_OPERATOR.items()},
        **{kind: pairs.pair(op_type) for kind, op_type in _PAIRS.items()},
        "plus": elementwise.with_constant("Add", "constant"),
        "times": elementwise.with_constant("Mul", "constant"),
        "divide": elementwise.with_constant("Div", "constant"),
        "scale": elementwise.with_constant("Mul", "scale"),
        "batch_norm": elementwise.batch_norm,
        "sign": elementwise.sign,
        "clamp": elementwise.clamp,
        "leaky_relu": elementwise.leaky_relu,
        "hardswish": elementwise.hardswish,
        "hardsigmoid": elementwise.hardsigmoid,
        "rsqrt": elementwise.rsqrt,
        "softsign": elementwise.softsign,
        "threshold": elementwise.threshold,
        "hardshrink": elementwise.hardshrink,
        "softshrink": elementwise.softshrink,
        "softmax": elementwise.softmax,
        "elu": functions.elu,
        "celu": functions.celu,
        "logsigmoid": functions.logsigmoid,
        "softplus": functions.softplus,
        "mish": functions.mish,
        "silu": functions.silu,
        "gelu": functions.gelu,
        "gelu_tanh": functions.gelu_tanh,
        "where": pairs.where,
        "constant": pairs.constant,
        "concat": pairs.concat,
        "embedding": pairs.embedding,
        "conv": layers.conv,
        "linear": layers.linear,
        "weight_only": layers.weight_only,
        "matmul": matrices.matmul,
        "attention": matrices.attention,
        "max_pool": pools.max_pool,
        "avg_pool": pools.avg_pool,
        "global_avg_pool": pools.global_avg_pool,
        "adaptive_avg_pool": pools.adaptive_avg_pool,
        "adaptive_max_pool": pools.adaptive_max_pool,
        "normalize": norms.normalize,
        "reduce": norms.reduce,
        "extreme": norms.reduce,
        "place": norms.place,
        "nearest": resizes.nearest,
        "resize": resizes.resize,
        "identity": moves.identity,
        "flatten": moves.flatten,
        "select": moves.select,
        "take": moves.take,
        "reshape": moves.reshape,
        "permute": moves.permute,
        "pad": moves.pad,
    }
)


def what_is_missing(node: Node) -> str | None:
    """Return, in a few words, why `write_float` cannot write a node; None if it can.

    It stands behind the node's place in a message: "no stock operator takes a pad of mode 'x'".
    """
    if node.kind not in _WRITERS:
        return f"no stock operator computes {node.kind!r}"
    return None


def write_float(
    writer: Writer, node: Node, inputs: Sequence[str], shapes: Sequence[Shape], *, exact: bool = True
) -> str:
    """Write one node of which `what_is_missing` is None.

    Args:
        writer: takes the operators.
        inputs: the values of its inputs, float32 [batch, C, *rows]; moves, max-pools and their like take any dtype, and
            embeddings take indices.
        shapes: of these, without the batch.
        exact: where its kind is `exact`, the operators give PyTorch's bits; False takes those that more tools know,
            such as BatchNormalization and AveragePool, whose last bits may differ; those of other kinds are free.

    Returns:
        The value, float32 [batch, *node.shape], or [1, *node.shape] of a constant; int32 of a place.
    """
    with writer.inside(node.name):
        return _WRITERS[node.kind](Call(writer, node, tuple(inputs), tuple(shapes), exact))
