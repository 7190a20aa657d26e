"""Modules that several benchmarks use: paths, the machine, the limit of open files, pictures, event ids."""
