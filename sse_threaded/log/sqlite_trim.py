"""Trimming a SQLite log to its retention, on a thread of its own and a little at a time.

An append only counts. When a channel has grown by an eighth of what it may keep, and every few seconds for
age's sake, the thread looks at it; so the work an append causes does not grow with the log.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time

from ..errors import LogError
from .base import Retention
from .sqlite_file import SQLiteFile, translated

_log = logging.getLogger(__name__)

# Events that one transaction deletes: a millisecond or two in which writers wait.
_BATCH = 250
# Seconds between two looks at events' age, and the channels that one look takes in: it goes round.
_PERIOD = 5.0
_CHANNELS_A_LOOK = 200

_NEXT_CHANNEL = "SELECT channel FROM sse_events WHERE channel > ? ORDER BY channel LIMIT 1"
_OVER_COUNT = "SELECT sequence FROM sse_events WHERE channel = ? ORDER BY sequence DESC LIMIT 1 OFFSET ?"
_OLDEST = "SELECT sequence, created FROM sse_events WHERE channel = ? ORDER BY sequence LIMIT ?"
_DELETE = "DELETE FROM sse_events WHERE channel = ? AND sequence <= ?"
_REMEMBER = """INSERT INTO sse_channels (channel, trimmed) VALUES (?, ?)
    ON CONFLICT (channel) DO UPDATE SET trimmed = max(trimmed, excluded.trimmed)"""


class Trimmer:
    """The trimming thread of one process; it starts with the first doorbell or the first full channel.

    :param file: the log's file.
    :param retention: what is kept.
    """

    def __init__(self, file: SQLiteFile, retention: Retention) -> None:
        self._file = file
        self._retention = retention
        self._slack = max(16, (retention.count or 0) // 8)
        self._wake = threading.Event()
        # Guards _grown, _thread and _stopped.
        self._lock = threading.Lock()
        self._grown: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._last_channel = ""  # the look that goes round is here

    def appended(self, channel: str) -> None:
        """Count one append to ``channel``; any thread."""
        if self._retention.count is None:
            return
        with self._lock:
            grown = self._grown[channel] = self._grown.get(channel, 0) + 1
        if grown >= self._slack:
            self._wake.set()
            self.start()

    def start(self) -> None:
        """Start the thread unless it runs."""
        with self._lock:
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._run, name="sse_threaded trimmer", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        with self._lock:
            thread, self._thread, self._stopped = self._thread, None, True
        self._wake.set()
        if thread is not None:
            thread.join()

    def after_fork_in_child(self) -> None:
        """The thread stayed with the parent: start afresh."""
        self.__init__(self._file, self._retention)  # type: ignore[misc]

    def _run(self) -> None:
        # This thread's only connection; everything else in the class but appended() runs here.
        connection: sqlite3.Connection | None = None
        while not self._stopped:
            self._wake.wait(_PERIOD)
            self._wake.clear()
            try:
                if connection is None:
                    connection = self._file.connect()
                self._file.require_same()
                self._look(connection)
            except LogError as error:
                # The events stay for now; the next round tries again.
                _log.warning("could not trim: %s", error)
        if connection is not None:
            connection.close()

    def _look(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            grown = [channel for channel, by in self._grown.items() if by >= self._slack]
            for channel in grown:
                del self._grown[channel]
            if len(self._grown) > 100 * _CHANNELS_A_LOOK:
                self._grown.clear()  # the round below takes them in; counting must not grow without end
        for channel in grown:
            self.trim(connection, channel)
        for _ in range(_CHANNELS_A_LOOK):
            with translated(self._file.url):
                row = connection.execute(_NEXT_CHANNEL, (self._last_channel,)).fetchone()
            self._last_channel = row[0] if row else ""
            if not row or self._stopped:
                break
            self.trim(connection, self._last_channel)

    def sweep(self, connection: sqlite3.Connection) -> int:
        """Trim every channel now; returns how many events went."""
        channel, trimmed = "", 0
        with translated(self._file.url):
            while row := connection.execute(_NEXT_CHANNEL, (channel,)).fetchone():
                channel = row[0]
                trimmed += self.trim(connection, channel)
        return trimmed

    def trim(self, connection: sqlite3.Connection, channel: str) -> int:
        """Delete what ``channel`` need not keep, in small transactions; returns how many events went.

        :raises LogError: the file cannot be written now.
        """
        trimmed = 0
        with translated(self._file.url):
            limit = self._count_limit(connection, channel)
            cutoff = float("-inf") if self._retention.age is None else time.time() - self._retention.age
            while not self._stopped:
                oldest = connection.execute(_OLDEST, (channel, _BATCH)).fetchall()
                last = 0
                for sequence, created in oldest:
                    if sequence > limit and created >= cutoff:
                        break
                    last = sequence
                if not last:
                    break
                connection.execute("BEGIN IMMEDIATE")
                try:
                    trimmed += connection.execute(_DELETE, (channel, last)).rowcount
                    connection.execute(_REMEMBER, (channel, last))
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                if last != oldest[-1][0]:
                    break
        return trimmed

    def _count_limit(self, connection: sqlite3.Connection, channel: str) -> int:
        """The newest number that is over the count, 0 for none."""
        if self._retention.count is None:
            return 0
        row = connection.execute(_OVER_COUNT, (channel, self._retention.count)).fetchone()
        return row[0] if row else 0
