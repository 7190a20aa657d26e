"""The hub of Django's own database: one for each database and process.

In tests the database is another one, and so is its hub. PostgreSQL does not drop a database while a connection to
it is open. So the hub of a test database is closed before Django drops the database.

By default, an event may have all values that Django's own encoder knows: dates, decimals, UUIDs, lazy texts.
"""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any, NamedTuple

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections

from ..hub import Hub
from .settings import LogSettings, log_settings


class _Place(NamedTuple):
    """Where a log is: the key of ``DATABASES``, the database's name, and the names of the tables."""

    alias: str
    database: str
    schema: str | None
    prefix: str | None


# Guards the two below.
_lock = threading.Lock()
_hubs: dict[_Place, Hub] = {}
_wrapped: set[type] = set()  # Django's classes that drop test databases


def hub() -> Hub:
    """Return this process's hub of the database in use, and make it at the first call.

    The log is in the database of ``SSE_THREADED["DATABASE"]``, by default in ``"default"``.

    :raises SettingError: the setting ``SSE_THREADED`` is invalid.
    :raises LogError: the log cannot be opened.
    """
    settings = log_settings()
    connection = connections[settings.database]
    # Tests change the name.
    place = _Place(settings.database, connection.settings_dict["NAME"], settings.schema, settings.prefix)
    found = _hubs.get(place)
    if found is not None:
        return found
    with _lock:
        if place not in _hubs:
            arguments = {"json_default": DjangoJSONEncoder().default, **settings.hub}
            made = Hub(_place_of(connection, settings), **arguments)
            # A copy of a database begins a new epoch, for example with "manage.py test --parallel". This happens
            # here, and not after the first streams have begun.
            made.log.ring()
            _close_before_drop(type(connection.creation))
            _hubs[place] = made
        return _hubs[place]


def _place_of(connection: Any, settings: LogSettings) -> str | Path:
    if connection.vendor == "sqlite":
        return Path(connection.settings_dict["NAME"])
    from .url import log_url  # noqa: PLC0415  # its driver may not be installed

    return log_url(connection, settings)


def close_hubs() -> None:
    """Close the hubs of this process; the next call of :func:`hub` makes a new one."""
    with _lock:
        hubs = list(_hubs.values())
        _hubs.clear()
    for each in hubs:
        each.close()


def _close_before_drop(creation: Any) -> None:
    """Have Django close the hubs before it drops a test database; only test runners call that function."""
    if creation in _wrapped:
        return
    _wrapped.add(creation)
    drop = creation.destroy_test_db

    @functools.wraps(drop)
    def destroy_test_db(self: Any, *args: Any, **kwargs: Any) -> Any:
        close_hubs()
        return drop(self, *args, **kwargs)

    creation.destroy_test_db = destroy_test_db
