"""PostgreSQL, and what happens to it: it is killed and started again, or a replica replaces it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from sse_threaded.testing.processes import POLL_SECONDS
from tests.harness.postgres_server import PgBouncer, PostgresServer

_WAIT_SECONDS = 60.0

# Connections of the pooler to PostgreSQL: one for each transaction that is open.
_POOL = 40

# Seconds at most until a killed server is started again, and for which a replica lags behind before its promotion.
_DOWN_SECONDS, _BEHIND_SECONDS = 1.0, 1.0

_LAST = "SELECT coalesce(max(sequence), 0) FROM sse_threaded_numbers"


class Database:
    """One PostgreSQL; a context manager.

    :ivar current: the server that takes changes.
    :ivar title: what happens to it.
    :ivar keeps_all: whether every transaction that was acknowledged is there in the end.
    """

    title = "only streaming processes are killed"
    keeps_all = True

    def __init__(self) -> None:
        self.current = PostgresServer()

    @property
    def url(self) -> str:
        """The URL of the log, which stays the same."""
        return self.current.url()

    @property
    def app_url(self) -> str:
        """The URL for the connections of apps."""
        return self.url

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement on the server that takes changes."""
        return self.current.ask(statement)

    def strike(self, chance: random.Random, newest: Callable[[], int]) -> str:
        """Let it happen once; return a word for it, or ``""`` if nothing happens to this kind.

        :param newest: returns the number of the newest event that a client has received.
        """
        return ""

    def close(self) -> None:
        """End all servers."""
        self.current.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class KilledDatabase(Database):
    """It is killed (-9) and started again; or one of its processes is killed, and it starts again by itself."""

    title = "PostgreSQL, or one of its sessions, is killed (-9), and it starts again"

    def strike(self, chance: random.Random, newest: Callable[[], int]) -> str:
        """See :class:`Database`."""
        sessions = self.current.sessions("%")
        if chance.random() < 0.3 and sessions:
            pid, _ = chance.choice(sessions)
            if pid in self.current.processes():
                self.current.kill_session(pid)
                _wait_until(self.current.is_answering, "PostgreSQL has recovered")
                return "session killed"
        self.current.kill()
        time.sleep(chance.random() * _DOWN_SECONDS)
        self.current.start()
        return "killed"


class PooledDatabase(Database):
    """Apps reach it through PgBouncer in transaction mode, and all its sessions are ended again and again."""

    title = "behind PgBouncer; all sessions are ended (pg_terminate_backend)"

    def __init__(self) -> None:
        super().__init__()
        try:
            self._pooler = PgBouncer(self.current, pool=_POOL)
        except BaseException:
            self.current.close()
            raise

    @property
    def url(self) -> str:
        """See :class:`Database`."""
        return self._pooler.url(listen=self.current.url())

    @property
    def app_url(self) -> str:
        """See :class:`Database`."""
        return self._pooler.url()

    def strike(self, chance: random.Random, newest: Callable[[], int]) -> str:
        """See :class:`Database`."""
        self.current.end_sessions("%")
        return "sessions ended"

    def close(self) -> None:
        """See :class:`Database`."""
        self._pooler.close()
        super().close()


class ReplacedDatabase(Database):
    """It is killed (-9), and its replica replaces it. Then another replica is made at the old address.

    :param is_synchronous: whether a commit waits for the replica. If not, the replica is also cut off for a moment
        before its promotion, so it lacks transactions.
    """

    def __init__(self, *, is_synchronous: bool) -> None:
        super().__init__()
        self.keeps_all = is_synchronous
        kind = "a synchronous replica" if is_synchronous else "an asynchronous replica, which is behind,"
        self.title = f"PostgreSQL is killed (-9), and {kind} takes over"
        self._spare: PostgresServer | None = None
        self._free_port = 0
        try:
            self._spare = self.current.replica()
            self._follow()
        except BaseException:
            self.close()
            raise
        ports = (self.current.port, self._spare.port)
        hosts = ",".join(f"{self.current.host}:{port}" for port in ports)
        self._url = f"postgresql://{self.current.user}@{hosts}/{self.current.database}"

    @property
    def url(self) -> str:
        """See :class:`Database`."""
        return f"{self._url}?target_session_attrs=read-write"

    def _follow(self) -> None:
        if self.keeps_all:
            self.current.make_synchronous()

    def strike(self, chance: random.Random, newest: Callable[[], int]) -> str:
        """See :class:`Database`."""
        old = self.current
        if self._spare is None:
            self._spare = PostgresServer(copy_of=old, port=self._free_port)
            self._follow()
        if not self.keeps_all:
            spare = self._spare
            spare.hold_back()
            time.sleep(chance.random() * _BEHIND_SECONDS)
            ((last,),) = spare.ask(_LAST)
            _wait_until(lambda: newest() > last, "a client has received an event that the replica lacks")
        # All its processes end at the same time, as if its host failed. A session that outlives the others could
        # show a transaction that the replica does not have.
        old.pause()
        old.kill()
        self._spare.promote()
        self.current, self._spare, self._free_port = self._spare, None, old.port
        old.close()
        return "replaced"

    def close(self) -> None:
        """See :class:`Database`."""
        if self._spare is not None:
            self._spare.close()
        super().close()


def _wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {_WAIT_SECONDS:g} seconds: {what}")
        time.sleep(POLL_SECONDS)
