"""What each function and module means: rules that make nodes of calls."""
