"""The system checks: each names a fault in one sentence, and says in its hint what to do.

Each command of ``manage.py`` that starts the project looks at the settings. ``manage.py migrate`` and
``manage.py check --database default`` also look into the database. A fault that a migration may mend is a warning,
as an error would keep ``migrate`` from running.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.db import DatabaseError, connections

from ..errors import LogUnusable, SSEError
from ..hub import Hub
from ..log.postgres.installation import exists, grants, lacking_privileges
from ..log.postgres.url import Address
from .settings import LogSettings, SettingError, log_settings

# As PostgreSQL numbers its release 13.
_OLDEST = 130_000

_MIGRATE = "Run: manage.py migrate sse_threaded"


def check_settings(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """Look at the setting ``SSE_THREADED``, at its database, and for the driver; without a connection."""
    try:
        return list(_faults_of_settings(log_settings()))
    except SettingError as error:
        return [_error(1, f"{error}.", "sse_threaded.django.settings explains the keys.")]


def check_database(
    app_configs: object, databases: Iterable[str] | None = None, **kwargs: object
) -> list[CheckMessage]:
    """Look into the log's database, if it is among those that are to be checked."""
    try:
        settings = log_settings()
    except SettingError:
        return []  # the other check says so
    if settings.database not in (databases or ()) or list(_faults_of_settings(settings)):
        return []
    connection = connections[settings.database]
    try:
        if connection.vendor == "sqlite":
            return list(_faults_of_file(connection))
        from .url import log_address  # noqa: PLC0415  # its driver may not be installed

        return list(_faults_of_database(connection, log_address(connection, settings)))
    except DatabaseError as error:
        return [
            _error(
                6,
                f"The log's database cannot be read: {error}.".replace("\n", " "),
                "Look at DATABASES, and at the privileges in docs/postgresql.md.",
            )
        ]


def _faults_of_settings(settings: LogSettings) -> Iterator[CheckMessage]:
    vendor = connections[settings.database].vendor
    if vendor not in ("postgresql", "sqlite"):
        yield _error(
            2,
            f"The database {settings.database!r} is in {vendor}, but this app needs PostgreSQL or SQLite.",
            "Set SSE_THREADED['DATABASE'] to such a database. Or remove 'sse_threaded.django' from "
            "INSTALLED_APPS; docs/django.md is about logs in other places.",
        )
        return
    if vendor == "postgresql" and importlib.util.find_spec("psycopg") is None:
        yield _error(3, "The log needs psycopg 3, which is not installed.", "Run: pip install 'psycopg[binary]'")
        return
    yield from _faults_of_hub(settings)
    yield from (_faults_of_address(settings) if vendor == "postgresql" else _faults_of_sqlite(settings))


def _faults_of_hub(settings: LogSettings) -> Iterator[CheckMessage]:
    known = inspect.signature(Hub).parameters.keys() - {"url"}
    unknown = settings.hub.keys() - known
    for name in sorted(unknown):
        hint = f"The arguments are {', '.join(sorted(known))}."
        yield _error(4, f"SSE_THREADED['HUB'] has {name!r}, which is not an argument of Hub.", hint)
    if not unknown:
        try:
            Hub(**settings.hub).close()  # in memory
        except (SSEError, TypeError, ValueError) as error:
            yield _error(10, f"SSE_THREADED['HUB'] has an invalid value: {error}.", "Correct it.")


def _faults_of_address(settings: LogSettings) -> Iterator[CheckMessage]:
    from .url import log_address  # noqa: PLC0415  # its driver may not be installed

    try:
        log_address(connections[settings.database], settings)
    except LogUnusable as error:
        yield _error(5, f"The log's URL is invalid: {error.reason}.", "Correct SSE_THREADED or DATABASES.")


def _faults_of_sqlite(settings: LogSettings) -> Iterator[CheckMessage]:
    for name in ("schema", "prefix", "listen"):
        if getattr(settings, name) is not None:
            fault = f"SSE_THREADED has {name.upper()}, but a log in SQLite has no such setting."
            yield _error(9, fault, "Remove it.")


def _faults_of_file(connection: Any) -> Iterator[CheckMessage]:
    if not connection.is_in_memory_db() and "sse_events" not in connection.introspection.table_names():
        yield Warning(
            f"The log's tables do not exist in the database {connection.alias!r}.",
            hint="Run: manage.py migrate",
            id="sse_threaded.W001",
        )


def _faults_of_database(connection: Any, address: Address) -> Iterator[CheckMessage]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version_num')::integer, pg_is_in_recovery(), current_user")
        version, is_replica, role = cursor.fetchone()
        if version < _OLDEST:
            yield _error(
                7, f"PostgreSQL {version // 10_000} is too old for the log.", "Use PostgreSQL 13 or newer."
            )
            return
        if is_replica:
            yield _error(
                8,
                f"The database {connection.alias!r} is a replica, and the log must be in the primary.",
                "Set SSE_THREADED['DATABASE'] to the primary.",
            )
            return
        cursor.execute(exists(address))
        if not cursor.fetchone()[0]:
            yield Warning(
                f"The log's tables do not exist in the database {connection.alias!r}.",
                hint=f"{_MIGRATE}. If that migration was applied with another SCHEMA or PREFIX, first run: "
                "manage.py migrate sse_threaded zero",
                id="sse_threaded.W001",
            )
            return
        cursor.execute(lacking_privileges(address))
        lacking = [row[0] for row in cursor.fetchall()]
        if lacking:
            yield Warning(
                f"The role {role!r} lacks privileges that the log needs: {'; '.join(lacking)}.",
                hint=f"Run, as the owner of the tables: {'; '.join(grants(address, role))};",
                id="sse_threaded.W002",
            )


def _error(number: int, message: str, hint: str) -> CheckMessage:
    return Error(message, hint=hint, id=f"sse_threaded.E{number:03}")
