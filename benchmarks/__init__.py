"""Benchmarks of this package; README.md lists the commands. None of this is installed."""
