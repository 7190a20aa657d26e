"""Measures the figures that the README promises.

- ``__main__``: the command; ``board_times``: the board as a user sees it; ``sqlite_times``: publishing to SQLite;
- ``rows``: how times are shown.
"""
