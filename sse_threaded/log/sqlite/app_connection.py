"""The app's own connection to the log's file, which :meth:`EventLog.append` may be given."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from ...errors import LogUnusable
from .schema import execute_plain, last_sequence
from .url import parse_url

_LIST = "PRAGMA database_list"

_HOW = (
    "give a sqlite3.Connection, Django's (django.db.connection), or a Session or Connection of SQLAlchemy that is "
    "not asynchronous"
)
_IN_MEMORY = (
    "in Django's tests set DATABASES['default']['TEST'] = {'NAME': BASE_DIR / 'test.sqlite3'}, and make the hub "
    "with Hub(Path(connection.settings_dict['NAME']))"
)
_OTHER_FILE = "make the hub with the absolute path of that file, or publish after the commit"


def sqlite3_connection(connection: object, url: str) -> sqlite3.Connection:
    """Return the connection of the module ``sqlite3``.

    :param connection: that connection, Django's around it, or one of SQLAlchemy's around it.
    :param url: the log's, for the error.
    :raises LogUnusable: it is an object of another kind, or it is to another kind of database.
    """
    found = _inner(connection)
    if not isinstance(found, sqlite3.Connection):
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
        raise LogUnusable(url, f"append(connection=...) cannot use a {kind}; {_HOW}")
    return found


def _inner(connection: Any) -> object:
    if type(connection).__module__.startswith("sqlalchemy.ext.asyncio"):
        return connection
    if hasattr(connection, "in_atomic_block") and getattr(connection, "vendor", "") == "sqlite":
        connection.ensure_connection()
        return connection.connection  # Django's
    if hasattr(connection, "get_bind") and callable(getattr(connection, "connection", None)):
        connection = connection.connection()  # a Session begins its transaction so
    if hasattr(connection, "exec_driver_sql"):
        if not connection.in_transaction():
            connection.begin()  # as at the app's own first statement, so that its commit() commits
        connection = connection.connection
    return getattr(connection, "driver_connection", connection)  # of SQLAlchemy's pool


def database_name(connection: sqlite3.Connection, path: str, url: str) -> str:
    """Return the connection's name for the log's file: ``main``, or the name of an attached database.

    :param connection: the app's.
    :param path: the log's absolute path.
    :param url: the log's, for the error.
    :raises LogUnusable: the connection is to another file, or to a database in memory. No client would get an
        event that is appended there.
    """
    files = _files(connection)
    for name, file in files.items():
        if file and _is_same(file, path):
            return name
    file = files.get("main", "")
    other, how = (repr(file), _OTHER_FILE) if file else ("a database in memory", _IN_MEMORY)
    raise LogUnusable(url, f"the connection is to {other}, but this log is in {path!r}; {how}")


def read_uncommitted(url: str, connection: object) -> list[tuple[str, str, str | None]]:
    """Return channel, data and type of the events of the transaction that is open on a connection, oldest first.

    :param url: the log's.
    :param connection: the app's; see :func:`sqlite3_connection`.
    :raises LogUnusable: the connection is not to the log's file.
    """
    path, _ = parse_url(url)
    mine = sqlite3_connection(connection, url)
    name = database_name(mine, path, url).replace('"', '""')
    # Another connection sees only committed events.
    with closing(sqlite3.connect(path)) as other:
        committed = last_sequence(other)
    query = f'SELECT channel, data, event FROM "{name}".sse_events WHERE sequence > ? ORDER BY sequence'
    return execute_plain(mine, query, (committed,)).fetchall()


@contextmanager
def transaction_of(connection: sqlite3.Connection) -> Iterator[bool]:
    """Run the block in the app's transaction, or in a new one if each statement would commit by itself.

    It yields whether the transaction is new. A new one commits at the end of the block, or rolls back on an error.
    The connection's settings stay as they are.
    """
    if not _commits_each_statement(connection):
        yield False
        return
    try:
        # Not IMMEDIATE, which locks all attached databases: the block's first write locks its own file.
        connection.execute("BEGIN")
        yield True
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite rolls back by itself if the disk is full
            connection.execute("ROLLBACK")
        raise


def _commits_each_statement(connection: sqlite3.Connection) -> bool:
    if connection.in_transaction:
        return False
    # From Python 3.12 on, True or False here mean that no statement begins a transaction, whatever the
    # isolation level is. With False a transaction is always open, unless SQLite rolled back by itself.
    if isinstance(getattr(connection, "autocommit", None), bool):
        return True
    return connection.isolation_level is None


def _files(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the file of each database of a connection, by its name; ``""`` for a database in memory."""
    # The pragma itself: a SELECT from pragma_database_list would begin to read. If another connection wrote then,
    # the app's transaction could not write any more.
    set_by_app, connection.text_factory = connection.text_factory, bytes
    try:
        rows = execute_plain(connection, _LIST).fetchall()
    finally:
        connection.text_factory = set_by_app
    return {name.decode(): os.fsdecode(file or b"") for _, name, file in rows}


def _is_same(file: str, path: str) -> bool:
    if file == path:
        return True
    try:
        return os.path.samefile(file, path)
    except OSError:
        return False
