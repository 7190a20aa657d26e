"""The limit of open files of this process."""

from __future__ import annotations

import resource

from .errors import CannotBench


def raise_file_limit(files: int) -> None:
    """Raise the limit of open files of this process to ``files``, if it is lower.

    :raises CannotBench: the hard limit is lower than ``files``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if hard not in (unlimited,) and files > hard:
        raise CannotBench(
            f"{files} open files are needed in one process, the system allows {hard}; use --processes "
            f"{-(-files // max(1, hard - 64))}, or raise the limit (ulimit -Hn {files} as root, or nofile in "
            "/etc/security/limits.conf)"
        )
    if soft != unlimited and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
