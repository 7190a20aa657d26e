"""A log in PostgreSQL: many machines, one order, and an event commits with the app's own rows.

It needs PostgreSQL 13 or newer, and the extra ``postgres``. An event is a row that its writer inserts, in the
writer's own transaction. It gets its number after the commit, or at the end of a transaction of the log itself. So
the numbers follow the order in which events become visible. :mod:`.schema` has the tables and functions.

Any thread may call every method. Connections are shared, and none is held between two calls.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

import psycopg

from ...errors import HistoryGone, LogError, LogUnavailable, LogUnusable
from ..doorbell import Doorbell
from ..event_id import parse_event_id
from ..group_commit import Group, GroupCommit, Take
from ..interface import EventLog, NestedTransaction, Snapshot, Transaction
from ..record import Page, Record
from ..retention import Retention
from ..startup import open_at_start
from ..validation import validate_event
from .app_connection import run_over
from .client import PostgresClient
from .epochs import Epochs
from .known_epochs import KnownEpochs
from .listener import Listener
from .pages import BYTES, ROWS, page_from, record_of
from .schema import SCHEMA, statements
from .statements import statements_for
from .text import array_of, to_database
from .timeouts import Timeouts
from .transaction import PostgresSnapshot, PostgresTransaction, append_behind_others
from .trimmer import REMEMBERED_CHANNELS, Trimmer
from .url import parse_url

_log = logging.getLogger(__name__)

# The table of the log itself has no row (an error of our own functions).
_EMPTY = "SSE02"


class _Waiting:
    """The part of one thread in a group: an event, or the wish that all committed events have numbers.

    :ivar event: channel, type and data, as PostgreSQL takes them; ``None`` for the wish.
    :ivar epoch: of the event's number; known after the commit.
    :ivar waited: how many events of apps got their numbers in the same transaction.
    """

    __slots__ = ("epoch", "event", "waited")

    def __init__(self, event: tuple[str, str | None, str] | None) -> None:
        self.event = event
        self.epoch = ""
        self.waited = 0


class PostgresLog(EventLog):
    """``postgresql://user:password@host:port/database``, as libpq takes it.

    If PostgreSQL cannot be reached at the start, each use tries again. The first use makes the tables, if the role
    may do that.

    :param url: as above. ``?schema=`` (default ``public``) and ``?prefix=`` (default ``sse_threaded``) name the
        tables. ``?listen=`` is the URL of the listening connection, for a pooler that cannot listen.
    :param retention: how much is kept, default :class:`Retention`.
    :param timeouts: default :class:`~.timeouts.Timeouts`.
    :param remembered_channels: for how many channels without events the log remembers the newest trimmed number;
        default 10,000.
    :raises LogUnusable: the URL is invalid, PostgreSQL denies the user, the tables are missing and cannot be made,
        or the log's schema is newer.
    :ivar listener: the thread that waits for events; it runs from the first doorbell on.
    """

    # The listener rings for every event, and looks for lost notifications over its own connection.
    poll_interval = None
    rings_first = False

    def __init__(
        self,
        url: str,
        retention: Retention | None = None,
        *,
        timeouts: Timeouts | None = None,
        remembered_channels: int = REMEMBERED_CHANNELS,
    ) -> None:
        self._address = parse_url(url)
        self.url = self._address.url
        self._timeouts = timeouts or Timeouts()
        self._statements = statements_for(self._address)
        self._client = PostgresClient(self._address, self._timeouts)
        self.listener = Listener(
            self._address, self._client, self._give_numbers, self._timeouts, newest=self._statements.newest
        )
        self._trimmer = Trimmer(self._client, self._statements, retention or Retention(), remembered_channels)
        self._appends: GroupCommit[_Waiting] = GroupCommit(self._commit, self.url, self._timeouts.write)
        self._begin(None)
        try:
            open_at_start(self.url, lambda: self.epoch)
        except BaseException:
            self._client.close()
            raise

    def _begin(self, known: Epochs | None) -> None:
        self._epochs = KnownEpochs(self.url, self._prepare, self.listener.ring, known)
        # Whether a group is being committed: one at a time, as PostgreSQL would let the next one wait.
        self._committing = threading.Lock()
        self._is_held_for_fork = False
        # For each thread: whether it has a transaction open, and whether the numberer was awake when it added its
        # last event to a transaction of the app.
        self._own = threading.local()

    def __repr__(self) -> str:
        known = self._epochs.known
        return f"<PostgresLog {self.url} epoch={known and known.current} {self.listener!r}>"

    # The epoch.

    @property
    def epoch(self) -> str:
        """See :class:`EventLog`.

        :raises LogError: it is not known yet.
        """
        return self._epochs.get().current

    def _prepare(self, retry_for: float = 0.0) -> Epochs:
        """Make the log if it is not there; returns its epochs."""
        ((exists, takes_text),) = self._client.run(self._statements.exists, (), retry_for)
        if not takes_text:
            raise LogUnusable(self.url, "the database's encoding is not UTF8; make the log in another database")
        if not exists:
            self._make(retry_for)
        rows = self._client.run(self._statements.state)
        if not rows:
            self._make(retry_for)
            rows = self._client.run(self._statements.state)
        ((version, epoch, earlier, upto),) = rows
        if version > SCHEMA:
            versions = f"a newer sse_threaded (schema {version}; this one knows {SCHEMA})"
            raise LogUnusable(self.url, f"written by {versions}; upgrade this program")
        return Epochs(epoch, dict(zip(earlier, upto, strict=True)))

    def _make(self, retry_for: float) -> None:
        try:
            with self._client.transaction(retry_for=retry_for, timeout=self._timeouts.write) as session:
                for statement in statements(self._address):
                    session.run(statement)
        except psycopg.Error as error:
            if isinstance(error, psycopg.errors.InsufficientPrivilege):
                missing = "the log's tables are missing, and this role cannot make them"
                how = "`sse-threaded schema` prints the SQL for a role that may"
                raise LogUnusable(self.url, f"{missing}; {how}") from error
            raise self._client.errors.translate(error) from self._client.errors.cause(error)

    # Writing.

    def append(
        self, channel: str, data: object, event: str | None = None, *, connection: object | None = None
    ) -> str:
        """See :class:`EventLog`.

        :param connection: the app's own connection to the log's database: psycopg's, psycopg2's, Django's, or a
            ``Session`` or ``Connection`` of SQLAlchemy. The event commits, and rolls back, with the transaction
            that is open there. It has no number before the commit, so the answer is ``""``. Call :meth:`ring`
            after the commit; else some process gives the number a moment later. A transaction for two-phase commit
            must call the SQL function ``sse_threaded_publish`` instead, with ``wakes => false``: PostgreSQL
            prepares no transaction that has used ``NOTIFY``.
        :raises LogUnavailable: PostgreSQL could not be reached for 5 s, or it refuses. If only the answer did not
            come, the event may be in the log or not.
        """
        name, text, kind = validate_event(channel, data, event, self.json_default)
        row = (to_database(name), None if kind is None else to_database(kind), to_database(text))
        if connection is not None:
            self._append_over(connection, row)
            return ""
        self._require_not_nested()
        self._epochs.get(self._timeouts.retry)
        waiting = _Waiting(row)
        sequence = self._appends.append(waiting)
        return f"{waiting.epoch}-{sequence}"

    def _require_not_nested(self) -> None:
        if getattr(self._own, "has_transaction", False):
            raise NestedTransaction(self.url)

    def _append_over(self, connection: object, row: tuple[str, str | None, str]) -> None:
        self._epochs.get(self._timeouts.retry)
        channel, kind, text = row
        answer = run_over(connection, self._statements.publish, (channel, text, kind, True), self.url)
        ((self._own.is_soon_numbered, epoch),) = answer
        if not self._epochs.has_had(epoch):
            there = "the connection is to another log of this name, in another database or server"
            raise LogUnusable(self.url, f"{there}; roll back, and give the hub the URL of that database")

    def _commit(self, take: Take[_Waiting], wait: float | None) -> None:
        """Append the events of several threads in one transaction; see :class:`GroupCommit`."""
        if not self._committing.acquire(timeout=self._timeouts.write if wait is None else wait):
            raise LogUnavailable(
                self.url, f"kept by another thread for over {self._timeouts.write:g} s; try again"
            )
        try:
            group = take()
            if group:
                self._number(group)
        finally:
            self._committing.release()

    def _number(self, group: Group[_Waiting]) -> None:
        given = [each for each in group if each.row.event is not None]
        events = [each.row.event for each in given if each.row.event is not None]
        columns = [array_of(event[column] for event in events) for column in range(3)]
        try:
            values = [*columns, *self._epochs.newest]
            epoch, last, waited = self._append(values, has_events=bool(events))
        except LogError:
            raise
        except BaseException:
            # A signal handler has raised, perhaps after the commit. Another try could append the events twice.
            for each in group:
                each.error = LogUnavailable(
                    self.url, "the thread that wrote it was interrupted; it may be in the log"
                )
            raise
        group.is_committed = True
        for each in group:
            each.row.waited = waited
        for number, each in enumerate(given, last - len(given) + 1):
            each.number, each.row.epoch = number, epoch
        with suppress(LogError):  # the events are in the log; the next reader finds out
            self._epochs.note(epoch, last)
        if given and self.listener.why_polling is not None:
            self.listener.ring()

    def _append(
        self, values: Sequence[object], *, has_events: bool, may_make: bool = True
    ) -> tuple[str, int, int]:
        client, timeout = self._client, self._timeouts.write
        retry_for = self._timeouts.retry if has_events else 0.0
        try:
            return append_behind_others(
                lambda: client.run(self._statements.append, values, retry_for, timeout=timeout),
                self.url,
                timeout if has_events else 0.0,
            )
        except psycopg.Error as error:
            if not may_make or error.sqlstate != _EMPTY:
                raise LogUnusable(self.url, client.errors.said(error)) from error
        self._make(retry_for)
        return self._append(values, has_events=has_events, may_make=False)

    def _give_numbers(self) -> int:
        """Give numbers to the events that apps have committed; returns how many. The listener calls it."""
        waiting = _Waiting(None)
        self._appends.append(waiting)
        return waiting.waited

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See :class:`EventLog`; errors of the caller's own statements pass.

        From its first event on, other appends of all processes wait for its end, for 8 s at most. If it waits for
        5 s between two statements, PostgreSQL ends it: its host may be gone.
        """
        self._require_not_nested()
        self._epochs.get(self._timeouts.retry)
        transaction: PostgresTransaction | None = None
        try:
            self._own.has_transaction = True
            with self._client.transaction(retry_for=self._timeouts.retry, timeout=self._timeouts.write) as session:
                transaction = PostgresTransaction(self._client, session, self._statements, self._timeouts.write)
                transaction.json_default = self.json_default
                try:
                    yield transaction
                finally:
                    transaction.over = True
        finally:
            self._own.has_transaction = False
        if transaction.place is not None:
            with suppress(LogError):
                self._epochs.note(*transaction.place)

    # Reading.

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """See :class:`EventLog`; errors of the caller's own statements pass."""
        self._epochs.get()
        with self._client.transaction(isolation="repeatable read", read_only=True) as session:
            yield PostgresSnapshot(self._client, session, self._statements)

    def _last(self) -> tuple[str, int, bool]:
        """Return the epoch, the newest number, and whether this role can publish."""
        self._epochs.get()
        rows = self._client.run(self._statements.last, may_repeat=True)
        if not rows:
            raise self._epochs.made_anew()  # the next append makes it
        ((epoch, last, may_publish),) = rows
        return epoch, last, may_publish

    def last_sequence(self) -> int:
        """See :class:`EventLog`."""
        for _ in range(2):
            epoch, last, _ = self._last()
            if self._epochs.note(epoch, last):
                return last
        raise self._epochs.made_anew()

    def check(self) -> str:
        """See :class:`EventLog`."""
        failure = self.listener.failure
        if failure is not None:
            raise LogUnavailable(self.url, failure)
        _, _, may_publish = self._last()
        if not may_publish:
            raise LogUnusable(self.url, "this role may not insert events, or this PostgreSQL is a replica")
        return self.last_event_id()

    def sequence_of(self, last_event_id: str, *, known: int = 0) -> int:
        """See :class:`EventLog`; an id of an earlier epoch is valid, if its event is not lost."""
        epoch, sequence = parse_event_id(last_event_id)
        if epoch == self.epoch:
            return super().sequence_of(last_event_id, known=known)
        if not self._epochs.has_had(epoch):
            raise HistoryGone("epoch")
        if self._epochs.is_changing:
            raise self._epochs.made_anew()
        epochs = self._epochs.get()
        if epoch != epochs.current:
            epochs.require_kept(epoch, sequence)
        return sequence

    def read(self, after: int, *, channels: Collection[str] | None = None, upto: int | None = None) -> Page:
        """See :class:`EventLog`."""
        is_pump = channels is None and upto is None and self.listener.is_running
        if is_pump:
            self._epochs.begin_reading()
            failure = self.listener.failure
            if failure is not None:
                raise LogUnavailable(self.url, failure)
        names = None if channels is None else list(dict.fromkeys(channels))
        if names is not None and not names:
            return Page()
        self._epochs.get()
        wanted = None if names is None else array_of(map(to_database, names))
        values = (after, wanted, upto, ROWS, BYTES)
        rows = self._client.run(self._statements.read, values, may_repeat=True)
        if not rows:
            raise self._epochs.made_anew()
        epoch, last = rows[0][:2]
        if not self._epochs.note(epoch, last):
            if self._epochs.is_changing and not is_pump:
                raise self._epochs.made_anew()
            self._epochs.take_on()
            raise HistoryGone("epoch")
        if is_pump and after > last:
            # The log has lost its end. The next append would give numbers again, so a new epoch must begin first.
            with suppress(LogError):
                self._give_numbers()
            self._epochs.take_on()
            raise HistoryGone("beyond")
        return page_from(rows, after, names, upto)

    def newest(self, channel: str) -> Record | None:
        """See :class:`EventLog`."""
        self._epochs.get()
        rows = self._client.run(self._statements.newest_of, [to_database(channel)], may_repeat=True)
        return record_of(*rows[0]) if rows else None

    def trimmed(self, channels: Collection[str]) -> int:
        """See :class:`EventLog`."""
        self._epochs.get()
        names = array_of(map(to_database, channels))
        ((number,),) = self._client.run(self._statements.trimmed, [names], may_repeat=True)
        return int(number)

    # Doorbells, trimming and the end.

    def open_doorbell(self) -> Doorbell:
        """See :class:`EventLog`; the first one starts the listener. A process with a doorbell also trims."""
        self._epochs.get()
        doorbell = self.listener.open_doorbell()
        self._trimmer.start()
        return doorbell

    def ring(self) -> None:
        """See :class:`EventLog`; events that apps have committed over their own connections get their numbers."""
        if getattr(self._own, "is_soon_numbered", False):
            self._own.is_soon_numbered = False
            return
        if not getattr(self._own, "has_transaction", False):
            try:
                self._epochs.get()
                self._give_numbers()
            except LogError as error:
                # The events are committed. The process that gives the numbers finds them.
                fields = {"event": "numbers_late", "url": error.url, "error": type(error).__name__}
                _log.info("could not give numbers now: %s", error, extra=fields)
        self.listener.ring()

    def trim(self) -> int:
        """See :class:`EventLog`."""
        self._epochs.get()
        return self._trimmer.trim_all()

    def close(self) -> None:
        """See :class:`EventLog`."""
        self._trimmer.stop()
        self.listener.stop()
        self._client.close()

    def before_fork(self) -> None:
        """See :class:`EventLog`."""
        self._is_held_for_fork = self._committing.acquire(timeout=self._timeouts.write)

    def after_fork(self, in_child: bool) -> None:
        """See :class:`EventLog`; the child has connections and a listener of its own."""
        if in_child:
            self._client.after_fork_in_child()
            self.listener.after_fork_in_child()
            self._trimmer.after_fork_in_child()
            self._appends.after_fork_in_child()
            self._begin(self._epochs.known)
        elif self._is_held_for_fork:
            self._is_held_for_fork = False
            self._committing.release()
