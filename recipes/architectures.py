"""Networks of timm and torchvision: does each convert, load, train and deploy? One table, written into docs/.

Random weights, images and labels; three steps of Adam. What it shows is that each network goes all the way, not how
well it does there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from architectures_table import page, row
from architectures_trial import Architecture, Bits, Trial, attempt
from bitorch.atomic_file import write_text
from recipe import run

BITS: tuple[Bits, ...] = ((1, 2, 6), (2, 2, 32), (4, 4, 32))

ARCHITECTURES = (
    Architecture("torchvision:resnet18", 64),
    Architecture("timm:resnext26ts", 64),
    Architecture("timm:vgg11_bn", 64, options={"mlp_ratio": 1 / 16}),
    Architecture("torchvision:densenet121", 64),
    Architecture("torchvision:mobilenet_v2", 64),
    Architecture("torchvision:mobilenet_v3_small", 64),
    Architecture("torchvision:mnasnet0_5", 64),
    Architecture("torchvision:efficientnet_b0", 64),
    Architecture("torchvision:shufflenet_v2_x0_5", 64),
    Architecture("torchvision:squeezenet1_1", 64),
    Architecture("torchvision:regnet_y_400mf", 64),
    Architecture("torchvision:googlenet", 64),
    Architecture("torchvision:inception_v3", 96),
    Architecture("timm:ghostnet_050", 64),
    Architecture("timm:convnext_atto", 64),
    Architecture("timm:vit_tiny_patch16_224", 64, options={"img_size": 64}),
    Architecture(
        "timm:swin_tiny_patch4_window7_224",
        64,
        options={
            "img_size": 64,
            "window_size": 2,
            "embed_dim": 32,
            "depths": (2, 2, 2, 2),
            "num_heads": (1, 2, 4, 8),
        },
    ),
    Architecture("timm:mixer_s32_224", 64, options={"img_size": 64}),
    Architecture("timm:deit_tiny_distilled_patch16_224", 64, options={"img_size": 64}),
    Architecture("timm:gmixer_24_224", 64, options={"img_size": 64}),
    Architecture("timm:resmlp_12_224", 64, options={"img_size": 64}),
    Architecture("timm:poolformer_s12", 64),
    Architecture("timm:levit_128s", 64, options={"img_size": 64}),
    Architecture("timm:mobilevit_xxs", 64),
    Architecture("timm:efficientvit_b0", 64),
    Architecture("timm:efficientvit_m0", 64),
)


@dataclass(frozen=True)
class Options:
    """Convert, train and deploy networks of timm and torchvision at W1A2G6, W2A2 and W4A4."""

    names: tuple[str, ...] = ()
    """Names as in the table, "torchvision:resnet18"; none: all of them."""
    docs: Path | None = None
    """Markdown file to write the table to."""
    seed: int = 0
    """Of weights, images and labels."""


def main(options: Options) -> None:
    console = Console()
    tried: list[tuple[Architecture, dict[Bits, Trial]]] = []
    for architecture in chosen(options.names):
        trials = {bits: attempt(architecture, bits, options.seed) for bits in BITS}
        tried.append((architecture, trials))
        console.print(" | ".join(row(architecture, trials)), markup=False, highlight=False, soft_wrap=True)
    if options.docs is not None:
        write_text(options.docs, page(tried))


def chosen(names: Sequence[str]) -> list[Architecture]:
    """Return the architectures with these names, or all of them; ValueError for one that is not there."""
    known = {architecture.name: architecture for architecture in ARCHITECTURES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown names {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(ARCHITECTURES)


if __name__ == "__main__":
    run(main, Options)
