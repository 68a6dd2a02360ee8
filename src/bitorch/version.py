"""The version of the package, apart from it, so that what says it does not import all names."""

__version__ = "0.1.0"
