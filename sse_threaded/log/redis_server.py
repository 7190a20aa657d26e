"""The Redis server behind a log: its URL, how it is reached, and what its errors mean to a person."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from redis import Redis, RedisCluster, exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis.sentinel import Sentinel

from ..errors import LogUnavailable, LogUnusable
from . import redis_scripts
from .base import without_secret

# Seconds. How long an answer, or a connection, may take; and for how long an append goes on trying: a failover or
# a restart takes a moment, and who publishes would rather wait than fail.
ANSWER_TIMEOUT = 2.0
PATIENCE = 5.0

# Seconds between two tries, doubling from the first to the last.
FIRST_RETRY, LAST_RETRY = 0.02, 0.5

_FORMS = (
    "write redis://host:6379/0, rediss://… for TLS, redis+sentinel://host:26379,host:26379/service/0 or "
    "redis+cluster://host:6379"
)
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")

# What passes by itself: a restart, a failover, a cut connection.
_PASSING = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.TryAgainError,
    exceptions.SlotNotCoveredError,
    OSError,
)
# What Redis refuses for now, by words of its errors.
_REFUSED = {
    "maxmemory": "Redis is at its maxmemory; give it more, or keep less (Retention)",
    "MISCONF": "Redis cannot write to its disk and therefore takes nothing; look at its log",
    "NOREPLICAS": "too few replicas are connected for Redis to take anything",
    "READONLY": "this Redis is a replica now; the next try looks for the master",
    "LOADING": "Redis is loading its data",
}
_DENIED = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)


class Unreached(LogUnavailable):
    """Redis did not answer, or could not be reached."""


class Address(NamedTuple):
    """What a URL says.

    :ivar url: the same without a password.
    :ivar kind: ``""``, ``"sentinel"`` or ``"cluster"``.
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


