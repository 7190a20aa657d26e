"""A log in a SQLite file: one machine, many processes, nothing to install.

The file may be the application's own. The log's tables begin with ``sse_``, and an event can be appended in the
same transaction that changes the application's rows. SQLite allows one writer at a time, so numbers are given in
the order of the commits. No reader sees a number before a smaller one.

A process has three connections: one writes, one reads, and one is the trimmer's.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress

from ...errors import HistoryGone, LogError
from ..doorbell import Doorbell, FifoDoorbell, Ringer
from ..group_commit import Group, GroupCommit, Take
from ..interface import EventLog, Snapshot, Transaction
from ..record import Page, Record, page_of
from ..retention import Retention
from ..startup import open_at_start
from ..validation import validate_event
from .app_connection import database_name, sqlite3_connection, transaction_of
from .connection import LogConnection, SharedConnection
from .errors import raise_translated, translated
from .file import SQLiteFile
from .health_check import HealthCheck
from .own_events import OwnEvents
from .pages import EVENTS_AFTER, NEWEST_EVENT, last_trimmed, read_page
from .schema import last_sequence
from .timeouts import Timeouts
from .transaction import INSERT, Row, SQLiteSnapshot, SQLiteTransaction
from .trimmer import REMEMBERED_CHANNELS, Trimmer
from .url import parse_url

_log = logging.getLogger(__name__)


class SQLiteLog(EventLog):
    """``sqlite:///path`` (relative to the working directory) or ``sqlite:////path`` (absolute).

    :param url: as above. With ``?synchronous=normal`` a power cut (not a crash of the process) may undo the last
        events, and the publish rate is several times higher.
    :param retention: how much is kept, default :class:`Retention`.
    :param must_open: refuse a file that cannot be opened now. Default ``False``: each use tries again, and raises
        :class:`LogUnavailable` until the file can be opened.
    :param timeouts: default :class:`~.timeouts.Timeouts`.
    :param remembered_channels: for how many channels without events the log remembers the newest trimmed number;
        default 10,000.
    :raises LogUnusable: the URL is invalid, the file is corrupt, or its schema is newer (see
        :mod:`sse_threaded.log.startup`).
    """

    # If a process dies between its commit and the ring, readers find its event by this look.
    poll_interval = 1.0

    def __init__(
        self,
        url: str,
        retention: Retention | None = None,
        *,
        must_open: bool = False,
        timeouts: Timeouts | None = None,
        remembered_channels: int = REMEMBERED_CHANNELS,
    ) -> None:
        self.url = url
        path, synchronous = parse_url(url)
        self._file = SQLiteFile(path, url, synchronous, timeouts)
        open_at_start(url, self._file.require_prepared, is_required=must_open)
        self._writer = SharedConnection(self._file)
        self._reader = SharedConnection(self._file, read_only=True)
        self._appends: GroupCommit[Row] = GroupCommit(self._commit, url, self._file.timeouts.lock)
        self._doorbell_folder = os.path.realpath(path) + "-bells"  # the same for every link to the file
        self._ringer = Ringer(self._doorbell_folder)
        self._trimmer = Trimmer(self._file, retention or Retention(), remembered_channels)
        self._own_events = OwnEvents()
        self._own_doorbells: set[str] = set()  # names
        self._health = HealthCheck(self._file, self._writer)

    @property
    def epoch(self) -> str:
        """See :class:`EventLog`.

        :raises LogError: the file could not be opened until now, and cannot be opened now either.
        """
        if not self._file.epoch:
            with self._reader.use():
                pass  # this opens it
        return self._file.epoch

    # Writing.

    def append(
        self, channel: str, data: object, event: str | None = None, *, connection: object | None = None
    ) -> str:
        """See :class:`EventLog`.

        :param connection: as there. The log's file may also be a database attached to it. Without a call of
            :meth:`ring` after the commit, readers find the event up to ``poll_interval`` late. In autocommit mode
            with no transaction open, the event is committed when this returns.
        """
        row = validate_event(channel, data, event, self.json_default)
        if connection is not None:
            return self._append_with(sqlite3_connection(connection, self.url), row)
        self._writer.require_not_nested()
        try:
            sequence = self._appends.append(row)
        except sqlite3.Error as error:  # about this event alone
            raise_translated(error, self.url)
            raise
        self._trimmer.count_append(channel)
        return f"{self._file.epoch}-{sequence}"

    def _commit(self, take: Take[Row], wait: float | None) -> None:
        """Append the events of several threads in one transaction; see :class:`GroupCommit`."""
        group: Group[Row] = Group()
        try:
            with self._writer.use(wait=wait) as writer:
                self._file.begin_write(writer)
                group = take()
                self._write(writer, group)
                self._file.require_unchanged(writer.wal_files)
                self._own_events.add(
                    Record(each.number, each.row[0], each.row[2], each.row[1]) for each in group if not each.error
                )
        finally:
            if group.is_committed:
                self._ringer.ring(self._own_doorbells)

    def _write(self, writer: LogConnection, group: Group[Row]) -> None:
        first = last = 0
        ends = False
        try:
            for each in group:
                try:
                    each.number = last = writer.execute(INSERT, (*each.row, time.time())).lastrowid or 0
                except sqlite3.Error as error:
                    if not writer.in_transaction:
                        raise  # SQLite has rolled back all events
                    each.error = error
                first = first or last
            if last:
                self._file.mark.reserve(self._file.epoch, last, first - 1)
            ends = True
            writer.execute("COMMIT")
        except BaseException as error:
            # A signal handler may raise after the commit. Then nothing is rolled back.
            has_failed = writer.in_transaction or isinstance(error, (sqlite3.Error, MemoryError))
            group.is_committed = ends and not has_failed
            if not group.is_committed:
                self._roll_back(writer)
            raise
        group.is_committed = True

    def _append_with(self, connection: sqlite3.Connection, row: Row) -> str:
        self._file.require_prepared()
        with translated(self.url):
            name = database_name(connection, self._file.path, self.url).replace('"', '""')
            insert = INSERT.replace("sse_events", f'"{name}".sse_events')
            with transaction_of(connection) as commits_at_end:
                sequence = connection.execute(insert, (*row, time.time())).lastrowid or 0
                self._file.require_unchanged()  # before the mark of another file is written
                committed = sequence - 1 if commits_at_end else self._committed()
                self._file.mark.reserve(self._file.epoch, sequence, committed, may_roll_back=not commits_at_end)
        self._trimmer.count_append(row[0])
        return f"{self._file.epoch}-{sequence}"

    def _committed(self) -> int | None:
        """Return the newest number as others see it; ``None`` if it cannot be read now.

        This does not wait for another thread's snapshot. The app's connection has the write lock already, so the
        writers of all processes would wait too.
        """
        try:
            with self._reader.use(wait=0) as reader:
                return last_sequence(reader)
        except LogError:
            return None

    def _roll_back(self, writer: sqlite3.Connection) -> None:
        if writer.in_transaction:  # SQLite rolls back by itself if the disk is full
            writer.execute("ROLLBACK")
        with suppress(LogError, sqlite3.Error):
            self._file.update_mark(writer)  # the reserved numbers are not used

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See :class:`EventLog`; errors of the caller's own statements pass, unless they are about the file."""
        with self._writer.use(known_only=True) as writer:
            transaction = SQLiteTransaction(self._file, writer, self._trimmer.count_append)
            transaction.json_default = self.json_default
            try:
                self._file.begin_write(writer)
                with writer.lent_to_app():
                    yield transaction
                transaction.require_kept()
                if writer.in_transaction:  # else the caller has committed
                    writer.execute("COMMIT")
                self._file.require_unchanged(writer.wal_files)
            except BaseException:
                self._roll_back(writer)
                raise
            finally:
                transaction.over = True
        if transaction.appended:
            self.ring()

    # Reading.

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """See :class:`EventLog`."""
        with self._reading(known_only=True) as reader, reader.lent_to_app():
            yield SQLiteSnapshot(self._file, reader)

    @contextmanager
    def _reading(self, *, known_only: bool = False) -> Iterator[LogConnection]:
        # All statements of the block see one state of the file.
        with self._reader.use(known_only=known_only) as reader:
            try:
                reader.execute("BEGIN")
                yield reader
            finally:
                if reader.in_transaction:
                    reader.execute("ROLLBACK")

    def last_sequence(self) -> int:
        """See :class:`EventLog`."""
        with self._reader.use() as reader:
            return last_sequence(reader)

    def last_event_id(self) -> str:
        """See :class:`EventLog`."""
        with self._reader.use() as reader:
            return f"{self._file.epoch}-{last_sequence(reader)}"

    def read(self, after: int, *, channels: Collection[str] | None = None, upto: int | None = None) -> Page:
        """See :class:`EventLog`."""
        if channels is None and upto is None:
            # Numbers are given without gaps. If no number is missing, nothing was trimmed: one statement is
            # enough. An open cursor would keep SQLite from copying the write-ahead log into the file.
            with self._reader.use() as reader, closing(reader.execute(EVENTS_AFTER, (after,))) as rows:
                page = page_of(map(Record._make, rows))
            if page and page[-1].sequence == after + len(page):
                return page
        # All channels are read in one state. Otherwise an event of the first channel that is appended while the
        # second is read would be lost for this reader.
        with self._reading() as reader:
            if last_trimmed(reader, channels) > after:
                raise HistoryGone("expired")
            return read_page(reader, after, channels, upto)

    def newest(self, channel: str) -> Record | None:
        """See :class:`EventLog`."""
        with self._reader.use() as reader:
            row = reader.execute(NEWEST_EVENT, (channel,)).fetchone()
        return None if row is None else Record._make(row)

    def trimmed(self, channels: Collection[str]) -> int:
        """See :class:`EventLog`."""
        with self._reading() as reader:
            return last_trimmed(reader, channels)

    def check(self) -> str:
        """See :class:`EventLog`; a good result holds for a second."""
        self._health.run()
        return self.last_event_id()

    # Doorbells, trimming and the end.

    def open_doorbell(self) -> Doorbell:
        """See :class:`EventLog`; a process with a doorbell also trims.

        :raises LogError: the file could not be opened until now, and cannot be opened now either.
        """
        with self._reader.use():
            pass  # this opens it
        self._trimmer.start()
        try:
            doorbell = FifoDoorbell(self._doorbell_folder, self._file.mode())
        except OSError as error:
            _log.warning(
                "%s: no doorbell for other processes (%s); looking every %g s instead",
                self.url,
                error,
                self.poll_interval,
                extra={"event": "doorbell_missing", "url": self.url},
            )
            pipe = Doorbell()
            self._ringer.add(pipe)
            return pipe
        self._own_doorbells.add(doorbell.name)
        return doorbell

    def own_events(self, after: int) -> Page | None:
        """See :class:`EventLog`."""
        return self._own_events.after(after)

    def ring(self) -> None:
        """See :class:`EventLog`."""
        self._ringer.ring()

    def trim(self) -> int:
        """See :class:`EventLog`."""
        return self._trimmer.trim_all()

    def close(self) -> None:
        """See :class:`EventLog`."""
        self._trimmer.stop()
        if self._file.mark.has_reserved:
            # In a transaction of this thread's own, other processes write the mark later.
            with suppress(LogError), self._writer.use() as writer:
                self._file.update_mark(writer)
                self._file.mark.sync()
        self._ringer.close()
        self._writer.close()
        self._reader.close()

    def before_fork(self) -> None:
        """See :class:`EventLog`."""
        for connection in (self._writer, self._reader, self._trimmer.connection):
            connection.before_fork()

    def after_fork(self, in_child: bool) -> None:
        """See :class:`EventLog`."""
        for connection in (self._writer, self._reader, self._trimmer.connection):
            connection.after_fork(in_child)
        if in_child:
            self._file.after_fork_in_child()
            self._health.after_fork_in_child()
            self._trimmer.after_fork_in_child()
            self._ringer.after_fork_in_child()
            self._appends.after_fork_in_child()
            self._own_events.after_fork_in_child()
            self._own_doorbells.clear()
