"""Layers that let everything pass, and show now and then what passes, or a weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .config import config
from .low_bit import WeightQuantized

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


class _Showing(nn.Module):
    """Base: when something is shown. A subclass says what, by `show`."""

    def __init__(self, debug_interval: int, num_outputs: int) -> None:
        super().__init__()
        for argument, value in (("debug_interval", debug_interval), ("num_outputs", num_outputs)):
            if value < 1:
                raise ValueError(f"{argument} must be at least 1, got {value}")
        self.debug_interval = debug_interval
        self.num_outputs = num_outputs
        #: Calls of forward while debugging was on.
        self.calls = 0

    def _is_its_turn(self) -> bool:
        if not config.debug_activated:  # counting as well would compile code anew at every call
            return False
        self.calls += 1
        return (self.calls - 1) % self.debug_interval == 0

    def show(self, x: Tensor) -> None:
        """Show a tensor, any shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} does not define show(x)")


class InputDebug(_Showing):
    """Base of the layers that show what passes: the first call, and then every `debug_interval`-th.

    They do so while `bitorch.layers.config.config.debug_activated` is True, and in a deployed net they are nothing. A
    subclass of your own defines `show`.

    Args:
        debug_interval, num_outputs: at least 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x, any shape and dtype."""
        if self._is_its_turn():
            self.show(x.detach())
        return x


class WeightDebug(_Showing):
    """Base of the layers that show the weight of the module that they call; otherwise as InputDebug.

    It is shown as the module's `quantize`, or a low-bit layer's quantizer, makes it; of others as it is.

    Args:
        module: any module with a `weight`, such as a QLinear.

    Raises:
        TypeError: it has none.
    """

    def __init__(self, module: nn.Module, debug_interval: int, num_outputs: int) -> None:
        super().__init__(debug_interval, num_outputs)
        if not isinstance(getattr(module, "weight", None), Tensor):
            raise TypeError(f"module must be a module with a weight, such as a QLinear, got {module!r}")
        self.module = module

    def forward(self, *args: object, **kwargs: object) -> object:
        """Return what the module gives for the arguments."""
        if self._is_its_turn():
            weight = getattr(self.module, "weight", None)
            if isinstance(weight, Tensor):  # a layer that was packed since has none
                with torch.no_grad():
                    self.show(self._quantized(weight))
        return self.module(*args, **kwargs)

    def _quantized(self, weight: Tensor) -> Tensor:
        quantize = getattr(self.module, "quantize", None)
        if quantize is None and isinstance(self.module, WeightQuantized):
            quantize = self.module.weight_quantization
        shown: Tensor = weight if quantize is None else quantize(weight)
        return shown.detach()


def _print_values(name: str, x: Tensor, count: int) -> None:
    print(f"{name}: {x.flatten()[:count].tolist()}")


class InputPrintDebug(InputDebug):
    """Print the first numbers of what passes, behind a name; see InputDebug for when.

    Args:
        debug_interval: calls from one print to the next.
        num_outputs: how many numbers.
        name: what stands in front of them.
    """

    def __init__(self, debug_interval: int = 100, num_outputs: int = 10, name: str = "Debug") -> None:
        super().__init__(debug_interval, num_outputs)
        self.name = name

    def show(self, x: Tensor) -> None:
        _print_values(self.name, x, self.num_outputs)


class ShapePrintDebug(InputDebug):
    """Print the shape of what passes, behind a name; the arguments are those of InputPrintDebug."""

    def __init__(self, debug_interval: int = 100, num_outputs: int = 10, name: str = "Debug") -> None:
        super().__init__(debug_interval, num_outputs)
        self.name = name

    def show(self, x: Tensor) -> None:
        print(f"{self.name}: {list(x.shape)}")


