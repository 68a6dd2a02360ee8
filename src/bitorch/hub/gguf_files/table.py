"""What `save_gguf` has written, tensor by tensor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...text_table import aligned, ruled


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of a GGUF file.

    Attributes:
        name: in the file, "blk.0.attn_q.weight".
        source: in the model, "model.layers.0.self_attn.q_proj.weight".
        type: "TQ2_0", "Q4_0", "Q5_0" or "Q8_0" of codes in blocks; "F32" or "F16".
        shape: outputs first.
        nbytes: in the file.
        difference: the largest difference of a value from the model's, as a share of that.
        note: why it is floats; "" of codes.
    """

    name: str
    source: str
    type: str
    shape: tuple[int, ...]
    nbytes: int
    difference: float
    note: str


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file that was written. Printing it shows a table of its matrices, and what vectors and all take.

    Attributes:
        path: of the file.
        architecture: as llama.cpp calls it.
        tensors: in the order of the file.
    """

    path: Path
    architecture: str
    tensors: tuple[GgufTensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def __str__(self) -> str:
        heading = ("tensor", "of", "shape", "type", "bytes", "difference", "note")
        matrices = [tensor for tensor in self.tensors if len(tensor.shape) > 1]
        lines = ruled(aligned([heading, *map(_cells, matrices)], right=(4, 5)))
        vectors = sum(tensor.nbytes for tensor in self.tensors if len(tensor.shape) == 1)
        coded = sum(tensor.nbytes for tensor in matrices if not tensor.note)
        parts = [
            f"{coded:,} of codes",
            f"{self.nbytes - coded - vectors:,} of floats",
            f"{vectors:,} of vectors in F32",
        ]
        none = "" if coded else "; no layer is low-bit"
        return f"{lines}\n{self.path}, {self.architecture}: {self.nbytes:,} bytes ({', '.join(parts)}){none}"


def _cells(tensor: GgufTensor) -> tuple[str, ...]:
    shape = "×".join(map(str, tensor.shape))
    difference = f"{tensor.difference:.1e}" if tensor.difference else "0"
    return tensor.name, tensor.source, shape, tensor.type, f"{tensor.nbytes:,}", difference, tensor.note
