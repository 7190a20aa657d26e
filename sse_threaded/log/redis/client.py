"""Runs scripts in Redis, and tries again while Redis cannot be reached."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redis import exceptions

from ...errors import LogError, LogUnavailable
from ..reachability import Reachability
from .driver import connect
from .errors import DRIVER_ERRORS, ErrorTranslator, Unreachable, is_locked, is_passing, is_replica
from .pages import Entry
from .timeouts import Timeouts
from .url import Address

# Seconds between two tries, doubling from the first to the last.
_FIRST_RETRY, _LAST_RETRY = 0.02, 0.5


class RedisClient:
    """A client of one Redis, for any thread. Each thread has a connection to itself while it needs one.

    :param address: where the server is.
    :param name: the client's name in ``CLIENT LIST``.
    :param timeouts: default :class:`Timeouts`.
    :ivar url: the server's, without a password.
    :ivar base: the beginning of the names of all keys of the log.
    :ivar errors: turns the driver's errors into errors of this package.
    """

    def __init__(self, address: Address, name: str, timeouts: Timeouts | None = None) -> None:
        self._address = address
        self._name = name
        self._timeouts = timeouts or Timeouts()
        self.url = address.url
        self.errors = ErrorTranslator(address)
        self.base = f"{{{address.prefix}}}:"
        # The second key never exists. While a Cluster moves a slot, it runs no script with a missing key.
        # Otherwise the script would find only a part of the other keys.
        self._keys = (f"{self.base}meta", f"{self.base}none")
        self._begin()

    def _begin(self) -> None:
        self._client: Any = None
        self._master: Any = None  # its address, if Sentinels know it

    def driver(self) -> Any:
        """Return the driver's client. Only for a Cluster this connects at once."""
        client = self._client
        if client is None:
            client = self._client = connect(self._address, self._name, self._timeouts.answer)
        return client

    def close(self) -> None:
        """Close all connections; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def reconnect(self) -> None:
        """Make new connections from now on. A thread that uses a connection keeps it to the end."""
        client, self._client = self._client, None
        pool = getattr(client, "connection_pool", None)  # the client of a Cluster has several
        if pool is not None:
            pool.disconnect(inuse_connections=False)

    def after_fork_in_child(self) -> None:
        """Begin without connections: they belong to the parent."""
        _clients_of_parent.append(self._client)
        self._begin()

    def run(self, script: str, args: Sequence[object], retry_for: float = 0.0) -> Any:
        """Run a script.

        :param script: its whole text.
        :param args: its ``ARGV``.
        :param retry_for: for how many seconds to try again while Redis cannot be reached, or the log is locked;
            only for a script that may run twice. Default 0.
        :raises Unreachable: Redis cannot be reached.
        :raises LogUnavailable: Redis refuses for now.
        :raises LogUnusable: a person must act.
        :raises ResponseError: the script refused.
        """
        deadline = time.monotonic() + retry_for
        wait = _FIRST_RETRY
        while True:
            try:
                return self._run(script, args)
            except DRIVER_ERRORS as error:
                if not is_passing(error):
                    raise self.errors.translate(error) from self.errors.cause(error)
                if is_replica(error):
                    self.reconnect()
                if time.monotonic() + wait > deadline:
                    raise self.errors.translate(error, retry_for) from self.errors.cause(error)
                locked = is_locked(error)
            time.sleep(wait * (0.5 + secrets.randbelow(1000) / 1000))
            if not locked:  # otherwise a busy writer would come first again and again
                wait = min(wait * 2, _LAST_RETRY)

    def _run(self, script: str, args: Sequence[object]) -> Any:
        driver, keys = self.driver(), self._keys
        try:
            return driver.evalsha(_digest(script), len(keys), *keys, *args)
        except exceptions.NoScriptError:
            return driver.eval(script, len(keys), *keys, *args)

    def entries_after(self, stream: str, after: str, count: int, wait: int | None) -> list[Entry]:
        """Return up to ``count`` entries of a stream, once there are any.

        :param stream: its key.
        :param after: the entry's id after which to begin.
        :param wait: milliseconds to wait for an entry; ``None``: do not wait.
        :raises Exception: an error of the driver.
        """
        driver, words = self.driver(), ["XREAD", "COUNT", count, *([] if wait is None else ["BLOCK", wait])]
        options = {}
        if self._address.kind == "cluster":
            # Otherwise the driver asks another node which node it is, and that node may not answer.
            options["target_nodes"] = driver.get_node_from_key(stream)
        answer = driver.execute_command(*words, "STREAMS", stream, after, **options)
        entries: list[Entry] = answer[0][1] if answer else []
        return entries

    def find_new_master(self) -> bool:
        """Ask the Sentinels, if there are any, for the master; returns whether it is another one than before.

        They name a new master a few seconds before the old one stops. Until then the old one accepts events that
        will be lost.

        :raises RedisError: they cannot be asked.
        """
        if self._address.kind != "sentinel":
            return False
        pool = self.driver().connection_pool
        before, self._master = self._master, pool.sentinel_manager.discover_master(pool.service_name)
        if before in (None, self._master):
            return False
        self.reconnect()
        return True


class SharedClient(RedisClient):
    """A client for many threads: while Redis cannot be reached, one thread tries and all others fail at once."""

    def _begin(self) -> None:
        super()._begin()
        self._reachability = Reachability(self._timeouts.forget, self._refusal)

    def _refusal(self) -> LogUnavailable:
        return LogUnavailable(self.url, "Redis does not answer; another thread is trying")

    def run(self, script: str, args: Sequence[object], retry_for: float = 0.0) -> Any:
        """See :class:`RedisClient`."""
        with self._reachability.attempt(retry_for) as seconds:
            try:
                answer = super().run(script, args, seconds)
            except Unreachable:
                self._reachability.note_silence()
                raise
            except (LogError, exceptions.ResponseError):
                self._reachability.note_answer()
                raise
        self._reachability.note_answer()
        return answer

    def note_answer(self) -> None:
        """Note that Redis answers."""
        self._reachability.note_answer()


@lru_cache(256)
def _digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


# The driver's clients of a parent process: here the child's garbage collector does not close them.
_clients_of_parent: list[Any] = []
