"""Passes from graph to graph, each of which computes the same numbers."""
