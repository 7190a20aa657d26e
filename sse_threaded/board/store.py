"""The store of the boards, in the engine that the event log uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..log import EventLog
from .sqlite_store import SQLiteBoardStore

if TYPE_CHECKING:
    from .redis_store import RedisBoardStore


def open_store(log: EventLog) -> SQLiteBoardStore | RedisBoardStore:
    """Open the boards that belong to a log.

    :param log: the hub's log. Its engine keeps the boards too; with a log in memory, SQLite keeps them in memory.
    """
    if log.url.startswith("redis"):
        from .redis_store import RedisBoardStore  # noqa: PLC0415  # its driver may not be installed

        return RedisBoardStore(log)
    return SQLiteBoardStore(log)
