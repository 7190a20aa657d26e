"""Linters and type checks, which say the same under every Python."""

ONCE = True
