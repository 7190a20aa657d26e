"""The app's own connection, which :meth:`EventLog.append` may be given.

It may be a connection of psycopg 3, psycopg2 or Django, or a ``Session`` or ``Connection`` of SQLAlchemy. No other
driver is imported here: an object is known by its attributes. The app's thread runs all of this.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from ...errors import LogUnusable
from .errors import ErrorTranslator, sqlstate_of
from .schema import fill
from .text import from_database
from .url import Address

_HOW = (
    "give a connection of psycopg, psycopg2 or Django (django.db.connection), or a Session or Connection of "
    "SQLAlchemy"
)
_ASYNCHRONOUS = "it is asynchronous, and this package is not; with SQLAlchemy, append inside run_sync()"

# The class of SQLSTATE in which PostgreSQL asks the app to run its transaction again: a deadlock, or a conflict
# with another transaction. Apps catch the driver's own error there.
_RUN_AGAIN = "40"

_UNCOMMITTED = """
SELECT e.channel, e.data, e.event FROM {events} e
WHERE e.transaction = pg_current_xact_id_if_assigned() ORDER BY e.place
"""

Rows = list[tuple[Any, ...]]
_Run = Callable[[str, Sequence[object]], Rows]


def run_over(connection: object, statement: str, values: Sequence[object], url: str) -> Rows:
    """Run a statement in the transaction that is open on the app's connection, and return its rows.

    Where no transaction is open, the driver begins one as it does for the app's own statements. In autocommit mode
    the statement is a transaction of its own. After an error the transaction is as PostgreSQL left it.

    :param connection: the app's.
    :param statement: returns rows, and has ``%s`` for each value.
    :param values: the values.
    :param url: the log's, for the error.
    :raises LogUnusable: the object is not a connection to PostgreSQL, or the fault needs a person.
    :raises LogUnavailable: the fault may pass. The error of the driver is the cause.

    If PostgreSQL asks the app to run its transaction again (SQLSTATE 40...), the driver's error passes unchanged.
    """
    try:
        return _runner(connection, url)(statement, values)
    except Exception as error:
        found = _driver_error(error)
        same = _of_psycopg3(found)
        if same is None or sqlstate_of(same).startswith(_RUN_AGAIN):
            raise
        raise ErrorTranslator(url, ()).translate(same) from found


def read_uncommitted(address: Address, connection: object) -> list[tuple[str, str, str | None]]:
    """Return channel, data and type of the events of the transaction that is open on a connection, oldest first.

    :param address: the log's.
    :param connection: the app's; see :func:`run_over`.
    :raises LogError: as :func:`run_over`.
    """
    rows = run_over(connection, fill(address, _UNCOMMITTED), (), address.url)
    return [
        (from_database(channel), from_database(data), event if event is None else from_database(event))
        for channel, data, event in rows
    ]


def _runner(connection: object, url: str) -> _Run:
    """Return the function that runs a statement over ``connection``."""
    found: Any = connection
    if type(found).__module__.startswith("sqlalchemy.ext.asyncio"):
        raise _unusable(connection, url, _ASYNCHRONOUS)
    if hasattr(found, "in_atomic_block") and hasattr(found, "vendor"):
        return _of_django(found, url)
    if hasattr(found, "get_bind") and callable(getattr(found, "connection", None)):
        found = found.connection()  # a Session begins its transaction so
    if hasattr(found, "exec_driver_sql"):
        return _of_sqlalchemy(found, url)
    found = getattr(found, "driver_connection", found)  # of SQLAlchemy's pool
    if isinstance(found, psycopg.Connection):
        return _of_psycopg(found)
    if isinstance(found, psycopg.AsyncConnection):
        raise _unusable(connection, url, _ASYNCHRONOUS)
    psycopg2 = sys.modules.get("psycopg2.extensions")
    if psycopg2 is not None and isinstance(found, psycopg2.connection):
        return _of_psycopg2(found, psycopg2.cursor)
    raise _unusable(connection, url, _HOW)


def _of_django(connection: Any, url: str) -> _Run:
    if connection.vendor != "postgresql":
        how = f"Django's database {connection.alias!r} is in {connection.vendor}, and this log in PostgreSQL"
        raise _unusable(connection, url, how)

    def run(statement: str, values: Sequence[object]) -> Rows:
        # Its own cursor, so that Django connects, and knows of the statement and of its error.
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    return run


def _of_sqlalchemy(connection: Any, url: str) -> _Run:
    dialect = connection.dialect
    if dialect.name != "postgresql" or dialect.paramstyle not in ("format", "pyformat"):
        how = f"SQLAlchemy's dialect {dialect.name}+{dialect.driver} is not known here; use postgresql+psycopg"
        raise _unusable(connection, url, how)

    def run(statement: str, values: Sequence[object]) -> Rows:
        # Not the driver's connection inside, so that SQLAlchemy knows that a transaction has begun.
        return [tuple(row) for row in connection.exec_driver_sql(statement, tuple(values))]

    return run


def _of_psycopg(connection: psycopg.Connection[Any]) -> _Run:
    def run(statement: str, values: Sequence[object]) -> Rows:
        # The app may have chosen other rows, and other marks for the values. Nothing is prepared, as the app may
        # use a pool in front of PostgreSQL.
        with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
            return cursor.execute(statement.encode(), values, prepare=False).fetchall()

    return run


def _of_psycopg2(connection: Any, cursor_class: Any) -> _Run:
    def run(statement: str, values: Sequence[object]) -> Rows:
        with closing(connection.cursor(cursor_factory=cursor_class)) as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    return run


def _unusable(connection: object, url: str, how: str) -> LogUnusable:
    kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
    return LogUnusable(url, f"append(connection=...) cannot use a {kind}; {how}")


def _driver_error(error: BaseException) -> BaseException:
    """Return the driver's error inside one of SQLAlchemy or Django."""
    inside = getattr(error, "orig", None)  # SQLAlchemy's attribute
    if isinstance(inside, BaseException):
        return inside
    cause = error.__cause__
    is_django = type(error).__module__.startswith("django.db")
    return cause if is_django and cause is not None else error


def _of_psycopg3(error: BaseException) -> psycopg.Error | None:
    """Return the error as psycopg 3 has it; ``None`` if it is not of a driver."""
    if isinstance(error, psycopg.Error):
        return error
    psycopg2 = sys.modules.get("psycopg2")
    if psycopg2 is None or not isinstance(error, psycopg2.Error):
        return None
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) and error.pgcode is None:
        return psycopg.OperationalError(str(error))
    return _class_of(error.pgcode)(str(error))


def _class_of(code: str | None) -> type[psycopg.Error]:
    try:
        return psycopg.errors.lookup(code or "")
    except KeyError:
        return psycopg.DatabaseError
