"""`bitorch check`."""

from __future__ import annotations

from .console import FAILED, print_error


def run(arguments: list[str]) -> int:
    """Run the first training batch through the net and print what was found."""
    from .arguments import parse_check

    try:
        settings, checkpoint = parse_check(arguments)
        # Only here: Lightning takes seconds to import, for which --help and a wrong flag need not wait.
        from torch import nn

        from ..checking.check import check
        from ..train.assemble import assemble, train_loader

        parts = assemble(settings, of=checkpoint)
    except (ValueError, TypeError, OSError, ImportError) as error:
        return print_error(error)
    images, labels = next(iter(train_loader(parts.dataset, settings)))
    smoothing = settings.label_smoothing
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing) if smoothing else None
    result = check(parts.model, (images, labels), loss)
    print(f"{settings.name}, a batch of {len(images)} images: {result}")
    return 0 if result else FAILED
