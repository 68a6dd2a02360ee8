"""What each function of PyTorch means: rules that make nodes of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import (
    attention,
    bounds,
    choosing,
    einsum,
    elementwise,
    embeddings,
    functions,
    joining,
    matrices,
    norms,
    pairs,
    reductions,
    resizes,
    windows,
)

Rule = Callable[..., str]
_torch: Any = torch  # of which the stubs do not know everything
_F: Any = F
_Tensor: Any = Tensor


def _named(names: str, *places: Any) -> Iterable[Any]:
    """Yield what stands under the names in each place, where it does."""
    for name in names.split():
        for place in places:
            if hasattr(place, name):
                yield getattr(place, name)


def _rules(table: dict[str, Rule]) -> dict[Any, Rule]:
    """Return the rules by function: of torch, torch.nn.functional and Tensor, also with an underscore behind."""
    rules: dict[Any, Rule] = {}
    for names, rule in table.items():
        for name in names.split():
            for function in _named(f"{name} {name}_", _torch, _F, _Tensor):
                rules[function] = rule
    return rules


#: Functions of single numbers without parameters whose kinds are called as they are.
_PLAIN = (
    *("hardswish", "hardsigmoid", "sigmoid", "tanh", "silu", "selu", "mish", "logsigmoid"),
    *("erf", "exp", "log", "sqrt", "rsqrt", "softsign"),
)

#: The same name means the same in torch, torch.nn.functional and Tensor, and so do their arguments.
RULES: dict[Any, Rule] = _rules(
    {
        "conv1d": windows.conv(1),
        "conv2d": windows.conv(2),
        "conv3d": windows.conv(3),
        "conv_transpose1d": windows.conv_transpose(1),
        "conv_transpose2d": windows.conv_transpose(2),
        "conv_transpose3d": windows.conv_transpose(3),
        "linear": windows.linear,
        "embedding": embeddings.embedding,
        "max_pool1d": windows.max_pool(1),
        "max_pool2d": windows.max_pool(2),
        "max_pool3d": windows.max_pool(3),
        "max_pool1d_with_indices": windows.max_pool(1),
        "max_pool2d_with_indices": windows.max_pool(2),
        "max_pool3d_with_indices": windows.max_pool(3),
        "avg_pool1d": windows.avg_pool(1),
        "avg_pool2d": windows.avg_pool(2),
        "avg_pool3d": windows.avg_pool(3),
        "adaptive_avg_pool1d": windows.adaptive_avg_pool(1),
        "adaptive_avg_pool2d": windows.adaptive_avg_pool(2),
        "adaptive_avg_pool3d": windows.adaptive_avg_pool(3),
        "adaptive_max_pool1d": windows.adaptive_max_pool(1),
        "adaptive_max_pool2d": windows.adaptive_max_pool(2),
        "adaptive_max_pool3d": windows.adaptive_max_pool(3),
        "adaptive_max_pool1d_with_indices": windows.adaptive_max_pool(1),
        "adaptive_max_pool2d_with_indices": windows.adaptive_max_pool(2),
        "adaptive_max_pool3d_with_indices": windows.adaptive_max_pool(3),
        "mean": reductions.mean,
        "sum": reductions.sum,
        "amax": reductions.amax,
        "amin": reductions.amin,
        "max": reductions.largest_or_maximum,
        "min": reductions.smallest_or_minimum,
        "argmax": reductions.argmax,
        "argmin": reductions.argmin,
        "var": reductions.var,
        "std": reductions.std,
        "norm": reductions.norm,
        "layer_norm": norms.layer_norm,
        "group_norm": norms.group_norm,
        "instance_norm": norms.instance_norm,
        "rms_norm": norms.rms_norm,
        "cat concat concatenate": joining.cat,
        "stack": joining.stack,
        "relu": elementwise.activation("relu"),
        "relu6": bounds.relu6,
        "hardtanh": bounds.hardtanh,
        "clamp clip": bounds.clamp,
        "clamp_min": bounds.clamp_min,
        "clamp_max": bounds.clamp_max,
        "minimum": bounds.minimum,
        "maximum": bounds.maximum,
        "leaky_relu": elementwise.leaky_relu,
        "prelu": elementwise.prelu,
        "elu": elementwise.elu,
        "gelu": elementwise.gelu,
        **{name: elementwise.activation(name) for name in _PLAIN},
        "abs __abs__ absolute": elementwise.activation("abs"),
        "sign sgn": elementwise.activation("sign"),
        "celu": functions.celu,
        "softplus": functions.softplus,
        "threshold": functions.threshold,
        "hardshrink": functions.hardshrink,
        "softshrink": functions.softshrink,
        "tanhshrink": functions.tanhshrink,
        "rrelu": functions.rrelu,
        "glu": functions.glu,
        "softmin": functions.softmin,
        "softmax": functions.softmax(log=False),
        "log_softmax": functions.softmax(log=True),
        "reciprocal": functions.reciprocal,
        "pow __pow__": functions.pow,
        "square": functions.square,
        "add __add__ __radd__ __iadd__": pairs.add,
        "sub subtract __sub__ __isub__": pairs.sub,
        "rsub __rsub__": pairs.rsub,
        "mul multiply __mul__ __rmul__ __imul__": pairs.mul,
        "div divide true_divide __truediv__ __itruediv__": pairs.div,
        "__rdiv__ __rtruediv__": functions.divided_by,
        "tril": choosing.tril,
        "triu": choosing.triu,
        "masked_fill": choosing.masked_fill,
        "neg negative __neg__": elementwise.neg,
        "addcmul": elementwise.addcmul,
        "matmul bmm mm __matmul__ __imatmul__": matrices.matmul,
        "__rmatmul__": matrices.rmatmul,
        "addmm": matrices.addmm,
        "einsum": einsum.einsum,
        "baddbmm": matrices.baddbmm,
        "scaled_dot_product_attention": attention.scaled_dot_product_attention,
    }
) | {
    F.batch_norm: elementwise.batch_norm,
    F.pad: joining.pad,
    _torch._C._nn.pad: joining.pad,
    F.normalize: norms.normalize,
    _torch.linalg.vector_norm: reductions.vector_norm,
    F.interpolate: resizes.interpolate,
    torch.where: choosing.where,
    Tensor.where: choosing.where_of,
}

#: Rules of functions where a constant may have a number for each image.
BROADCASTING = frozenset(
    {pairs.add, pairs.sub, pairs.rsub, pairs.mul, pairs.div, functions.divided_by, bounds.clamp, bounds.clamp_min}
    | {bounds.clamp_max, bounds.minimum, bounds.maximum, choosing.where, choosing.where_of, choosing.masked_fill}
    | {reductions.largest_or_maximum, reductions.smallest_or_minimum}
)

#: Further rules of functions whose constants have the axes of the result, or the last ones of them.
ALIGNED = frozenset({joining.cat, matrices.matmul, matrices.baddbmm, attention.scaled_dot_product_attention})

#: Rules of functions that are told their axes by letters.
SPELLED = frozenset({einsum.einsum})

#: Rules of functions that take the second axis as channels, however many there are behind it.
CHANNELS_SECOND = frozenset(
    {elementwise.batch_norm, elementwise.prelu, norms.group_norm, norms.instance_norm, resizes.interpolate}
) | frozenset(
    RULES[function]
    for kind in ("conv", "conv_transpose", "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")
    for dimensions in (1, 2, 3)
    for function in _named(f"{kind}{dimensions}d {kind}{dimensions}d_with_indices", _torch, _F)
    if function in RULES
)

#: Functions whose first argument is a tensor, and which only put its numbers elsewhere.
MOVEMENTS = frozenset(
    _named(
        "view view_as reshape reshape_as flatten unflatten squeeze unsqueeze transpose permute movedim moveaxis "
        "swapaxes swapdims t chunk split split_with_sizes tensor_split hsplit vsplit unbind narrow select index_select "
        "take_along_dim __getitem__ flip roll expand expand_as broadcast_to repeat tile repeat_interleave "
        "channel_shuffle native_channel_shuffle pixel_shuffle pixel_unshuffle ravel contiguous clone detach alias",
        _torch,
        _Tensor,
    )
) | {_Tensor.unfold, _Tensor.T.__get__, _Tensor.mT.__get__, _Tensor.data.__get__}


def is_nearest(function: Any, *args: Any, mode: str | None = None, **_: Any) -> bool:
    """Say whether a call is F.interpolate without arithmetic, which only puts numbers elsewhere."""
    given = mode if mode is not None else args[3] if len(args) > 3 else "nearest"
    return function is F.interpolate and given in ("nearest", "nearest-exact")


def nearest(positions: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """F.interpolate of int64 positions, which it does not take itself."""
    return F.interpolate(positions.double(), *args, **kwargs).long()


#: Functions that make one number of several; of one number they make the same.
REDUCTIONS = frozenset(_named("sum mean amax amin prod", _torch, _Tensor))


def is_movement(function: Any, *args: Any, **kwargs: Any) -> bool:
    """Say whether a call only puts the numbers of its first argument elsewhere."""
    if function in REDUCTIONS:
        return _is_of_ones(*args, **kwargs)
    return function in MOVEMENTS or function in CASTS or is_nearest(function, *args, **kwargs)


def _is_of_ones(input: Tensor, dim: Any = None, *_: Any, axis: Any = None, dtype: Any = None, **__: Any) -> bool:
    """Say whether a reduction takes dimensions of one number each."""
    dims = _dimensions(input, dim if axis is None else axis)
    return dtype is None and bool(dims) and all(d > 0 and input.shape[d] == 1 for d in dims)


def _dimensions(x: Tensor, dim: Any) -> list[int]:
    """The dimensions that are meant by an argument `dim`; [] where all are."""
    given = [] if dim is None else [dim] if isinstance(dim, int) else list(dim)
    return [d % x.dim() for d in given]


def without_ones(positions: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None, **_: Any) -> Tensor:
    """Do to positions what a reduction over dimensions of one number each does."""
    dims = tuple(_dimensions(positions, dim if axis is None else axis))
    return positions.clone() if keepdim else positions.squeeze(dims)


#: Functions that move nothing, and return the tensor itself or a copy where type and device are as they were.
CASTS = frozenset(_named("to type type_as float cpu requires_grad_", _Tensor))

#: Dropout, which does nothing outside training: then PyTorch returns the tensor itself.
DROPOUT = frozenset(
    _named("dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout", _F, _torch)
)

#: What they return depends on shapes and types only.
METADATA = frozenset(
    _named(
        "size dim ndimension numel nelement stride storage_offset element_size is_contiguous is_floating_point "
        "is_complex is_signed is_inference is_conj is_neg get_device data_ptr __len__ __repr__ __str__ __format__ "
        "__hash__ __dir__ is_nested has_names is_pinned is_shared type",
        _Tensor,
    )
) | frozenset(_named("is_floating_point is_complex is_tensor numel result_type can_cast is_conj is_neg", _torch))

#: New tensors that take nothing but a shape or type from the one they are given.
FACTORIES = frozenset(_named("new_zeros new_ones new_full new_empty new_tensor", _Tensor)) | frozenset(
    _named("zeros_like ones_like full_like empty_like", _torch)
)
