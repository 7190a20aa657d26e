"""Where events are kept: :func:`open_log` chooses the engine by the URL's scheme."""

from __future__ import annotations

import os

from ..errors import LogUnusable
from .interface import EventLog, Snapshot, Transaction
from .memory import MemoryLog
from .record import Page, Record
from .retention import Retention
from .sqlite.log import SQLiteLog
from .sqlite.url import url_of
from .url import MEMORY, POSTGRES, REDIS, SQLITE, without_secret

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
    "without_secret",
]


def open_log(url: str | os.PathLike[str], retention: Retention | None = None) -> EventLog:
    """Open a log, and make it if it is not there.

    :param url: ``memory://``, ``sqlite:///relative/path``, ``sqlite:////absolute/path`` or, with the extra
        ``redis``, ``redis://host:port/db`` and its variants (:mod:`sse_threaded.log.redis.log`), or with the extra
        ``postgres`` ``postgresql://host:port/database`` (:mod:`sse_threaded.log.postgres.log`). In the path of a
        SQLite URL write ``%`` as ``%25``, ``?`` as ``%3F`` and ``#`` as ``%23``. A :class:`~pathlib.Path` names a
        SQLite file and needs no escapes. A relative path is relative to the working directory.
    :param retention: how much is kept, default :class:`Retention`.
    :raises LogUnusable: the URL is invalid, or the log needs a person's help.
    :raises LogUnavailable: the log cannot be opened now.
    """
    if isinstance(url, os.PathLike):
        url = url_of(url)
    if url == MEMORY:
        return MemoryLog(retention)
    if str(url).startswith(SQLITE):
        return SQLiteLog(url, retention)
    if str(url).startswith(REDIS):
        try:
            from .redis.log import RedisLog  # noqa: PLC0415  # its driver may not be installed
        except ModuleNotFoundError as error:
            if error.name != "redis":
                raise
            driver = "pip install 'redis[hiredis]>=5'"
            raise LogUnusable(without_secret(url), f"Redis needs its client: {driver}") from None
        return RedisLog(url, retention)
    if str(url).startswith(POSTGRES):
        try:
            from .postgres.log import PostgresLog  # noqa: PLC0415  # its driver may not be installed
        except ImportError as error:
            if error.name != "psycopg" and "pq wrapper" not in str(error):  # psycopg, or libpq
                raise
            driver = "pip install 'psycopg[binary]>=3.2'"
            raise LogUnusable(without_secret(url), f"PostgreSQL needs its client: {driver}") from None
        return PostgresLog(url, retention)
    forms = (
        "memory://, sqlite:///file.db, sqlite:////absolute/file.db, redis://host:6379/0 or postgresql://host/db"
    )
    raise LogUnusable(without_secret(str(url)), f"not the URL of a log; write {forms}, or a SQLite file's Path")
