"""The URL of a log: its scheme names the engine, and :func:`without_secret` makes it safe to show."""

from __future__ import annotations

import re

# The schemes of the engines. Redis has further ones: over TLS, and through a Sentinel or a Cluster.
MEMORY = "memory://"
SQLITE = "sqlite:"
REDIS = ("redis:", "rediss:", "redis+", "rediss+")
POSTGRES = ("postgresql:", "postgres:")

# The parts of a URL that without_secret() shows.
_REDIS_SCHEME = re.compile(r"rediss?(?:\+[a-z]+)?", re.ASCII)
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(?::[0-9]{1,5})?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[0-9]{{0,4}}/?)?", re.ASCII)
_SENTINELS = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[A-Za-z0-9._%-]+(?:/[0-9]{{0,4}})?/?)?", re.ASCII)
# Hosts of PostgreSQL may be missing, and may be folders of sockets (%2Frun). A database has any name.
_POSTGRES_HOST = rf"(?:{_HOST}|[A-Za-z0-9._%-]*)(?::[0-9]{{1,5}})?"
_POSTGRES = re.compile(rf"{_POSTGRES_HOST}(?:,{_POSTGRES_HOST})*(?:/[A-Za-z0-9._%-]*)?", re.ASCII)
_USER = re.compile(r"/[^/]*:[^/]*@")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9_./-]*", re.ASCII)


def without_secret(url: str) -> str:
    """Return the URL without its user, password and options, for messages and logs.

    This works for an invalid URL too. Where a host or a number may be a part of a password, an ellipsis stands
    for all of it.

    :param url: any text.
    """
    scheme, separator, rest = url.partition("://")
    if _REDIS_SCHEME.fullmatch(scheme) and separator:
        # A raw / ? or # before the last @: the password was not escaped, or the @ belongs to an option.
        before, at, hosts = rest.rpartition("@")
        shown = re.split("[?#]", hosts)[0]
        is_clear = not (at and set("/?#") & set(before))
        form = _SENTINELS if "sentinel" in scheme else _HOSTS
        return scheme + separator + (shown if is_clear and form.fullmatch(shown) else "...")
    if url.startswith(POSTGRES) and separator:
        # libpq takes a raw # in a password, but no raw / or ?.
        before, at, hosts = rest.rpartition("@")
        shown = hosts.partition("?")[0]
        is_clear = not (at and set("/?") & set(before))
        return scheme + separator + (shown if is_clear and _POSTGRES.fullmatch(shown) else "...")
    if url.startswith("sqlite:///"):
        path, _, query = rest.partition("?")
        option = f"?{query}" if query in ("synchronous=full", "synchronous=normal") else ""
        path = _CONTROL.sub(lambda found: f"%{ord(found[0]):02X}", path)  # it must not begin a new line in a log
        return scheme + separator + ("/..." if _USER.match(path) else path + option)
    is_known = url == MEMORY or _PLAIN.fullmatch(url)
    return url if is_known else (f"{scheme}://..." if separator and _SCHEME.fullmatch(scheme) else "...")
