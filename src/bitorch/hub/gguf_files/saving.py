"""Writing a low-bit language model as a GGUF file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
from torch import nn

from ...atomic_file import takes_stream, write_and_rename
from ...deployment.partial.pack_layers import PartialDeployment
from .architectures import Settings, architecture_of
from .stored import Floats
from .table import GgufFile, GgufTensor
from .tensors import Named, check_layers, named_tensors
from .vocabulary import Vocabulary, vocabulary_of


def save_gguf(
    model: nn.Module, path: str | os.PathLike[str], *, tokenizer: Any = None, floats: Floats = "F32"
) -> GgufFile:
    """Write a low-bit language model of transformers into a GGUF file, which llama.cpp loads.

    The codes of each low-bit layer are written as they are, into the type with the fewest bits that holds them: TQ2_0
    (−1 … 1, blocks of 256 inputs), Q4_0 (−8 … 7), Q5_0 (−16 … 15) or Q8_0 (−128 … 127, blocks of 32). Scales become
    float16. A layer that none holds is written as floats of its quantized values. llama.cpp rounds activations to 8
    bits in blocks, so its logits are near the model's, not equal.

    Args:
        model: a LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM or GPT2LMHeadModel, whose low-bit layers leave
            activations as floats, or quantize them to 8 bits with `InputDynamic`.
        path: of the file; one that is there is replaced.
        tokenizer: that of the model, of transformers; byte-level BPE as GPT-2, SmolLM, Qwen2 or Llama 3 have it. None:
            the file takes token ids only.
        floats: "F32" or "F16", the type of matrices that are floats. Vectors are F32.

    Returns:
        A table of what was written: each tensor's type, bytes, and how far its values are from the model's.

    Raises:
        TypeError: a model or tokenizer that is none. ImportError: gguf or transformers is missing.
        ValueError: a model that llama.cpp would compute otherwise: another class, activations in other bits, settings
            or biases that it does not have; numbers that the types do not hold; a tokenizer of another kind.
        OSError: the file cannot be written.
    """
    if isinstance(model, PartialDeployment):
        raise TypeError("model is packed; pass the model that deploy(…, partial=True) was called with")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if floats not in ("F32", "F16"):
        raise ValueError(f'floats must be "F32" or "F16", got {floats!r}')
    gguf = _package()
    place = Path(path)
    takes_stream(place)  # raises where nothing can be written
    architecture, settings = architecture_of(model)
    check_layers(model)
    vocabulary = None if tokenizer is None else vocabulary_of(tokenizer, int(settings["vocab_size"]))
    kind = {text: number for number, text in gguf.MODEL_ARCH_NAMES.items()}[architecture.name]
    names = gguf.get_tensor_name_map(kind, settings["block_count"])
    tensors = list(named_tensors(model, architecture, names, floats))
    writer = gguf.GGUFWriter(None, architecture.name)
    _describe(writer, place.stem, settings, tensors)
    _add_vocabulary(writer, vocabulary)
    for name, _, stored in tensors:
        writer.add_tensor_info(
            name, stored.data.shape, stored.data.dtype, stored.data.nbytes, gguf.GGMLQuantizationType[stored.type]
        )
    write_and_rename(place, lambda file: _write(writer, file, tensors))
    return GgufFile(place, architecture.name, tuple(map(_row, tensors)))


def _package() -> Any:
    try:
        return import_module("gguf")
    except ModuleNotFoundError:
        raise ImportError('GGUF files need the package gguf: pip install "bitorch-lowbit[gguf]"') from None


def _describe(writer: Any, name: str, settings: Settings, tensors: Sequence[Named]) -> None:
    gguf = _package()
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    numbers: Counter[str] = Counter()
    for tensor in tensors:
        numbers[tensor.stored.type] += int(np.prod(tensor.stored.shape))
    (most, _), *_ = numbers.most_common()
    writer.add_file_type(gguf.LlamaFileType["ALL_F32" if most == "F32" else f"MOSTLY_{most}"])
    for key, value in settings.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(f"{writer.arch}.{key}", value)


def _add_vocabulary(writer: Any, vocabulary: Vocabulary | None) -> None:
    if vocabulary is None:
        writer.add_tokenizer_model("none")
        return
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    add_special = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
    }
    for name, number in vocabulary.special.items():
        add_special[name](number)
    writer.add_add_bos_token(vocabulary.adds_bos)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)


def _write(writer: Any, file: IO[bytes], tensors: Sequence[Named]) -> None:
    """Write all into an open file, which the writer would open by a name of its own."""
    gguf = _package()
    writer.fout, writer.state = [file], gguf.WriterState.EMPTY
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.write_padding(file, file.tell())
    for tensor in tensors:
        data = np.ascontiguousarray(tensor.stored.data)
        file.write(data.astype(data.dtype.newbyteorder("<"), copy=False).data)
        writer.write_padding(file, data.nbytes)


def _row(tensor: Named) -> GgufTensor:
    name, source, stored = tensor
    return GgufTensor(name, source, stored.type, stored.shape, stored.data.nbytes, stored.difference, stored.note)
