"""Where events are kept: :func:`open_log` chooses the engine by the URL's scheme."""

from __future__ import annotations

from ..errors import LogUnusable
from .base import EventLog, Page, Record, Retention, Snapshot, Transaction
from .memory import MemoryLog
from .sqlite import SQLiteLog

__all__ = [
    "EventLog",
    "MemoryLog",
    "Page",
    "Record",
    "Retention",
    "SQLiteLog",
    "Snapshot",
    "Transaction",
    "open_log",
]


def open_log(url: str, retention: Retention | None = None) -> EventLog:
    """Open the log that ``url`` names, and make it if it is not there.

    :param url: ``memory://``, ``sqlite:///relative/path`` or ``sqlite:////absolute/path``.
    :param retention: how much is kept, default :class:`Retention`.
    :raises LogUnusable: no such scheme, or the log needs a person's help.
    :raises LogUnavailable: the log cannot be opened now.
    """
    if url == "memory://":
        return MemoryLog(retention)
    if str(url).startswith("sqlite:///"):
        return SQLiteLog(url, retention)
    forms = "write memory://, sqlite:///file.db or sqlite:////absolute/file.db"
    raise LogUnusable(_without_secret(str(url)), f"names no log; {forms}")


def _without_secret(url: str) -> str:
    # user:password@ never reaches a message or a log.
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.rpartition("@")[2]
