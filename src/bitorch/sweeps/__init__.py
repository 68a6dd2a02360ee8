"""Sweeps: a file that says which settings are tried, and what trains them, here or on a cluster."""
