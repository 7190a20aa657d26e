"""The app's own connection to the log's file: whether it is one, and under which name it has the file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import LogUnusable
from .file import plainly

_LIST = "PRAGMA database_list"

_HOW = (
    "give a sqlite3.Connection: in Django connection.connection, in SQLAlchemy "
    "session.connection().connection.driver_connection"
)
_IN_MEMORY = (
    "in Django's tests set DATABASES['default']['TEST'] = {'NAME': BASE_DIR / 'test.sqlite3'}, and make the hub "
    "with Hub(Path(connection.settings_dict['NAME']))"
)
_OTHER_FILE = "make the hub with the absolute path of that file, or publish after the commit"


def app_connection(connection: object, url: str) -> sqlite3.Connection:
    """The connection, if it is one of sqlite3's.

    :param connection: it, or the wrapper of it that SQLAlchemy's pool hands out.
    :param url: the log's, for the error.
    :raises LogUnusable: it is not.
    """
    found = getattr(connection, "driver_connection", connection)
    if not isinstance(found, sqlite3.Connection):
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
        raise LogUnusable(url, f"append(connection=...) cannot use a {kind}; {_HOW}")
    return found


def name_of_file(connection: sqlite3.Connection, path: str, url: str) -> str:
    """The name that a connection has for the log's file: ``main``, or that of an attached database.

    :param path: the log's absolute path.
    :param url: the log's, for the error.
    :raises LogUnusable: the connection is to another file, or to a database in memory. An event in it would not
        reach anybody.
    """
    files = _files(connection)
    for name, file in files.items():
        if file and _is_same(file, path):
            return name
    file = files.get("main", "")
    other, how = (repr(file), _OTHER_FILE) if file else ("a database in memory", _IN_MEMORY)
    raise LogUnusable(url, f"the connection is to {other}, but this log is in {path!r}; {how}")


@contextmanager
def in_transaction(connection: sqlite3.Connection) -> Iterator[bool]:
    """Run the block in a transaction: the app's, or one of its own where each statement would commit by itself.

    It yields whether the transaction is its own. Then it commits at the end of the block, or rolls back on an
    error. The connection's settings stay as they are.
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
        if connection.in_transaction:  # SQLite has rolled back by itself where the disk was full
            connection.execute("ROLLBACK")
        raise


def _commits_each_statement(connection: sqlite3.Connection) -> bool:
    if connection.in_transaction:
        return False
    # From Python 3.12 on, True or False here mean that no statement begins a transaction, whatever the
    # isolation level. With False one is always open, unless SQLite rolled back by itself.
    if isinstance(getattr(connection, "autocommit", None), bool):
        return True
    return connection.isolation_level is None


def _files(connection: sqlite3.Connection) -> dict[str, str]:
    """The file of each database of a connection, by its name; ``""`` for one in memory."""
    # The pragma itself, as a SELECT from pragma_database_list would begin to read: where somebody else writes
    # then, the app's transaction could write no more.
    set_by_app, connection.text_factory = connection.text_factory, bytes
    try:
        rows = plainly(connection, _LIST).fetchall()
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
