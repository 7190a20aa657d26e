"""URLs of Redis servers."""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from ...errors import LogUnusable
from ..url import without_secret

_FORMS = (
    "write redis://host:6379/0, rediss://… for TLS, redis+sentinel://host:26379,host:26379/service/0 or "
    "redis+cluster://host:6379"
)
_OPTIONS = (
    "the options are prefix, sentinel_username and sentinel_password, and for rediss ssl_ca_certs, ssl_certfile, "
    "ssl_keyfile, ssl_cert_reqs and ssl_check_hostname; in a password write ? as %3F and & as %26"
)
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_OPTIONS = (*_TLS_FILES, "ssl_cert_reqs", "ssl_check_hostname")


class Address(NamedTuple):
    """The parts of a URL.

    :ivar url: the URL without a password.
    :ivar kind: ``""``, ``"sentinel"`` or ``"cluster"``.
    :ivar tls: whether the connection is over TLS.
    :ivar hosts: host and port of each server, or of each Sentinel.
    :ivar service: the master's name, as Sentinels know it; else ``""``.
    :ivar db: the number of the database.
    :ivar prefix: it begins all keys, in braces.
    :ivar secrets: users and passwords, by the driver's names.
    :ivar options: for TLS, by the driver's names.
    """

    url: str
    kind: str
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    service: str
    db: int
    prefix: str
    secrets: dict[str, str]
    options: dict[str, str]

    def __repr__(self) -> str:
        # Not all fields: a log line, or a traceback that shows values, must not have a password in it.
        return f"<Address {self.url}>"


def parse_url(url: str) -> Address:
    """Take a URL apart.

    :param url: as :class:`~.log.RedisLog` takes it.
    :raises LogUnusable: it is invalid.
    """
    shown = without_secret(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise LogUnusable(shown, _FORMS) from None
    user, mark, hosts = parts.netloc.rpartition("@")
    scheme, _, kind = parts.scheme.partition("+")
    if scheme not in ("redis", "rediss") or kind not in ("", "sentinel", "cluster") or parts.fragment:
        raise LogUnusable(shown, _FORMS)
    if "@" in parts.path + parts.query or set("[]") & set(user):
        raise LogUnusable(shown, "in a password write @ as %40, / as %2F, ? as %3F, # as %23, [ as %5B, ] as %5D")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    prefix = options.pop("prefix", "sse_threaded")
    if _PREFIX.fullmatch(prefix) is None:
        raise LogUnusable(shown, "?prefix= takes 1 to 64 letters, digits and _.:-")
    secret = {name: options.pop(name) for name in options.copy() if name in _SENTINEL_OPTIONS}
    if mark:
        name, colon, password = user.partition(":")
        secret |= {"username": unquote(name)} if name else {}
        secret |= {"password": unquote(password)} if colon else {}
    known = _TLS_OPTIONS if scheme == "rediss" else ()
    if options.keys() - set(known):
        # The message does not repeat it: it may be a part of a password that has a raw ? or & in it.
        raise LogUnusable(shown, f"it has an unknown option; {_OPTIONS}")
    _check_tls(shown, options)
    if prefix != "sse_threaded":
        shown += f"?prefix={prefix}"
    service, db = _path(shown, parts.path, kind)
    default = 26379 if kind == "sentinel" else 6379
    found = tuple(_host(shown, host, default) for host in hosts.split(","))
    if len(found) > 1 and not kind:
        raise LogUnusable(shown, f"several hosts need a Sentinel or a Cluster; {_FORMS}")
    return Address(shown, kind, scheme == "rediss", found, service, db, prefix, secret, options)


def _check_tls(url: str, options: dict[str, str]) -> None:
    # Checked now: the driver would raise at each connection, as if Redis could not be reached.
    for name in _TLS_FILES:
        if name in options and not (os.path.isfile(options[name]) and os.access(options[name], os.R_OK)):
            raise LogUnusable(url, f"{name} must name a file that can be read")
    if options.get("ssl_cert_reqs", "required") not in ("none", "optional", "required"):
        raise LogUnusable(url, "ssl_cert_reqs must be none, optional or required")


def _host(url: str, text: str, default: int) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", text)
    if match is None or not 0 < int(match[2] or default) < 65536:
        raise LogUnusable(url, _FORMS)
    return match[1].strip("[]"), int(match[2] or default)


def _path(url: str, path: str, kind: str) -> tuple[str, int]:
    service, *rest = path.strip("/").split("/") if kind == "sentinel" else ("", path.strip("/"))
    db = rest[0] if rest else ""
    if len(rest) > 1 or (kind == "sentinel" and not service) or not re.fullmatch(r"[0-9]{0,4}", db, re.ASCII):
        raise LogUnusable(url, _FORMS)
    if kind == "cluster" and int(db or 0):
        raise LogUnusable(url, "a Cluster has only database 0")
    return unquote(service), int(db or 0)
