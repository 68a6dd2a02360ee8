"""What DenseNet and MeliusNet share beyond their layers: sizes by name, arguments and options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .base import Model, NoArgparseArgsMixin
from .blocks import check_counts
from .common_layers import IMAGENET_INPUT_SHAPE, image_of
from .dense_layers import DOWNSAMPLE_STRUCTURE, BaseNetDense, BlockMaker, DenseSettings


@dataclass(frozen=True)
class DenseSize:
    """Layers of each block, factors that the transitions divide channels by, and what transitions are made of."""

    block_config: tuple[int, ...]
    reductions: tuple[float, ...]
    downsample_structure: str = DOWNSAMPLE_STRUCTURE


class DenseModel(Model):
    """What DenseNet and MeliusNet share; a subclass says its sizes, its blocks and its stem for large images."""

    _sizes: ClassVar[Mapping[str, DenseSize]]
    _flex_reductions: ClassVar[tuple[float, ...]] = (2, 2, 2)
    _large_stem: ClassVar[str] = "imagenet"
    _block: ClassVar[BlockMaker]

    def __init__(
        self,
        num_layers: int | str | None,
        input_shape: Sequence[int],
        num_classes: int = 0,
        num_init_features: int = 64,
        growth_rate: int = 64,
        bn_size: int = 0,
        dropout: float = 0,
        dilated: bool = False,
        flex_block_config: Sequence[int] | None = None,
        reduction: Sequence[float] | None = None,
        downsample_structure: str | None = None,
    ) -> None:
        super().__init__(input_shape, num_classes)
        image_channels, resolution = image_of(self._input_shape)
        size = self._size(num_layers, flex_block_config)
        settings = DenseSettings(
            size.block_config,
            size.reductions if reduction is None else tuple(reduction),
            num_init_features,
            growth_rate,
            bn_size,
            dropout,
            dilated,
            size.downsample_structure if downsample_structure is None else downsample_structure,
        )
        stem = self._large_stem if resolution == IMAGENET_INPUT_SHAPE[-2:] else "small"
        self._model = BaseNetDense(settings, type(self)._block, stem, image_channels, num_classes)

    @classmethod
    def _size(cls, num_layers: int | str | None, flex_block_config: Sequence[int] | None) -> DenseSize:
        if num_layers is None:
            if flex_block_config is None or len(flex_block_config) != len(cls._flex_reductions) + 1:
                raise ValueError(
                    f"flex_block_config must be a list of {len(cls._flex_reductions) + 1} numbers of layers where "
                    f"num_layers is None, got {flex_block_config!r}"
                )
            check_counts(**{f"flex_block_config[{i}]": count for i, count in enumerate(flex_block_config)})
            return DenseSize(tuple(flex_block_config), cls._flex_reductions)
        if flex_block_config is not None:
            raise ValueError(f"flex_block_config goes with num_layers=None, got num_layers={num_layers!r}")
        if str(num_layers).lower() not in cls._sizes:
            raise ValueError(f"num_layers must be None or one of {', '.join(cls._sizes)}, got {num_layers!r}")
        return cls._sizes[str(num_layers).lower()]

    @classmethod
    def _add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of a family that takes num_layers."""
        parser.add_argument("--num-layers", choices=tuple(cls._sizes), required=True, help="which of the sizes")
        _add_dense_arguments(parser)


class FixedDense(NoArgparseArgsMixin, DenseModel):
    """A net of dense blocks of one size, which a subclass says, in front of its family."""

    _num_layers: ClassVar[str]

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int = 0,
        num_init_features: int = 64,
        growth_rate: int = 64,
        bn_size: int = 0,
        dropout: float = 0,
        dilated: bool = False,
    ) -> None:
        super().__init__(
            self._num_layers, input_shape, num_classes, num_init_features, growth_rate, bn_size, dropout, dilated
        )


class FlexDense(DenseModel):
    """A net of dense blocks of any four sizes, in front of its family."""

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int = 0,
        num_init_features: int = 64,
        growth_rate: int = 64,
        bn_size: int = 0,
        dropout: float = 0,
        dilated: bool = False,
        flex_block_config: Sequence[int] | None = None,
        reduction: Sequence[float] | None = None,
        downsample_structure: str | None = None,
    ) -> None:
        super().__init__(
            None,
            input_shape,
            num_classes,
            num_init_features,
            growth_rate,
            bn_size,
            dropout,
            dilated,
            flex_block_config,
            reduction,
            downsample_structure,
        )

    @staticmethod
    def add_argparse_arguments(parser: argparse.ArgumentParser) -> None:
        """Add --block-config, which becomes flex_block_config, and the options that all sizes share."""
        parser.add_argument(
            "--block-config",
            type=_numbers_of(int),
            required=True,
            dest="flex_block_config",
            help="layers of each of the four blocks, as 6,6,6,5",
        )
        _add_dense_arguments(parser)


def _add_dense_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --reduction, --growth-rate, --init-features and --downsample-structure."""
    parser.add_argument(
        "--reduction", type=_numbers_of(float), help="factors of the transitions, as 2.7,2.7,2.2; none: the net's own"
    )
    parser.add_argument("--growth-rate", type=int, default=64, help="channels that each layer adds")
    parser.add_argument(
        "--init-features", type=int, default=64, dest="num_init_features", help="channels of the first layers"
    )
    parser.add_argument(
        "--downsample-structure", help=f"parts of a transition, as {DOWNSAMPLE_STRUCTURE}; none: the net's own"
    )


def _numbers_of(kind: type[int] | type[float]) -> Callable[[str], list[int] | list[float]]:
    """Return the argparse type of numbers with commas between."""

    def numbers(text: str) -> list[int] | list[float]:
        return [kind(number) for number in text.strip("[] ").split(",")]

    return numbers
