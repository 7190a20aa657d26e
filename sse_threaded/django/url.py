"""The log's URL, from the settings of Django's database and of the log."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from psycopg import pq

from ..errors import LogUnusable
from ..log.postgres.url import Address, parse_url
from .settings import LogSettings

# Names and passwords may have any character.
_SAFE = ""


def log_url(connection: Any, settings: LogSettings) -> str:
    """Return the URL of the log in Django's database, with its password.

    :param connection: Django's, of the log's database.
    :param settings: the log's.
    :raises LogUnusable: the database is not PostgreSQL.
    """
    if connection.vendor != "postgresql":
        raise LogUnusable(
            f"{connection.vendor}://...",
            f"DATABASES[{settings.database!r}] must be PostgreSQL or SQLite; docs/django.md is about other places",
        )
    options = connection_options(connection)
    ours = {"prefix": settings.prefix, "schema": settings.schema}
    if settings.listen is not None:
        # The same database, as notifications do not leave it; in tests this is the test database.
        own = {key.lower(): str(value) for key, value in settings.listen.items() if key != "OPTIONS"}
        further = {key: str(value) for key, value in settings.listen.get("OPTIONS", {}).items()}
        ours["listen"] = _url_of(options | own | further)
    return _url_of(options | {key: value for key, value in ours.items() if value is not None})


def log_address(connection: Any, settings: LogSettings) -> Address:
    """Return the parts of the log's URL; see :func:`log_url`."""
    return parse_url(log_url(connection, settings))


def connection_options(connection: Any) -> dict[str, str]:
    """Return the parameters of libpq with which Django connects, also the password.

    :param connection: Django's, of a database in PostgreSQL.
    """
    # Django's own parameters, such as its class of cursors, are not libpq's.
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} - {"client_encoding"}
    given = connection.get_connection_params()
    options = {key: str(value) for key, value in given.items() if key in known and value is not None}
    role = connection.settings_dict["OPTIONS"].get("assume_role")
    if role:
        # A space or a backslash would end the value.
        escaped = str(role).replace("\\", "\\\\").replace(" ", "\\ ")
        options["options"] = f"{options.get('options', '')} -c role={escaped}".strip()
    return options


def _url_of(options: dict[str, str]) -> str:
    options = options.copy()
    user, password = options.pop("user", ""), options.pop("password", "")
    hosts, ports = options.pop("host", "").split(","), options.pop("port", "").split(",")
    where = ""
    if hosts[0].startswith(("/", "@")):  # a folder of sockets cannot be the host of a URL
        options |= {"host": ",".join(hosts)} | ({"port": ",".join(ports)} if any(ports) else {})
    else:
        each_port = ports * len(hosts) if len(ports) == 1 else ports
        where = ",".join(_host(*each) for each in zip(hosts, each_port, strict=True))
    who = quote(user, _SAFE) + (f":{quote(password, _SAFE)}" if password else "")
    name = quote(options.pop("dbname", ""), _SAFE)
    query = urlencode(options, quote_via=quote, safe=_SAFE)
    return f"postgresql://{who}{'@' * bool(who)}{where}/{name}" + (f"?{query}" if query else "")


def _host(name: str, port: str) -> str:
    return (f"[{name}]" if ":" in name else quote(name, _SAFE)) + (f":{port}" if port else "")
