"""How a process starts with a log that it cannot open now.

A worker that replaces another one must start in whatever state the log is: gunicorn stops the whole server if a
worker cannot start. So an unusable log is refused only until some process of the server has had it open. Later
processes start without it, and each use tries again. With an unavailable log every process starts like that.
"""

from __future__ import annotations

import logging
import mmap
import os
import zlib
from collections.abc import Callable

from ..errors import LogUnavailable, LogUnusable

_log = logging.getLogger(__name__)

# The process that opened a log first, by the checksum of the log's URL; 0 for none. Processes that are forked
# after the import share it: gunicorn's master imports the package for its worker class or its hooks.
_SLOTS = 1024
_openers = memoryview(mmap.mmap(-1, _SLOTS * 4)).cast("I")


def open_at_start(url: str, open_now: Callable[[], object], *, is_required: bool = False) -> None:
    """Open a log, or log a warning and go on without it.

    :param url: the log's.
    :param open_now: opens it.
    :param is_required: never go on without it; default ``False``.
    :raises LogUnusable: it needs a person's help, and no other process of this server has had it open.
    :raises LogError: with ``is_required``, any error.
    """
    slot = zlib.crc32(url.encode("utf-8", "replace")) % _SLOTS
    try:
        open_now()
    except (LogUnavailable, LogUnusable) as error:
        if is_required or (isinstance(error, LogUnusable) and _openers[slot] in (0, os.getpid())):
            raise
        fields = {"event": "log_unreachable", "url": error.url, "error": type(error).__name__}
        _log.warning("starting without the log, which is tried again at each use: %s", error, extra=fields)
    else:
        _openers[slot] = _openers[slot] or os.getpid()
