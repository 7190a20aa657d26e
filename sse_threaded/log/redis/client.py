"""The Redis server behind a log: how it is reached, and what its errors mean to a person."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redis import Redis, RedisCluster, exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis.sentinel import Sentinel

from ...errors import LogError, LogUnavailable, LogUnusable
from . import scripts
from .url import Address

# Seconds. How long an answer, or a connection, may take; and for how long an append goes on trying: a failover or
# a restart takes a moment, and who publishes would rather wait than fail.
ANSWER_TIMEOUT = 2.0
PATIENCE = 5.0

# Seconds between two tries, doubling from the first to the last.
FIRST_RETRY, LAST_RETRY = 0.02, 0.5

# What Redis says first when it refuses, and for the driver's errors that lack it, what it was.
_CODE = re.compile(r"(?:.*: -)?([A-Z]+) ")
_CODES = {
    exceptions.ReadOnlyError: "READONLY",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.TryAgainError: "TRYAGAIN",
}
_REFUSED = {
    "OOM": "Redis is at its maxmemory; give it more, or keep less (Retention)",
    "MISCONF": "Redis cannot write to its disk and therefore takes nothing; look at its log",
    "NOREPLICAS": "too few replicas are connected for Redis to take anything",
    "READONLY": "this Redis is a replica; name its master in the URL, or a Sentinel",
    "LOADING": "Redis is loading its data",
    "BUSY": "Redis is busy with somebody's script; SCRIPT KILL ends it",
    "TRYAGAIN": "the Cluster is moving the log to another node",
}
# What is wrong with the URL, by what the driver says then, in small letters.
_MISTAKES = {
    "cluster mode is not enabled": "it is no Cluster; write redis://",
    "unknown command 'auth'": "it takes no password (AUTH is not there); leave it out of the URL",
    "unknown command `auth`": "it takes no password (AUTH is not there); leave it out of the URL",
    "protocol error": "what answers there is no Redis",
    "wrongtype operation": "some of these keys are another program's; choose a ?prefix= of your own",
}
# What Redis repeats of a command that it does not know: of AUTH it is the password.
_ARGUMENTS = re.compile(",? with args beginning with:.*", re.DOTALL)
# Of what it refuses, what passes by itself within seconds.
_PASSING = {"NOREPLICAS", "READONLY", "LOADING", "BUSY", "TRYAGAIN"}

# A restart, a failover, a cut connection.
_AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ClusterError,
    exceptions.RedisClusterException,
    OSError,
)
_DENIED = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)
_ERRORS = (exceptions.RedisError, exceptions.RedisClusterException, OSError)

# Seconds without a failure after which nobody knows whether Redis is away.
_FORGIVEN = 2.0


# One of a stream: its id, its fields.
Entry = tuple[bytes, dict[bytes, bytes]]


class Unreached(LogUnavailable):
    """Redis did not answer, or could not be reached."""


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
        # A key that is never there. A Cluster that is moving a slot runs no script that has such a key, too; it
        # would find a part of the others.
        self._none = f"{{{address.prefix}}}:none"
        self._begin()

    def _begin(self) -> None:
        self._client: Any = None
        self._master: Any = None  # its address, where Sentinels know it

    def client(self) -> Any:
        """The driver's client. Making one connects, for a Cluster alone."""
        client = self._client
        if client is None:
            client = self._client = _connect(self._address, self._name)
        return client

    def close(self) -> None:
        """Close all connections; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def let_go(self) -> None:
        """Connect anew from now on; who is using a connection does so to the end."""
        client, self._client = self._client, None
        pool = getattr(client, "connection_pool", None)  # a Cluster's client has several
        if pool is not None:
            pool.disconnect(inuse_connections=False)

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
            except _ERRORS as error:
                code = _code(error)
                locked = scripts.LOCKED in str(error)
                if not (locked or code in _PASSING or _is_away(error)):
                    raise self.meaning(error) from self._cause(error)
                if code == "READONLY":
                    self.let_go()
                if time.monotonic() + wait > deadline:
                    raise self.meaning(error, patience) from self._cause(error)
            time.sleep(wait * (0.5 + secrets.randbelow(1000) / 1000))
            if not locked:  # else a busy writer would be there first again and again
                wait = min(wait * 2, LAST_RETRY)

    def _run(self, script: str, args: Sequence[object]) -> Any:
        client, keys = self.client(), (self.meta, self._none)
        try:
            return client.evalsha(_digest(script), len(keys), *keys, *args)
        except exceptions.NoScriptError:
            return client.eval(script, len(keys), *keys, *args)

    def newest(self, stream: str, after: str, count: int, wait: int | None) -> list[Entry]:
        """Up to ``count`` entries of a stream after one, once there are any.

        :param wait: milliseconds; ``None`` not to wait.
        :raises Exception: the driver's.
        """
        client, words = self.client(), ["XREAD", "COUNT", count, *([] if wait is None else ["BLOCK", wait])]
        options = {}
        if self._address.kind == "cluster":
            # Else the driver asks some other node which one it is, and that may be away.
            options["target_nodes"] = client.get_node_from_key(stream)
        answer = client.execute_command(*words, "STREAMS", stream, after, **options)
        entries: list[Entry] = answer[0][1] if answer else []
        return entries

    def meaning(self, error: Exception, patience: float = 0.0) -> Exception:
        """What to raise instead of one of the driver's errors; another is returned as it is."""
        raw, said = str(error), self._said(error)
        is_own = scripts.NEW_EPOCH in raw or scripts.LOCK_LOST in raw
        if is_own or not isinstance(error, _ERRORS):
            return error
        tried = f" for {patience:.0f} s" if patience >= 0.5 else ""
        locked = f"locked by another writer{tried}; try again" if scripts.LOCKED in raw else None
        if refused := locked or _REFUSED.get(_code(error)):
            return LogUnavailable(self.url, refused)
        mistake = next((what for sign, what in _MISTAKES.items() if sign in raw.lower()), None)
        if isinstance(error, _DENIED):
            mistake = "it denies this user; look at the URL's user and password, and at the ACL"
        if mistake is None and _is_away(error):
            why = said.rstrip(".") or type(error).__name__
            return Unreached(self.url, f"Redis could not be reached{tried} ({why}); try again")
        return LogUnusable(self.url, f"Redis refused: {mistake or said}")

    def _said(self, error: Exception) -> str:
        """What an error says, without a password."""
        said = _ARGUMENTS.sub("", str(error))
        for secret in filter(None, self._address.secrets.values()):
            said = said.replace(secret, "...")
        return said

    def _cause(self, error: Exception) -> Exception | None:
        # What is raised from an error shows that, too, in a traceback.
        return error if self._said(error) == str(error) else None

    def look_for_master(self) -> bool:
        """Ask the Sentinels, if there are any, who the master is; returns whether it is another than before.

        They name a new one some seconds before the old one stops to take what will be lost.

        :raises RedisError: they cannot be asked.
        """
        if self._address.kind != "sentinel":
            return False
        pool = self.client().connection_pool
        before, self._master = self._master, pool.sentinel_manager.discover_master(pool.service_name)
        if before in (None, self._master):
            return False
        self.let_go()
        return True