def parse_url(url: str) -> Address:
    """Take a URL apart.

    :raises LogUnusable: it is none of those forms.
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
    if unknown := sorted(options.keys() - set(known)):
        known_ones = "there are prefix and, for rediss, ssl_ca_certs and its like"
        raise LogUnusable(shown, f"no such option: {', '.join(unknown)}; {known_ones}")
    if prefix != "sse_threaded":
        shown += f"?prefix={prefix}"
    service, db = _path(shown, parts.path, kind)
    default = 26379 if kind == "sentinel" else 6379
    found = tuple(_host(shown, host, default) for host in hosts.split(","))
    if len(found) > 1 and not kind:
        raise LogUnusable(shown, f"several hosts need a Sentinel or a Cluster; {_FORMS}")
    return Address(shown, kind, scheme == "rediss", found, service, db, prefix, secret, options)


def _host(url: str, text: str, default: int) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", text)
    if match is None:
        raise LogUnusable(url, _FORMS)
    return match[1].strip("[]"), int(match[2] or default)


def _path(url: str, path: str, kind: str) -> tuple[str, int]:
    service, *rest = path.strip("/").split("/") if kind == "sentinel" else ("", path.strip("/"))
    db = rest[0] if rest else ""
    if len(rest) > 1 or (kind == "sentinel" and not service) or not re.fullmatch(r"[0-9]{0,4}", db, re.ASCII):
        raise LogUnusable(url, _FORMS)
    if kind == "cluster" and int(db or 0):
        raise LogUnusable(url, "a Cluster has no other database than 0")
    return unquote(service), int(db or 0)


class RedisServer:
    """A way to the server, for any thread; each has a connection to itself while it needs one.

    :param address: where it is.
    :param name: what Redis shows in ``CLIENT LIST``.
    """

    def __init__(self, address: Address, name: str) -> None:
        self._address = address
        self._name = name
        self.url = address.url
        self.meta = f"{{{address.prefix}}}:meta"
        self._begin()

    def _begin(self) -> None:
        self._client: Any = None
        self._scripts: dict[str, Any] = {}

    def client(self) -> Any:
        """The driver's client. Making one connects, for a Cluster alone."""
        if self._client is None:
            self._client = _connect(self._address, self._name)
        return self._client

    def close(self) -> None:
        """Close all connections; idempotent."""
        client = self._client
        self._client, self._scripts = None, {}
        if client is not None:
            client.close()

    def after_fork_in_child(self) -> None:
        """Begin anew: the connections are the parent's."""
        _abandoned.append(self._client)
        self._begin()

    def run(self, script: str, args: Sequence[object], patience: float = 0.0) -> Any:
        """Run a script.

        :param patience: for how many seconds to try again while Redis cannot be reached, or is locked; such a
            script must be one that may be tried again.
        :raises Unreached: Redis cannot be reached.
        :raises LogUnavailable: it refuses for now.
        :raises LogUnusable: a person must see to it.
        :raises ResponseError: the script refused.
        """
        deadline = time.monotonic() + patience
        wait = FIRST_RETRY
        while True:
            try:
                return self._run(script, args)
            except exceptions.ResponseError as error:
                if redis_scripts.LOCKED not in str(error) and not _is_passing(error):
                    raise self.meaning(error) from error
                failure: Exception = error
                if "READONLY" in str(error):
                    self.close()  # it is a replica now; a Sentinel names the master to new connections
            except _PASSING as error:
                if isinstance(error, _DENIED):
                    raise self.meaning(error) from error
                failure = error
            if time.monotonic() + wait > deadline:
                raise self.meaning(failure, patience) from failure
            time.sleep(wait * (0.5 + secrets.randbelow(1000) / 1000))
            wait = min(wait * 2, LAST_RETRY)

    def _run(self, script: str, args: Sequence[object]) -> Any:
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = self.client().register_script(script)
        return known(keys=[self.meta], args=list(args))

    def meaning(self, error: Exception, patience: float = 0.0) -> Exception:
        """What to raise instead of one of the driver's errors."""
        said = str(error)
        if redis_scripts.NEW_EPOCH in said or redis_scripts.LOCK_LOST in said:
            return error
        if redis_scripts.LOCKED in said:
            return LogUnavailable(self.url, f"locked by another writer for over {patience:g} s; try again")
        for word, meaning in _REFUSED.items():
            if word in said:
                return LogUnavailable(self.url, meaning)
        if isinstance(error, _PASSING) and not isinstance(error, _DENIED):
            tried = f" for {patience:g} s" if patience else ""
            return Unreached(self.url, f"Redis could not be reached{tried} ({type(error).__name__}); try again")
        if isinstance(error, _DENIED):
            said = "it denies this user; look at the URL's user and password, and at the ACL"
        elif "WRONGTYPE" in said:
            said = "some of these keys are another program's; choose a ?prefix= of your own"
        return LogUnusable(self.url, f"Redis refused: {said}")


def _is_passing(error: exceptions.ResponseError) -> bool:
    return isinstance(error, _PASSING) or any(word in str(error) for word in ("READONLY", "LOADING", "NOREPLICAS"))


def _connect(address: Address, name: str) -> Any:
    host, port = address.hosts[0]
    # Tried again by run() alone, which sees to it that nothing is done twice.
    options: dict[str, Any] = {
        "socket_timeout": ANSWER_TIMEOUT,
        "socket_connect_timeout": ANSWER_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "client_name": name,
        "protocol": 2,
    }
    options |= {key: value for key, value in address.secrets.items() if not key.startswith("sentinel")}
    options |= address.options
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = options["ssl_check_hostname"].lower() not in ("0", "false", "no")
    if address.tls:
        options["ssl"] = True
    if address.kind == "cluster":
        nodes = [ClusterNode(*each) for each in address.hosts]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, **options)
    options["db"] = address.db
    if address.kind == "sentinel":
        to_sentinel: dict[str, Any] = {"socket_timeout": ANSWER_TIMEOUT, "socket_connect_timeout": ANSWER_TIMEOUT}
        for key, value in address.secrets.items():
            if key.startswith("sentinel_"):
                to_sentinel[key[len("sentinel_") :]] = value
        if address.tls:
            to_sentinel |= {"ssl": True} | {key: options[key] for key in options if key.startswith("ssl_")}
        sentinel: Any = Sentinel(address.hosts, sentinel_kwargs=to_sentinel, **options)  # type: ignore[no-untyped-call]
        return sentinel.master_for(address.service)
    return Redis(host=host, port=port, **options)


# Clients of a parent process, kept from the child's garbage collector.
_abandoned: list[Any] = []
