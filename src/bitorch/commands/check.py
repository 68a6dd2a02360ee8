"""`bitorch check`."""

from __future__ import annotations

from .console import FAILED, print_error


def run(arguments: list[str]) -> int:
    """Run the first training batch through the net and print what was found."""
    from .arguments import parse_check

    try:
        settings, checkpoint = parse_check(arguments)
        # Only here: Lightning takes seconds to import, for which --help and a wrong flag need not wait.
        from ..batches import read_batch
        from ..checking.check import check
        from ..train.assemble import assemble, train_loader
        from ..train.run_data import floats

        parts = assemble(settings, of=checkpoint)
        batch = floats(next(iter(train_loader(parts.dataset, settings))))
        read = read_batch(batch, parts.model, "the first training batch", pixels=True)
        result = check(parts.model, batch, parts.task.checked_loss)
    except (ValueError, TypeError, OSError, ImportError) as error:
        return print_error(error)
    samples = "images" if parts.task.prediction == "classes" else "samples"
    print(f"{settings.name}, a batch of {len(read)} {samples}: {result}")
    return 0 if result else FAILED
