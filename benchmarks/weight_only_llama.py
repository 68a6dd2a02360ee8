"""llama.cpp's kernels on layers of low-bit codes, through the library that the package llama_cpp brings."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bitorch.hub.gguf_files.blocks import BLOCK_TYPES, block_type, packed

Array: TypeAlias = NDArray[Any]

#: Of ggml's types.
_NUMBERS = {"F32": 0, "Q4_0": 2, "Q5_0": 6, "Q8_0": 8, "TQ2_0": 35}
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "ggml_new_tensor_2d": (c_void_p, [c_void_p, c_int, c_int64, c_int64]),
    "ggml_mul_mat": (c_void_p, [c_void_p, c_void_p, c_void_p]),
    "ggml_new_graph": (c_void_p, [c_void_p]),
    "ggml_build_forward_expand": (None, [c_void_p, c_void_p]),
    "ggml_cpu_has_avx2": (c_int, []),
    "ggml_backend_cpu_init": (c_void_p, []),
    "ggml_backend_cpu_set_n_threads": (None, [c_void_p, c_int]),
    "ggml_backend_cpu_reg": (c_void_p, []),
    "ggml_backend_cpu_buffer_type": (c_void_p, []),
    "ggml_backend_reg_dev_get": (c_void_p, [c_void_p, c_size_t]),
    "ggml_backend_reg_get_proc_address": (c_void_p, [c_void_p, c_char_p]),
    "ggml_backend_buft_name": (c_char_p, [c_void_p]),
    "ggml_backend_alloc_ctx_tensors_from_buft": (c_void_p, [c_void_p, c_void_p]),
    "ggml_backend_tensor_set": (None, [c_void_p, c_void_p, c_size_t, c_size_t]),
    "ggml_backend_tensor_get": (None, [c_void_p, c_void_p, c_size_t, c_size_t]),
    "ggml_backend_graph_compute": (c_int, [c_void_p, c_void_p]),
}


#: For what it logs, which goes nowhere; ctypes keeps no reference.
_SILENT = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)(lambda level, text, data: None)


class LlamaLayers(NamedTuple):
    """Layers in ggml: their name, float32 [rows, K] to [rows, N], and bytes of one layer's weights."""

    name: str
    call: Callable[[Array], Array]
    nbytes: int


class _Parameters(Structure):
    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


def is_installed() -> bool:
    return find_spec("llama_cpp") is not None


def group_of(bits: int) -> int:
    """Return the inputs that share a scale in the type for signed codes of so many bits."""
    return next(kind.size for kind in BLOCK_TYPES if 2 ** (bits - 1) - 1 <= kind.high)


def layers_of_llama(codes: Sequence[Array], scales: Sequence[Array], rows: int, threads: int) -> LlamaLayers:
    """Return layers that follow one another in one graph, their weights laid out as llama.cpp does on this machine.

    Args:
        codes: int8 [N, K], of each layer.
        scales: float16 [N, groups].
        rows: of the input.
    """
    ggml = _library()
    kind = block_type(min(map(np.min, codes)), max(map(np.max, codes)), codes[0].shape[1] // scales[0].shape[1])
    assert kind is not None, "no type of ggml has these codes"
    blocks = [packed(kind, code, scale) for code, scale in zip(codes, scales, strict=True)]
    stored, computed = (ggml.ggml_init(_Parameters(1 << 20, None, True)) for _ in range(2))
    weights = [ggml.ggml_new_tensor_2d(stored, _NUMBERS[kind.name], code.shape[1], len(code)) for code in codes]
    plain = ggml.ggml_backend_cpu_buffer_type()
    is_laid_out = kind.name == "Q4_0" and ggml.ggml_cpu_has_avx2() and len(codes[0]) % 8 == 0
    where = _buffer_for_kernels(ggml) if is_laid_out else None
    ggml.ggml_backend_alloc_ctx_tensors_from_buft(stored, plain if where is None else where)
    for weight, block in zip(weights, blocks, strict=True):
        ggml.ggml_backend_tensor_set(weight, block.ctypes.data, 0, block.nbytes)
    inputs = ggml.ggml_new_tensor_2d(computed, _NUMBERS["F32"], codes[0].shape[1], rows)
    output = inputs
    for weight in weights:
        output = ggml.ggml_mul_mat(computed, weight, output)
    graph = ggml.ggml_new_graph(computed)
    ggml.ggml_build_forward_expand(graph, output)
    ggml.ggml_backend_alloc_ctx_tensors_from_buft(computed, plain)
    backend = ggml.ggml_backend_cpu_init()
    ggml.ggml_backend_cpu_set_n_threads(backend, threads)

    def call(x: Array) -> Array:
        ggml.ggml_backend_tensor_set(inputs, x.ctypes.data, 0, x.nbytes)
        assert ggml.ggml_backend_graph_compute(backend, graph) == 0
        y = np.empty((rows, len(codes[-1])), np.float32)
        ggml.ggml_backend_tensor_get(output, y.ctypes.data, 0, y.nbytes)
        return y

    layout = "" if where is None else f", {ggml.ggml_backend_buft_name(where).decode()}"
    return LlamaLayers(
        f"llama.cpp of llama-cpp-python {version('llama_cpp_python')} {kind.name}{layout}", call, blocks[0].nbytes
    )


def _library() -> Any:
    spec = find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "lib"
    libraries = [
        ctypes.CDLL(str(folder / f"lib{name}.so"), ctypes.RTLD_GLOBAL) for name in ("ggml-base", "ggml-cpu", "ggml")
    ]
    ggml = libraries[-1]  # which gives the names of those that it needs
    ggml.ggml_init.restype, ggml.ggml_init.argtypes = c_void_p, [_Parameters]
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(ggml, name)
        function.restype, function.argtypes = result, arguments
    ggml.ggml_log_set(_SILENT, c_void_p(None))
    return ggml


def _buffer_for_kernels(ggml: Any) -> int | None:
    """Return the type of buffer that lays weights out for the CPU's kernels, which llama.cpp prefers; None without."""
    registry = ggml.ggml_backend_cpu_reg()
    address = ggml.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
    find = ctypes.CFUNCTYPE(POINTER(c_void_p), c_void_p)(address)
    found: int | None = find(ggml.ggml_backend_reg_dev_get(registry, 0))[0]
    return found
