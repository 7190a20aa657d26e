"""URLs of PostgreSQL servers: as libpq takes them, with three options of ours."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple
from urllib.parse import unquote

from ...errors import LogUnusable
from ..url import without_secret

_SCHEMES = ("postgresql", "postgres")
_FORMS = "write postgresql://user:password@host:5432/database, or any other URL that libpq takes"
_ESCAPES = "in a password, and in ?listen=, write @ as %40, / as %2F, ? as %3F, & as %26 and : as %3A"

# Names that PostgreSQL takes without a change: it cuts a name after 63 bytes.
_PREFIX = re.compile(r"[a-z_][a-z0-9_]{0,39}", re.ASCII)
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(:[0-9]{0,5})?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x20\x7f]")

_DEFAULT_PREFIX, _DEFAULT_SCHEMA = "sse_threaded", "public"

# Options of libpq whose values are secret.
SECRET_OPTIONS = ("password", "sslpassword", "oauth_client_secret")


class HiddenText(str):
    """Text with a secret in it. A log line, or a traceback that shows values, does not show it.

    Its ``str()`` is the text itself.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'...'"


class Address(NamedTuple):
    """The parts of a URL.

    :ivar url: the URL without a user, a password and the options of libpq.
    :ivar conninfo: the URL for libpq, without our options.
    :ivar listen: the URL for the listening connection, for libpq; the same as ``conninfo`` without ``?listen=``.
    :ivar schema: the schema of the tables.
    :ivar prefix: the beginning of the names of tables and functions.
    :ivar secrets: the passwords in both URLs.
    """

    url: str
    conninfo: str
    listen: str
    schema: str
    prefix: str
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        # Not all fields: a log line, or a traceback that shows values, must not have a password in it.
        return f"<Address {self.url}>"

    @property
    def bell(self) -> str:
        """The channel of ``NOTIFY`` for this log. It is short enough for PostgreSQL, as it takes 63 bytes."""
        if self.schema == _DEFAULT_SCHEMA:
            return self.prefix
        return f"{self.prefix}_{self._digest('bell')[:4].hex()}"

    @property
    def role_key(self) -> int:
        """The key of the session lock that makes a process the numberer (``pg_advisory_lock(bigint)``)."""
        return self._key("numberer")

    @property
    def awake_key(self) -> int:
        """The key of the session lock that says that the numberer is awake; see :mod:`.numberer`."""
        return self._key("awake")

    def _key(self, use: str) -> int:
        return int.from_bytes(self._digest(use)[:8], "big", signed=True)

    def _digest(self, use: str) -> bytes:
        return hashlib.sha256(f"sse_threaded {use} {self.schema}.{self.prefix}".encode()).digest()


def parse_url(url: str) -> Address:
    """Take a URL apart.

    :param url: ``postgresql://`` or ``postgres://`` and the rest, as libpq takes it. Our options are ``prefix``,
        ``schema`` and ``listen``.
    :raises LogUnusable: it is invalid. libpq checks its own options later, see :mod:`.driver`.
    """
    shown = without_secret(url)
    place, secrets, options = _take_apart(shown, url)
    own = {}
    for name, value in options.copy():
        if name in ("prefix", "schema", "listen"):
            if name in own:
                raise LogUnusable(shown, f"?{name}= is given twice")
            own[name] = unquote(value)
            options.remove((name, value))
    prefix, schema = own.get("prefix", _DEFAULT_PREFIX), own.get("schema", _DEFAULT_SCHEMA)
    if _PREFIX.fullmatch(prefix) is None:
        raise LogUnusable(shown, "?prefix= takes 1 to 40 small letters, digits and _, and begins with no digit")
    if _SCHEMA.fullmatch(schema) is None:
        raise LogUnusable(shown, "?schema= takes 1 to 63 letters, digits and _, and begins with no digit")
    conninfo = listen = _joined(place, options)
    if "listen" in own:
        place, more, options = _take_apart(shown, own["listen"], f"?listen= is invalid: {_FORMS}")
        if {name for name, _ in options} & {"prefix", "schema", "listen"}:
            raise LogUnusable(shown, "the URL in ?listen= takes no prefix, schema or listen")
        listen = _joined(place, options)
        secrets += more
    named = [f"prefix={prefix}"] * (prefix != _DEFAULT_PREFIX) + [f"schema={schema}"] * (schema != _DEFAULT_SCHEMA)
    if named:
        shown += f"?{'&'.join(named)}"
    return Address(shown, conninfo, listen, schema, prefix, tuple(dict.fromkeys(secrets)))


def _take_apart(shown: str, url: str, forms: str = _FORMS) -> tuple[str, list[str], list[tuple[str, str]]]:
    """Return the place, the passwords and the options. No message repeats a part: it may be of a password."""
    scheme, mark, rest = url.partition("://")
    if scheme not in _SCHEMES or not mark or _CONTROL.search(url):
        raise LogUnusable(shown, forms)
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    user, _, hosts = authority.rpartition("@")
    if "@" in user + path + query:
        raise LogUnusable(shown, _ESCAPES)
    if not all(map(_HOST.fullmatch, hosts.split(","))):
        raise LogUnusable(shown, forms)  # libpq would repeat the invalid port, which may be a password
    options = []
    for each in filter(None, query.split("&")):
        name, equals, value = each.partition("=")
        if not equals or "=" in value:
            raise LogUnusable(shown, f"an option is written name=value, with = in a value as %3D; {_ESCAPES}")
        options.append((unquote(name), value))
    raw = [user.partition(":")[2], *(value for name, value in options if name in SECRET_OPTIONS)]
    secrets = [each for value in raw for each in (unquote(value), value) if each]
    return place, secrets, options


def _joined(place: str, options: list[tuple[str, str]]) -> HiddenText:
    query = "&".join(f"{name}={value}" for name, value in options)
    return HiddenText(f"postgresql://{place}{'?' if query else ''}{query}")
