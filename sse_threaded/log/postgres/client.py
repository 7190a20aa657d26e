"""Runs statements in PostgreSQL over a few connections that threads share; waits while it cannot be reached."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

from ...errors import LogUnavailable
from ..interface import TransactionOver
from ..reachability import Reachability
from .connector import Connector
from .driver import BoundedConnection
from .errors import ErrorTranslator, Unreachable, is_away, is_lost, is_own, is_passing, is_replica
from .pool import Pool
from .timeouts import Timeouts
from .url import Address

T = TypeVar("T")

# Seconds between two tries, doubling from the first to the last.
_FIRST_RETRY, _LAST_RETRY = 0.02, 0.5

# Connections of one client at most. Threads that need a further one wait for it.
_CONNECTIONS = 8

_READ_COMMITTED = "read committed"
_ISOLATION_LEVELS = (_READ_COMMITTED, "repeatable read", "serializable")


class Session:
    """An open transaction. One thread uses it, inside the block of :meth:`PostgresClient.transaction`.

    :param url: the log's, without a password.
    :param connection: psycopg's.
    :ivar connection: psycopg's, for the caller's own rows. Each of its calls has a bound. Do not commit on it.
    """

    def __init__(self, url: str, connection: BoundedConnection) -> None:
        self._url = url
        self.connection = connection

    def run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement in the transaction; returns its rows.

        :param statement: with ``%s`` for each value. Without values a ``%`` is a ``%``.
        :param values: default none.
        :raises TransactionOver: the caller has ended the transaction.
        :raises psycopg.Error: any error. :meth:`PostgresClient.transaction` translates it if it leaves the block.
        """
        if self.connection.is_idle:
            raise TransactionOver(self._url)
        return self.connection.rows(statement, values)


