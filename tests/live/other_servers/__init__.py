"""The Python client against servers of other projects."""
