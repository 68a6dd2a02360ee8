"""The graph of a captured network, and what every pass asks of it."""
