"""Measures what presence costs."""
