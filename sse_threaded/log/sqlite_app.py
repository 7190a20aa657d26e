"""The app's own connection to the log's file: whether it is one, and under which name it has the file."""

from __future__ import annotations

import os
import sqlite3

from ..errors import LogUnusable
from .sqlite_file import plainly

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
        raise LogUnusable(url, f"append(connection=...) cannot use a {type(connection).__name__}; {_HOW}")
    return found


def name_of_file(connection: sqlite3.Connection, path: str, url: str) -> str:
    """The name that a connection has for the log's file: ``main``, or that of an attached database.

    :param path: the log's absolute path.
    :param url: the log's, for the error.
    :raises LogUnusable: the connection is to another file, or to a database in memory. An event in it would not
        reach anybody.
    """
    # As bytes where the app has set text_factory.
    rows = [(os.fsdecode(name), os.fsdecode(file or "")) for _, name, file in plainly(connection, _LIST)]
    for name, file in rows:
        if file and _is_same(file, path):
            return name
    file = next((file for name, file in rows if name == "main"), "")
    other, how = (repr(file), _OTHER_FILE) if file else ("a database in memory", _IN_MEMORY)
    raise LogUnusable(url, f"the connection is to {other}, but this log is in {path!r}; {how}")


def _is_same(file: str, path: str) -> bool:
    try:
        return os.path.samefile(file, path)
    except OSError:
        return file == path
