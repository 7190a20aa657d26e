"""An hour of everything at once: see :mod:`.__main__`."""
