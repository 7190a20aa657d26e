"""Reads the setting ``SSE_THREADED`` of a Django project.

The default of each key fits a project with one database, so most projects need no setting::

    SSE_THREADED = {
        "DATABASE": "default",                  # the key of DATABASES: where the log is
        "SCHEMA": "public",                     # in PostgreSQL: the schema of the log's tables
        "PREFIX": "sse_threaded_",              # in PostgreSQL: what the names of the tables begin with
        "LISTEN": {"HOST": "db", "PORT": 5432}, # past a PgBouncer, for the connection that listens
        "HUB": {"heartbeat": 10},               # further arguments of Hub
    }
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from ..errors import SSEError

NAME = "SSE_THREADED"

# All but the name of the database: PostgreSQL's notifications do not leave a database.
_LISTEN_KEYS = {"HOST", "OPTIONS", "PASSWORD", "PORT", "USER"}


class SettingError(SSEError):
    """The setting ``SSE_THREADED`` is invalid.

    :ivar reason: the fault and the remedy, in one sentence.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"settings.{NAME}: {reason}")
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """The values of the setting.

    :ivar database: the key of ``DATABASES``.
    :ivar schema: the schema of the log's tables; ``None`` for the default of the log's URL.
    :ivar prefix: the beginning of the tables' names; ``None`` for the default of the log's URL.
    :ivar listen: settings of the connection that listens, in place of those in ``DATABASES``; ``None``: none.
    :ivar hub: further arguments of :class:`~sse_threaded.Hub`.
    """

    database: str = "default"
    schema: str | None = None
    prefix: str | None = None
    listen: Mapping[str, Any] | None = None
    hub: Mapping[str, Any] = field(default_factory=dict)


def log_settings() -> LogSettings:
    """Return the values of the setting; they are read at each call, as tests override settings.

    :raises SettingError: it is not a dictionary, or has a key that does not exist.
    """
    given = getattr(settings, NAME, {})
    if not isinstance(given, Mapping):
        raise SettingError(f"it must be a dictionary, not {type(given).__name__}")
    known = {each.upper(): each for each in LogSettings.__dataclass_fields__}
    for key in given:
        if key not in known:
            raise SettingError(f"there is no key {key!r}; the keys are {', '.join(known)}")
    read = LogSettings(**{known[key]: value for key, value in given.items()})
    if not isinstance(read.hub, Mapping):
        raise SettingError(f"HUB must be a dictionary of arguments of Hub, not {type(read.hub).__name__}")
    if read.listen is not None and (
        not isinstance(read.listen, Mapping) or not read.listen.keys() <= _LISTEN_KEYS
    ):
        raise SettingError(f"LISTEN must be a dictionary with some of the keys {', '.join(sorted(_LISTEN_KEYS))}")
    if read.database not in settings.DATABASES:
        raise SettingError(f"DATABASES has no {read.database!r}; set DATABASE to one of its keys")
    return read
