"""A model, run and written down as a graph, and what stands in the way of that."""
