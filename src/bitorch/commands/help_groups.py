"""The settings of a run in groups, as `--help` shows them: each field stands in exactly one."""

from __future__ import annotations

#: By name of a group: what it is about, and its fields. A group is what `--help GROUP` names.
GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "data": (
        "which images, where they are, and how large",
        ("data", "folder", "pad_to"),
    ),
    "model": (
        "which net, and which weights it starts from",
        ("model", "width", "init", "weights", "new_head", "sum_channels"),
    ),
    "bits": (
        "bits, methods and ranges of weights, activations and gradients",
        (
            "bits", "first", "last", "range", "learned_by", "weights_method", "activations", "weight_scale", "sign",
            "pad_value", "gradients", "calibration", "percentile", "calibration_batches", "rules", "warm_start",
            "warm_start_epochs", "exact",
        ),
    ),
    "training": (
        "epochs, optimizer, schedule, loss, teacher",
        (
            "epochs", "batch_size", "optimizer", "lr", "momentum", "nesterov", "eps", "weight_decay", "schedule",
            "schedule_every", "milestones", "gamma", "warmup_epochs", "label_smoothing", "loss", "metric",
            "ignore_index", "distil", "distil_weight",
            "distil_temperature", "seed", "out", "resume",
        ),
    ),
    "augmentation": (
        "what is done to training images",
        ("shift", "flip", "pad_crop"),
    ),
    "hardware": (
        "what it is computed on, and how exactly",
        ("precision", "accelerator", "devices", "num_nodes", "deterministic"),
    ),
}  # fmt: skip

#: What the first page shows: enough for a run on images of one's own.
FIRST = (
    "data", "folder", "model", "bits", "epochs", "batch_size", "lr", "flip", "distil", "init", "accelerator", "seed",
    "out", "resume",
)  # fmt: skip
