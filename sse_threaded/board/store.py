"""The store of the boards, in the engine that the event log uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..log import EventLog
from .sqlite_store import SQLiteBoardStore

if TYPE_CHECKING:
    from .postgres_store import PostgresBoardStore
    from .redis_store import RedisBoardStore


def open_store(log: EventLog) -> SQLiteBoardStore | RedisBoardStore | PostgresBoardStore:
    """Open the boards that belong to a log.

    :param log: the hub's log. Its engine keeps the boards too; with a log in memory, SQLite keeps them in memory.
    """
    if log.url.startswith("redis"):
        from .redis_store import RedisBoardStore  # noqa: PLC0415  # its driver may not be installed

        return RedisBoardStore(log)
    if log.url.startswith("postgres"):
        from .postgres_store import PostgresBoardStore  # noqa: PLC0415  # its driver may not be installed

        return PostgresBoardStore(log)
    return SQLiteBoardStore(log)
