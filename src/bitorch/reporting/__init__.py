"""What a model costs, layer by layer. The function is `bitorch.report`."""
