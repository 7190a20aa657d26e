"""How a process begins with a log that it cannot open now.

A worker that replaces another one must begin whatever has become of the log: gunicorn ends the whole server if a
worker cannot start. So an unusable log is refused only until some process of the server has had it open. Later
processes, and all that meet an unavailable log, begin without it and try again at each use.
"""

from __future__ import annotations

import logging
import mmap
import os
import zlib
from collections.abc import Callable

from ..errors import LogUnavailable, LogUnusable

_log = logging.getLogger(__name__)

# Which process has opened a log first, by the checksum of its URL; 0 for none. Processes that are forked after the
# import share it: gunicorn's master imports the package for its worker class or its hooks.
_SLOTS = 1024
_openers = memoryview(mmap.mmap(-1, _SLOTS * 4)).cast("I")


def begin(url: str, open_now: Callable[[], object], *, must: bool = False) -> None:
    """Open a log, or begin without it.

    :param url: the log's.
    :param open_now: opens it.
    :param must: never begin without it; default ``False``.
    :raises LogUnusable: it needs a person's help, and no other process of this server has had it open.
    :raises LogError: with ``must``, whatever it is.
    """
    slot = zlib.crc32(url.encode("utf-8", "replace")) % _SLOTS
    try:
        open_now()
    except (LogUnavailable, LogUnusable) as error:
        if must or (isinstance(error, LogUnusable) and _openers[slot] in (0, os.getpid())):
            raise
        _log.warning("starting without the log, which is tried again at each use: %s", error)
    else:
        _openers[slot] = _openers[slot] or os.getpid()
