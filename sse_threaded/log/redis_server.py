"""The Redis server behind a log: how it is reached, and what its errors mean to a person."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from typing import Any

from redis import Redis, RedisCluster, exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis.sentinel import Sentinel

from ..errors import LogError, LogUnavailable, LogUnusable
from . import redis_scripts
from .redis_url import Address

# Seconds. How long an answer, or a connection, may take; and for how long an append goes on trying: a failover or
# a restart takes a moment, and who publishes would rather wait than fail.
ANSWER_TIMEOUT = 2.0
PATIENCE = 5.0

# Seconds between two tries, doubling from the first to the last.
FIRST_RETRY, LAST_RETRY = 0.02, 0.5

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
    "BUSY": "Redis is busy with somebody's script; SCRIPT KILL ends it",
}
_PASSING_WORDS = ("READONLY", "LOADING", "NOREPLICAS", "BUSY")
_DENIED = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)


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

    def _let_go(self) -> None:
        """Close the connections that no thread is using."""
        pool = getattr(self._client, "connection_pool", None)  # a Cluster's client finds the master by itself
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
            except exceptions.ResponseError as error:
                if redis_scripts.LOCKED not in str(error) and not _is_passing(error):
                    raise self.meaning(error) from error
                failure: Exception = error
                if "READONLY" in str(error):
                    self._let_go()  # it is a replica now; a Sentinel names the master to new connections
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
            why = said.rstrip(".") or type(error).__name__
            return Unreached(self.url, f"Redis could not be reached{tried} ({why}); try again")
        if isinstance(error, _DENIED):
            said = "it denies this user; look at the URL's user and password, and at the ACL"
        elif "WRONGTYPE" in said:
            said = "some of these keys are another program's; choose a ?prefix= of your own"
        return LogUnusable(self.url, f"Redis refused: {said}")


class SharedServer(RedisServer):
    """The same for many threads: as long as Redis is away, all but one fail at once.

    Else they would take the app's threads from those who need no log.
    """

    def _begin(self) -> None:
        super()._begin()
        # Since when Redis has not answered (monotonic). Whoever is patient waits for as long as that reaches from
        # then on; of all others the one that holds the lock finds out whether it is back.
        self._away_since: float | None = None
        self._trying = threading.Lock()

    def run(self, script: str, args: Sequence[object], patience: float = 0.0) -> Any:
        """See :class:`RedisServer`."""
        since = self._away_since
        if since is not None:
            patience = max(0.0, patience - (time.monotonic() - since))
        tries = since is not None and not patience
        if tries and not self._trying.acquire(blocking=False):
            raise LogUnavailable(self.url, "Redis does not answer; another thread is trying")
        try:
            answer = super().run(script, args, patience)
        except Unreached:
            if self._away_since is None:
                self._away_since = time.monotonic()
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


def _is_passing(error: exceptions.ResponseError) -> bool:
    return isinstance(error, _PASSING) or any(word in str(error) for word in _PASSING_WORDS)


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
