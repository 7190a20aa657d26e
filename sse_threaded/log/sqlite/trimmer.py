"""Trims a SQLite log to its retention, on a thread of its own and a little at a time; it updates the mark too.

An append only counts. When a channel has grown by an eighth of its count bound, the thread trims that channel.
Every few seconds it looks at some other channels, because events also expire by age. So the work that an append
causes does not grow with the log.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import takewhile

from ...errors import LogError
from ...throttled_log import ThrottledLog
from ..retention import MESSAGES, MESSAGES_ROWS, MESSAGES_SECONDS, Retention
from .connection import LogConnection, SharedConnection
from .file import SQLiteFile
from .pages import FOLDED

_log = logging.getLogger(__name__)

# Events that one transaction deletes. Writers wait for it, a millisecond or two.
_BATCH = 250
# How many channels one round looks at; the next round goes on from there.
_CHANNELS_A_ROUND = 200
# Channels whose growth is counted at one time.
_COUNTED = 100 * _CHANNELS_A_ROUND
# Channels without events for which the log remembers the newest trimmed number. Beyond this limit the oldest are
# folded into one row. A client on a channel without a row gets a reset if it resumes from before the number of
# that one row.
REMEMBERED_CHANNELS = 10_000

_NEXT_CHANNEL = "SELECT channel FROM sse_events WHERE channel > ? ORDER BY channel LIMIT 1"
# Two queries: SQLite looks up one max or one min. A query with both would walk along the whole channel.
_SPAN = """SELECT (SELECT max(sequence) FROM sse_events WHERE channel = :channel)
    - (SELECT min(sequence) FROM sse_events WHERE channel = :channel)"""
_OVER_COUNT = "SELECT sequence FROM sse_events WHERE channel = ? ORDER BY sequence DESC LIMIT 1 OFFSET ?"
_OLDEST = "SELECT sequence, created FROM sse_events WHERE channel = ? ORDER BY sequence LIMIT ?"
_DELETE = "DELETE FROM sse_events WHERE channel = ? AND sequence <= ?"
_REMEMBER = """INSERT INTO sse_channels (channel, trimmed) VALUES (?, ?)
    ON CONFLICT (channel) DO UPDATE SET trimmed = max(trimmed, excluded.trimmed)"""
# The rows stay, so that the numbers of all channels together have no gap.
_OLD_DATA = """SELECT max(sequence) FROM sse_events
    WHERE channel = ? AND sequence > ? AND created < ? AND data != ''"""
_DROP_DATA = """UPDATE sse_events SET data = ''
    WHERE channel = ? AND sequence > ? AND sequence <= ? AND data != ''"""
_FOLDABLE = """SELECT channel, trimmed FROM sse_channels
    WHERE channel != '' AND NOT EXISTS (SELECT 1 FROM sse_events WHERE sse_events.channel = sse_channels.channel)
    ORDER BY trimmed LIMIT ?"""


class Trimmer:
    """The trimming of one process. Its thread starts with the first doorbell or the first full channel.

    :param file: the log's file.
    :param retention: how much is kept.
    :param remembered_channels: for how many channels without events the log remembers the newest trimmed number.
    :ivar connection: the connection that it trims with.
    """

    def __init__(
        self, file: SQLiteFile, retention: Retention, remembered_channels: int = REMEMBERED_CHANNELS
    ) -> None:
        self._retention = retention
        self._file = file
        self._remembered_channels = remembered_channels
        self.connection = SharedConnection(file)
        self._keeps_all = retention.count is None and retention.age is None
        self._slack = max(16, (retention.count or 0) // 8)
        self._throttled = ThrottledLog(_log)
        # Only the thread uses these two: the next round goes on after the channel, and after the number.
        self._last_channel = ""
        self._last_dropped = 0
        self._begin()

    def _begin(self) -> None:
        self._wake = threading.Event()
        # Guards _grown, _thread and _stopped.
        self._lock = threading.Lock()
        self._grown: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._stopped = False

    def count_append(self, channel: str) -> None:
        """Count one append to ``channel``; any thread."""
        if self._retention.count is None:
            return
        with self._lock:
            if len(self._grown) > _COUNTED:
                self._grown.clear()  # the counts must not grow without end; the rounds find these channels
            grown = self._grown[channel] = self._grown.get(channel, 0) + 1
        if grown >= self._slack:
            self._wake.set()
            self.start()

    def start(self) -> None:
        """Start the thread unless it runs; any thread."""
        with self._lock:
            if self._thread is None and not self._stopped:
                thread = threading.Thread(target=self._run, name="sse_threaded trimmer", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # the system has no more threads; the event is in the log, and the next one tries again
                self._thread = thread

    def stop(self) -> None:
        """End the thread, and wait a second for it; any thread."""
        with self._lock:
            thread, self._thread, self._stopped = self._thread, None, True
        self._wake.set()
        if thread is not None:
            thread.join(1.0)
            with suppress(LogError):
                self._update_mark()
        self.connection.close()

    def after_fork_in_child(self) -> None:
        """Begin without a thread: it stayed with the parent."""
        self._begin()

    def trim_all(self) -> int:
        """Trim every channel now; any thread. Returns how many events were deleted.

        :raises LogError: the file cannot be written now.
        """
        channel, trimmed = "", 0
        while channel := self._next_channel(channel):
            trimmed += self._trim(channel)
        self._fold()
        return trimmed

    def _run(self) -> None:
        period = self._file.timeouts.trim
        next_round = 0.0
        while not self._stopped:
            self._wake.wait(period)
            self._wake.clear()
            try:
                self.trim_grown()
                if time.monotonic() >= next_round:
                    next_round = time.monotonic() + period
                    self._round()
            except LogError as error:
                if not self._stopped:
                    # The events stay for now; the next round tries again.
                    fields = {"event": "trim_failed", "url": error.url, "error": type(error).__name__}
                    self._throttled.warning(str(error), "could not trim: %s", error, extra=fields)

    def trim_grown(self) -> None:
        """Trim the channels that have grown by an eighth of their count bound; the thread calls it.

        :raises LogError: the file cannot be written now.
        """
        with self._lock:
            grown = [channel for channel, by in self._grown.items() if by >= self._slack]
            for channel in grown:
                del self._grown[channel]
        for channel in grown:
            self._trim(channel)

    def _round(self) -> None:
        if not self._keeps_all:
            self._trim_some()
            self._fold()
        self.drop_data_of_messages()
        self._update_mark()

    def drop_data_of_messages(self) -> None:
        """Drop the data of old messages between the processes, and later the messages; the thread calls it.

        :raises LogError: the file cannot be written now.
        """
        cutoff = time.time() - MESSAGES_SECONDS
        with self.connection.use() as connection:
            row = connection.execute(_OLD_DATA, (MESSAGES, self._last_dropped, cutoff)).fetchone()
        if row[0] is not None:
            with self._writing() as connection:
                connection.execute(_DROP_DATA, (MESSAGES, self._last_dropped, row[0]))
            self._last_dropped = row[0]
        self._trim(MESSAGES)

    def _update_mark(self) -> None:
        with self.connection.use() as connection:
            self._file.update_mark(connection)
            self._file.mark.sync()

    def _trim_some(self) -> None:
        for _ in range(_CHANNELS_A_ROUND):
            self._last_channel = self._next_channel(self._last_channel)
            if not self._last_channel or self._stopped:
                break
            self._trim(self._last_channel)

    @contextmanager
    def _writing(self) -> Iterator[LogConnection]:
        with self.connection.use() as connection:
            self._file.begin_write(connection)
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _next_channel(self, after: str) -> str:
        with self.connection.use() as connection:
            row = connection.execute(_NEXT_CHANNEL, (after,)).fetchone()
        return row[0] if row else ""

    def _trim(self, channel: str) -> int:
        """Delete the events that ``channel`` need not keep, in small transactions; returns how many."""
        trimmed = 0
        with self.connection.use() as connection:
            limit = self._count_limit(connection, channel)
        while not self._stopped:
            with (
                self.connection.use() as connection,
                closing(connection.execute(_OLDEST, (channel, _BATCH))) as oldest,
            ):
                expired = self._expired(oldest, limit, self._kept(channel).age)
            if expired:
                with self._writing() as connection:
                    trimmed += connection.execute(_DELETE, (channel, expired[-1])).rowcount
                    connection.execute(_REMEMBER, (channel, expired[-1]))
            if len(expired) < _BATCH:
                break
        return trimmed

    def _kept(self, channel: str) -> Retention:
        return MESSAGES_ROWS if channel == MESSAGES else self._retention

    def _expired(self, oldest: Iterable[tuple[int, float]], limit: int, age: float | None) -> list[int]:
        # SQLite reads each event when it is asked for: if all may stay, it reads only the first.
        cutoff = float("-inf") if age is None else time.time() - age
        expired = takewhile(lambda event: event[0] <= limit or event[1] < cutoff, oldest)
        return [sequence for sequence, _ in expired]

    def _count_limit(self, connection: sqlite3.Connection, channel: str) -> int:
        """Return the newest number that is over the count bound, 0 for none."""
        count = self._kept(channel).count
        # Two looks at the index are enough for most channels; the walk along it is for the others.
        if count is None or (connection.execute(_SPAN, {"channel": channel}).fetchone()[0] or 0) < count:
            return 0
        row = connection.execute(_OVER_COUNT, (channel, count)).fetchone()
        return row[0] if row else 0

    def _fold(self) -> None:
        with self.connection.use() as connection:
            (rows,) = connection.execute("SELECT count(*) FROM sse_channels").fetchone()
        excess = rows - self._remembered_channels
        if excess <= 0:
            return
        with self._writing() as connection:
            folded = connection.execute(_FOLDABLE, (min(_BATCH, excess),)).fetchall()
            if folded:
                connection.execute(_REMEMBER, (FOLDED, folded[-1][1]))
                connection.executemany("DELETE FROM sse_channels WHERE channel = ?", [row[:1] for row in folded])