class PostgresClient:
    """A client of one database, for any thread. Each call has a bound, also when PostgreSQL does not answer.

    While PostgreSQL cannot be reached, one thread tries and all others fail at once.

    :param address: where the database is.
    :param timeouts: default :class:`Timeouts`.
    :param connections: how many connections it has at most; default 8. They are made when they are needed.
    :raises LogUnusable: libpq does not take the URL.
    :ivar url: the log's, without a password.
    :ivar errors: turns the driver's errors into errors of this package.
    """

    def __init__(
        self, address: Address, timeouts: Timeouts | None = None, *, connections: int = _CONNECTIONS
    ) -> None:
        self.url = address.url
        self.errors = ErrorTranslator(address.url, address.secrets)
        self._timeouts = timeouts or Timeouts()
        try:
            connector = Connector(address.conninfo, "sse_threaded", self._timeouts)
        except psycopg.Error as error:
            raise self.errors.translate(error) from None
        self._pool = Pool(address.url, connector, self._timeouts, connections)
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._reachability = Reachability(self._timeouts.forget, self._refusal)

    def __repr__(self) -> str:
        return f"<PostgresClient {self.url} {self._pool!r}>"

    @property
    def system_identifier(self) -> str:
        """Of the server of the newest connection; ``""`` before the first, or if this role may not read it."""
        return self._pool.system_identifier

    @property
    def on_new_server(self) -> Callable[[], None] | None:
        """Called when a connection leads to another server than before, by their system identifiers.

        The connection is not used yet. It runs on the thread that needs the connection; ``None``: not called.
        """
        return self._pool.on_new_server

    @on_new_server.setter
    def on_new_server(self, call: Callable[[], None] | None) -> None:
        self._pool.on_new_server = call

    def run(
        self,
        statement: str,
        values: Sequence[object] = (),
        retry_for: float = 0.0,
        *,
        may_repeat: bool = False,
        timeout: float | None = None,
    ) -> list[tuple[Any, ...]]:
        """Run one statement as a transaction of its own, at ``READ COMMITTED``; returns its rows.

        :param statement: with ``%s`` for each value. Without values a ``%`` is a ``%``.
        :param values: default none.
        :param retry_for: for how many seconds to try again while PostgreSQL cannot be reached, or refuses for now,
            and the statement certainly had no effect. Default 0.
        :param may_repeat: the statement may run twice, so try again also if only the answer did not come. Default
            ``False``.
        :param timeout: seconds for one answer; default ``Timeouts.answer``.
        :raises Unreachable: PostgreSQL cannot be reached.
        :raises AnswerLost: no answer came; the statement may have taken effect or not.
        :raises LogUnavailable: PostgreSQL refuses for now.
        :raises LogUnusable: a person must act.
        :raises psycopg.Error: a function of ours has raised it, with a code that begins with ``SSE``.
        """

        def use(connection: BoundedConnection) -> list[tuple[Any, ...]]:
            if connection.is_plain:
                return connection.rows(statement, values)
            connection.rows(self._begin_statement(connection, _READ_COMMITTED, read_only=False))
            rows = connection.rows(statement, values)
            connection.rows("COMMIT")
            return rows

        def once() -> list[tuple[Any, ...]]:
            with self._pool.use(timeout) as connection:
                return use(connection)

        return self._persist(once, retry_for, may_repeat=may_repeat)

    @contextmanager
    def transaction(
        self,
        *,
        isolation: str = _READ_COMMITTED,
        read_only: bool = False,
        retry_for: float = 0.0,
        timeout: float | None = None,
    ) -> Iterator[Session]:
        """Begin a transaction: it commits at the end of the block, and an exception rolls it back.

        An error of the caller's own statements leaves the block as it is, such as a violated constraint. Only if
        PostgreSQL cannot be reached, or ends the transaction, the error is one of ours.

        :param isolation: default ``"read committed"``.
        :param read_only: nothing may be changed in it; default ``False``.
        :param retry_for: for how many seconds to try again to begin; default 0.
        :param timeout: seconds for one answer; default ``Timeouts.answer``.
        :raises Unreachable: PostgreSQL cannot be reached; nothing of it happened.
        :raises AnswerLost: no answer came to the commit; all of it happened, or nothing.
        :raises LogUnavailable: PostgreSQL refuses for now; nothing of it happened.
        """
        if isolation not in _ISOLATION_LEVELS:
            raise ValueError(f"isolation must be one of {', '.join(_ISOLATION_LEVELS)}")

        def start() -> BoundedConnection:
            connection = self._pool.take(timeout)
            try:
                connection.rows(self._begin_statement(connection, isolation, read_only=read_only))
            except BaseException:
                self._pool.give_back(connection)
                raise
            return connection

        connection = self._persist(start, retry_for, may_repeat=True)
        is_committing = False
        try:
            yield Session(self.url, connection)
            is_committing = True
            self._commit(connection)
        except psycopg.Error as error:
            # The caller's block may also raise an error of another connection.
            is_ours = connection.closed or connection.is_failed or is_committing
            self._pool.roll_back(connection)
            is_refused_write = read_only and is_replica(error)  # the caller's mistake
            if not is_ours or is_own(error) or is_refused_write or not is_passing(error):
                raise
            self._note(error)
            had_effect = None if is_committing else False
            raise self.errors.translate(error, had_effect=had_effect) from self.errors.cause(error)
        except BaseException:
            self._pool.roll_back(connection)
            raise
        finally:
            self._pool.give_back(connection)

    def _commit(self, connection: BoundedConnection) -> None:
        if connection.closed:
            raise Unreachable(self.url, "the connection was lost in the transaction; nothing of it happened")
        if connection.is_idle:
            raise TransactionOver(self.url)
        if connection.is_failed:
            # PostgreSQL would answer COMMIT with a rollback, and no error.
            self._pool.roll_back(connection)
            refused = "a statement of the transaction failed before, so PostgreSQL has rolled all of it back"
            raise LogUnavailable(self.url, refused)
        connection.rows("COMMIT")

    def _persist(self, once: Callable[[], T], retry_for: float, *, may_repeat: bool) -> T:
        """Call ``once`` until it succeeds, or the time is over; translate its error."""
        if self._pid != os.getpid():
            self.after_fork_in_child()  # Python did not announce the fork
        with self._reachability.attempt(retry_for) as seconds:
            return self._try_again(once, seconds, may_repeat)

    def _refusal(self) -> Unreachable:
        return Unreachable(self.url, "PostgreSQL does not answer; another thread is trying")

    def _try_again(self, once: Callable[[], T], retry_for: float, may_repeat: bool) -> T:
        wait, deadline = _FIRST_RETRY, time.monotonic() + retry_for
        while True:
            try:
                answer = once()
            except psycopg.Error as error:
                self._note(error)
                if is_own(error):
                    raise
                again = is_passing(error) and (may_repeat or not is_lost(error))
                if not again or time.monotonic() + wait > deadline:
                    tried_for = retry_for if again else 0.0
                    had_effect = False if may_repeat else None
                    raise self.errors.translate(error, tried_for, had_effect=had_effect) from (
                        self.errors.cause(error)
                    )
            else:
                self.note_answer()
                return answer
            time.sleep(wait * (0.5 + secrets.randbelow(1000) / 1000))
            wait = min(wait * 2, _LAST_RETRY)

    def _note(self, error: psycopg.Error) -> None:
        if is_away(error):
            self._reachability.note_silence()
        else:
            self._reachability.note_answer()
        if is_away(error) or is_replica(error):
            self.reconnect()

    def note_answer(self) -> None:
        """Note that PostgreSQL answers."""
        self._reachability.note_answer()

    # The connections.

    def drop_idle(self) -> None:
        """Close the connections that no thread has used for ``Timeouts.idle`` seconds."""
        self._pool.drop_idle()

    def reconnect(self) -> None:
        """Make new connections from now on. A thread that uses a connection keeps it to the end."""
        self._pool.reconnect()

    def close(self) -> None:
        """Close all connections; idempotent. A thread that uses a connection keeps it to the end."""
        self._pool.close()

    def _begin_statement(self, connection: BoundedConnection, isolation: str, *, read_only: bool) -> str:
        """Return the statement that begins a transaction, whatever the defaults of the role are."""
        if read_only:
            return f"BEGIN ISOLATION LEVEL {isolation.upper()} READ ONLY"
        # A replica refuses this already. Without it, it refuses the change itself, by a code that says so.
        access = "" if connection.is_replica else "READ WRITE"
        # If this host is cut off, the transaction must not keep its locks for hours: all hosts wait for them.
        hold = f"SET LOCAL idle_in_transaction_session_timeout = {int(self._timeouts.hold * 1000)}"
        return f"BEGIN ISOLATION LEVEL {isolation.upper()} {access}; {hold}"

    def after_fork_in_child(self) -> None:
        """Begin without connections: they belong to the parent."""
        self._pool.after_fork_in_child()
        self._begin()