class WeightPrintDebug(WeightDebug):
    """Print the first numbers of a module's weight when it is called; see WeightDebug and InputPrintDebug."""

    def __init__(
        self, module: nn.Module, debug_interval: int = 100, num_outputs: int = 10, name: str = "Debug"
    ) -> None:
        super().__init__(module, debug_interval, num_outputs)
        self.name = name

    def show(self, x: Tensor) -> None:
        _print_values(self.name, x, self.num_outputs)


class _Drawing:
    """Mixin of what draws: a figure, and an image in it for each output."""

    num_outputs: int
    figure: Figure | None
    images: list[AxesImage] | None

    def _draw_on(self, figure: Figure | None, images: Sequence[AxesImage] | None) -> None:
        self.figure = figure
        self.images = None
        if images is not None:
            self.set_images(images)

    def set_figure(self, figure: Figure) -> None:
        """Take a figure of matplotlib, whose canvas is drawn anew each time."""
        self.figure = figure

    def set_images(self, images: Sequence[AxesImage]) -> None:
        """Take the images in the figure, what `Axes.imshow` returns; as many as num_outputs, else a ValueError.

        They get numbers from 0 to 1.
        """
        if len(images) != self.num_outputs:
            raise ValueError(f"images must be as many as num_outputs, {self.num_outputs}, got {len(images)}")
        self.images = list(images)

    def open_figure(self) -> Figure:
        """Make a figure with num_outputs images, take both, and return it. Needs matplotlib."""
        try:
            from matplotlib import pyplot
        except ModuleNotFoundError as error:
            raise ImportError(
                'a figure needs matplotlib: pip install ".[plots]" in a checkout of bitorch', name=error.name
            ) from error
        figure, axes = pyplot.subplots(1, self.num_outputs, squeeze=False)
        self.set_figure(figure)
        self.set_images([ax.imshow([[0.0]], vmin=0, vmax=1, cmap="gray") for ax in axes[0]])
        return figure

    def show(self, x: Tensor) -> None:
        """Draw the first maps of a tensor, those of its last two dimensions, each from its least to its largest number.

        Raises:
            ValueError: there is no figure, or there are no images.
        """
        if self.figure is None or self.images is None:
            missing = "figure" if self.figure is None else "images"
            raise ValueError(f"{type(self).__name__} has no {missing}; set them, or call open_figure()")
        maps = x.reshape(-1, *torch.atleast_2d(x).shape[-2:])
        for image, one in zip(self.images, maps, strict=False):  # of fewer maps the other images stay
            image.set_data(_from_zero_to_one(one.float()).cpu().numpy())
        self.figure.canvas.draw()


def _from_zero_to_one(x: Tensor) -> Tensor:
    low, high = x.aminmax()
    return (x - low) / (high - low) if high > low else torch.zeros_like(x)


class InputGraphicalDebug(_Drawing, InputDebug):
    """Draw the first maps of what passes; see InputDebug for when.

    Args:
        figure: of matplotlib; None until `set_figure`, or `open_figure`, which makes one.
        images: in the figure, num_outputs of them, as `Axes.imshow` returns; None until `set_images`.
        debug_interval: calls from one drawing to the next.
        num_outputs: how many maps.

    Raises:
        ValueError: another number of images than num_outputs; in forward: no figure or no images.
    """

    def __init__(
        self,
        figure: Figure | None = None,
        images: Sequence[AxesImage] | None = None,
        debug_interval: int = 100,
        num_outputs: int = 10,
    ) -> None:
        super().__init__(debug_interval, num_outputs)
        self._draw_on(figure, images)


class WeightGraphicalDebug(_Drawing, WeightDebug):
    """Draw the first filters of a module's weight when it is called; see WeightDebug and InputGraphicalDebug."""

    def __init__(
        self,
        module: nn.Module,
        figure: Figure | None = None,
        images: Sequence[AxesImage] | None = None,
        debug_interval: int = 100,
        num_outputs: int = 10,
    ) -> None:
        super().__init__(module, debug_interval, num_outputs)
        self._draw_on(figure, images)
