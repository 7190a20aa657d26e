"""The log in Django's own SQLite file, and in the copies of it for parallel tests."""

from __future__ import annotations

import functools
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import connections

from ..errors import SSEError
from ..log import open_log
from .hubs import hub
from .settings import log_settings

# The databases whose log was opened at the first connection of this process: key and name.
_opened: set[tuple[str, str]] = set()


def make_log(using: str, **kwargs: object) -> None:
    """Make the log's tables, if this is the log's database and SQLite has it in a file; for ``post_migrate``.

    A database in memory has no log, as only one connection sees it. Then the hub raises an exception.

    :param using: the key of ``DATABASES``.
    :raises LogError: the log cannot be made.
    """
    connection = connections[using]
    if using == log_settings().database and connection.vendor == "sqlite" and not connection.is_in_memory_db():
        open_log(Path(connection.settings_dict["NAME"])).close()
        _follow_clones(type(connection.creation))


def open_early(connection: Any, **kwargs: object) -> None:
    """Open the log when this process first connects to its database, if it has a log; for ``connection_created``.

    If the file was copied or restored, the log begins a new epoch, and waits for the write lock. Later this might
    be inside a transaction of this thread, which has the lock itself.

    :param connection: Django's.
    """
    place = connection.alias, str(connection.settings_dict["NAME"])
    if connection.vendor != "sqlite" or place in _opened or connection.is_in_memory_db():
        return
    # Only a use of the hub may fail by its settings, and not each use of the database. A system check names them.
    with suppress(SSEError, TypeError, ValueError):
        if connection.alias == log_settings().database and _has_log(connection):
            _opened.add(place)
            hub()


def _has_log(connection: Any) -> bool:
    # Not with Django's cursor, which counts queries.
    row = connection.connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sse_events'").fetchone()
    return row is not None


def _follow_clones(creation: Any) -> None:
    """Have Django copy the whole database for ``manage.py test --parallel``, and begin the copy's log.

    Django copies the file, but the newest rows may be in the write-ahead log beside it. And the log in a copy must
    begin a new epoch, which a test could not do inside its own transaction.
    """
    clone = creation._clone_test_db
    if hasattr(clone, "__wrapped__"):
        return

    @functools.wraps(clone)
    def _clone_test_db(self: Any, suffix: str, *args: Any, **kwargs: Any) -> None:
        if self.connection.is_in_memory_db():
            clone(self, suffix, *args, **kwargs)
            return
        with self.connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        clone(self, suffix, *args, **kwargs)
        open_log(Path(self.get_test_db_clone_settings(suffix)["NAME"])).close()

    creation._clone_test_db = _clone_test_db
