"""The settings of a run in groups, as `--help` shows them: each field stands in exactly one."""

from __future__ import annotations

#: By name of a group: what it is about, and its fields. A group is what `--help GROUP` names.
GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "data": (
        "which images, where they are, how large, and how they are read",
        (
            "data", "folder", "image_size", "pad_to", "channels", "crop_share", "mean", "std", "val_share",
            "split_seed", "broken", "workers", "cache", "extra", "shards", "val_shards", "shuffle_buffer", "fake",
        ),
    ),
    "model": (
        "which net, and which weights it starts from",
        ("model", "width", "init", "weights", "new_head", "sum_channels"),
    ),
    "bits": (
        "bits, methods and ranges of weights, activations and gradients",
        (
            "bits", "first", "last", "range", "learned_by", "weights_method", "activations", "weight_scale",
            "group_size", "scale", "sign", "pad_value", "gradients", "calibration", "percentile", "calibration_batches",
            "rules", "warm_start", "warm_start_epochs", "exact",
        ),
    ),
    "training": (
        "epochs, optimizer, schedule, loss, teacher",
        (
            "epochs", "batch_size", "optimizer", "lr", "momentum", "nesterov", "eps", "weight_decay", "schedule",
            "schedule_every", "milestones", "gamma", "warmup_epochs", "label_smoothing", "loss", "metric",
            "ignore_index", "distil", "distil_model", "distil_weight", "distil_temperature", "seed", "out", "resume",
        ),
    ),
    "augmentation": (
        "what is done to training images",
        ("shift", "flip", "pad_crop", "crop_scale", "color_jitter", "randaugment"),
    ),
    "hardware": (
        "what it is computed on, and how exactly",
        (
            "precision", "kernels", "evaluation", "fuse", "accelerator", "devices", "num_nodes", "strategy", "timeout",
            "deterministic",
        ),
    ),
}  # fmt: skip

#: What the first page shows: enough for a run on images of one's own.
FIRST = (
    "data", "folder", "image_size", "model", "bits", "epochs", "batch_size", "lr", "flip", "distil", "init",
    "accelerator", "seed", "out", "resume",
)  # fmt: skip
