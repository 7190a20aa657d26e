"""What a log is: events in one order, each with an id, kept for a while, and a doorbell.

``publish`` returns once the event is in the log, and fan-out reads the log and nothing else. So all processes and
all clients see one order. Any thread may call every method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ..errors import HistoryGone, LogError, LogUnusable
from .event_id import parse_event_id

if TYPE_CHECKING:
    import sqlite3

    from .doorbell import Doorbell
    from .record import Page

_LUA = "Lua needs a log in Redis (redis://host:6379/0); a log in SQLite has transaction() and snapshot()"


class NestedTransaction(LogError):
    """Using the log beside one's own open transaction or snapshot would wait for itself."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "this thread has a transaction or snapshot open; use that, or end it first")


class TransactionOver(LogError):
    """Its block was left, or the caller has ended it: what is appended now would be no part of it."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "this transaction is over; append inside its block, or begin another one")


def needs_sqlite(url: str, what: str) -> LogUnusable:
    """The error for a feature that other engines do not have."""
    others = "write hub.log.run() for a log in Redis" if url.startswith("redis") else "this log has no database"
    return LogUnusable(url, f"{what} needs a log in SQLite (sqlite:///file.db); {others}")


class Snapshot(ABC):
    """The log at one moment; made by the log, used by one thread.

    :param url: the log's, without a password.
    :ivar has_connection: whether :attr:`connection` can be used: ``True`` for a log in SQLite, else ``False``.
    """

    has_connection = False

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def connection(self) -> sqlite3.Connection:
        """SQLite's connection, inside the open transaction, for the caller's own rows.

        :raises LogUnusable: the log is not in SQLite.
        """
        raise needs_sqlite(self._url, "the connection of a transaction or snapshot")

    @abstractmethod
    def last_event_id(self) -> str:
        """The id of the newest event it sees."""


class Transaction(Snapshot):
    """Several steps on the log that take effect together.

    :ivar over: its block was left.
    """

    over = False

    @abstractmethod
    def append(self, channel: str, data: object, event: str | None = None) -> str:
        """Append an event when, and only when, the transaction commits; returns its id.

        :raises InvalidEvent: it cannot be an event.
        :raises TransactionOver: the block was left, or the caller has committed.
        :raises LogError: it could not be written; leave the block by this error.
        """


class EventLog(ABC):
    """The interface of all engines; :func:`sse_threaded.open_log` makes one from a URL.

    :ivar url: where it is, without a password.
    :ivar poll_interval: seconds after which a reader looks without having been rung for, ``None`` for never.
    """

    url: str
    poll_interval: float | None = None

    @property
    @abstractmethod
    def epoch(self) -> str:
        """The random letters that all ids of this log begin with."""

    @abstractmethod
    def append(
        self, channel: str, data: object, event: str | None = None, *, connection: object | None = None
    ) -> str:
        """Append one event and ring; returns its id once the event is in the log.

        :param channel: its channel, 1 to 255 characters.
        :param data: text, or anything JSON can write.
        :param event: its type; ``None``, the default, for ``message``.
        :param connection: for a log in SQLite, the app's own :class:`sqlite3.Connection` to the log's file. The
            event is then a part of the transaction that is open there, and does not ring: call :meth:`ring`
            after the commit. ``None``, the default: a transaction of its own.
        :raises InvalidEvent: it cannot be an event.
        :raises NestedTransaction: this thread has a transaction open.
        :raises LogUnusable: the log is not in SQLite, or the connection is not to the log's file.
        :raises LogError: it is not in the log.
        """

    def run(self, body: str, *args: str | bytes | int) -> Any:
        """Run Lua inside Redis, in one step with the events that it appends, where the log is in Redis.

        :param body: see :meth:`sse_threaded.log.redis.log.RedisLog.run`.
        :raises LogUnusable: the log is not in Redis.
        """
        raise LogUnusable(self.url, _LUA)

    def look(self, body: str, *args: str | bytes | int) -> Any:
        """Run Lua that changes nothing inside Redis, where the log is in Redis.

        :param body: see :meth:`sse_threaded.log.redis.log.RedisLog.look`.
        :raises LogUnusable: the log is not in Redis.
        """
        raise LogUnusable(self.url, _LUA)

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Transaction]:
        """A write transaction: commits at the end of the block and rings; an exception rolls all back.

        One is open at a time in a process; do in it what must happen together, and no more.

        :raises LogError: it could not begin, or could not commit; then nothing of it happened.
        """

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A read transaction: the caller's rows, and the last event ID that belongs to them.

        Nothing can be changed in it. Be quick: every other reader of this process waits for the block to end.

        :raises LogError: the log cannot be read.
        """

    @abstractmethod
    def last_sequence(self) -> int:
        """The newest event's number, 0 before the first."""

    @abstractmethod
    def read(self, after: int, *, channels: Collection[str] | None = None, upto: int | None = None) -> Page:
        """One page of events, oldest first; an empty one means that there are no more.

        :param after: the number after which to read.
        :param channels: only these; ``None``, the default, for all.
        :param upto: the last number wanted; ``None``, the default, for no bound.
        :raises HistoryGone: some of what is asked for has been trimmed.
        :raises LogError: the log cannot be read.
        """

    @abstractmethod
    def open_doorbell(self) -> Doorbell:
        """A new doorbell that every append rings, in whichever process; the caller closes it."""

    @abstractmethod
    def ring(self) -> None:
        """Ring all doorbells: for who appended through a connection of their own, after the commit."""

    @abstractmethod
    def close(self) -> None:
        """Release files and threads; idempotent."""

    @abstractmethod
    def before_fork(self) -> None:
        """Come to rest: no thread of this process is inside the log until ``after_fork``."""

    @abstractmethod
    def after_fork(self, in_child: bool) -> None:
        """Go on after a fork; the child lets go of what belongs to its parent."""

    def event_id(self, sequence: int) -> str:
        """The id of the event with this number."""
        return f"{self.epoch}-{sequence}"

    def last_event_id(self) -> str:
        """The id of the newest event; ``<epoch>-0`` before the first."""
        return self.event_id(self.last_sequence())

    def check(self) -> str:
        """Try what publishing needs, and change nothing; returns the id of the newest event. For health checks.

        :raises LogError: an event could not be published now, or the log cannot be read.
        """
        return self.last_event_id()

    def sequence_of(self, last_event_id: str, *, known: int = 0) -> int:
        """Return the number in a last event ID that a client has sent.

        :param last_event_id: any text.
        :param known: the log is known to have given the numbers up to this one, so they need no look. Default 0.
        :raises HistoryGone: it is ``malformed``, of another ``epoch``, or ``beyond`` the log's end.
        :raises LogError: the log cannot be read.
        """
        epoch, sequence = parse_event_id(last_event_id)
        if epoch != self.epoch:
            raise HistoryGone("epoch")
        if sequence > known and sequence > self.last_sequence():
            raise HistoryGone("beyond")
        return sequence
