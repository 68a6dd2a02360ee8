"""One batch through a copy of a model before training, and what will go wrong; `bitorch.check` is the way in."""
