"""What a packed net and an ONNX file have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from .runtime.packed_model import TensorSpec


class DeployedNet(Protocol):
    """A net that was made of a model, from torch tensors to torch tensors; the attributes are those of PackedModel."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def class_names(self) -> tuple[str, ...] | None: ...

    @property
    def preprocessing(self) -> dict[str, Any] | None: ...

    @property
    def provenance(self) -> dict[str, Any] | None: ...

    @property
    def sizes(self) -> Sequence[Sequence[tuple[int, int]]]: ...

    @property
    def smallest_shapes(self) -> list[tuple[int, ...]]: ...

    def __call__(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]: ...
