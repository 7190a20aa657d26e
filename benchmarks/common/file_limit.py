"""The limit of open files: a benchmark needs thousands of sockets."""

from __future__ import annotations

import resource


def raise_file_limit() -> int:
    """Raise the limit to the highest that the system allows, and return it. Child processes inherit it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
