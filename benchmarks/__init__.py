"""Measurements of fedlmd, outside of the package: ``python -m benchmarks --help``."""
