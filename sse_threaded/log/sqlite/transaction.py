"""The snapshot and the transaction that an app gets of a SQLite log."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import TypeAlias

from ...errors import LogUnavailable
from ..interface import Snapshot, Transaction, TransactionOver
from ..record import Record
from ..validation import validate_event
from .file import SQLiteFile
from .pages import NEWEST_EVENT
from .schema import execute_plain, last_sequence

# Channel, data and type of an event.
Row: TypeAlias = "tuple[str, str, str | None]"

# The values are a row and its Unix time, in seconds.
INSERT = "INSERT INTO sse_events (channel, data, event, created) VALUES (?, ?, ?, ?)"


class SQLiteSnapshot(Snapshot):
    """The log at one moment, and the connection for the app's own rows.

    :param file: the log's file.
    :param connection: one with an open transaction.
    """

    has_connection = True

    def __init__(self, file: SQLiteFile, connection: sqlite3.Connection) -> None:
        super().__init__(file.url)
        self._file = file
        self._connection = connection

    @property
    def connection(self) -> sqlite3.Connection:
        """See :class:`Snapshot`."""
        return self._connection

    def last_event_id(self) -> str:
        """See :class:`Snapshot`."""
        return f"{self._file.epoch}-{last_sequence(self._connection)}"


class SQLiteTransaction(SQLiteSnapshot, Transaction):
    """A write transaction.

    :param file: the log's file.
    :param connection: one with an open transaction that has the write lock.
    :param count_append: called with the channel of each event.
    :ivar appended: whether it has events that are or will be in the log.
    """

    appended = False
    _first = 0  # the first event's number
    _newest = (0, 0.0)  # the last event's number, and when it was made

    def __init__(
        self,
        file: SQLiteFile,
        connection: sqlite3.Connection,
        count_append: Callable[[str], None],
    ) -> None:
        super().__init__(file, connection)
        self._count_append = count_append

    def append(self, channel: str, data: object, event: str | None = None) -> str:
        """See :class:`Transaction`."""
        row = validate_event(channel, data, event, self.json_default)
        if self.over:
            raise TransactionOver(self._url)
        self.require_kept()
        if not self._connection.in_transaction:
            # The caller has committed. This event would be in the log at once, even if the block fails.
            raise TransactionOver(self._url)
        self.appended = True
        created = time.time()
        sequence = self._connection.execute(INSERT, (*row, created)).lastrowid or 0
        self._count_append(channel)
        self._first = self._first or sequence
        # Now and not at the end of the block, as the caller may commit.
        self._file.mark.reserve(self._file.epoch, sequence, self._first - 1)
        self._newest = sequence, created
        return f"{self._file.epoch}-{sequence}"

    def newest(self, channel: str) -> Record | None:
        """See :class:`Transaction`."""
        row = execute_plain(self._connection, NEWEST_EVENT, (channel,)).fetchone()
        return None if row is None else Record._make(row)

    def require_kept(self) -> None:
        """Raise if SQLite has rolled back by itself and the caller has caught the error.

        SQLite does so when the disk is full. The ids that the caller got belong to no events then.

        :raises LogUnavailable: it has.
        """
        if not self.appended or self._connection.in_transaction:
            return
        sequence, created = self._newest
        query = "SELECT created FROM sse_events WHERE sequence = ?"
        row = execute_plain(self._connection, query, (sequence,)).fetchone()
        # The caller has committed. An event that is missing although its number was given has been trimmed since.
        if row == (created,) or (row is None and sequence <= last_sequence(self._connection)):
            return
        self.appended = False
        raise LogUnavailable(self._url, "SQLite has rolled back the transaction; nothing up to there happened")