class SharedServer(RedisServer):
    """The same for many threads: as long as Redis is away, all but one fail at once.

    Else they would take the app's threads from those who need no log.
    """

    def _begin(self) -> None:
        super()._begin()
        # Since when Redis has not answered, and when that was last seen (monotonic). Whoever is patient waits for
        # as long as that reaches from then on; of all others the one that holds the lock finds out whether it is
        # back.
        self._away_since: float | None = None
        self._away_at = 0.0
        self._trying = threading.Lock()

    def run(self, script: str, args: Sequence[object], patience: float = 0.0) -> Any:
        """See :class:`RedisServer`."""
        since, now = self._away_since, time.monotonic()
        if since is not None and now - self._away_at > _FORGIVEN:
            since = self._away_since = None
        if since is not None:
            patience = max(0.0, patience - (now - since))
        tries = since is not None and not patience
        if tries and not self._trying.acquire(blocking=False):
            self._away_at = now
            raise LogUnavailable(self.url, "Redis does not answer; another thread is trying")
        try:
            answer = super().run(script, args, patience)
        except Unreached:
            self._away_at = time.monotonic()
            if self._away_since is None:
                self._away_since = self._away_at
            raise
        except (LogError, exceptions.ResponseError):
            self.is_back()  # that is an answer, too
            raise
        finally:
            if tries:
                self._trying.release()
        self.is_back()
        return answer

    def is_back(self) -> None:
        """Take note that Redis answers."""
        self._away_since = None


def _code(error: Exception) -> str:
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    match = _CODE.match(str(error))
    return match[1] if match is not None and isinstance(error, exceptions.ResponseError) else ""


def _is_away(error: Exception) -> bool:
    return isinstance(error, _AWAY) and not isinstance(error, _DENIED)


@lru_cache(256)
def _digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


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
