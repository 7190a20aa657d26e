"""Whether an event could be published now: tried on the log's file, without a trace in it.

For health checks, which may come from several sides each second. Any thread may call it.
"""

from __future__ import annotations

import threading
import time

from ...errors import LogUnavailable, LogUnusable
from .connection import Gate
from .file import SQLiteFile, translated

# Seconds for which a good result holds.
_GOOD_FOR = 1.0

# An event of a page or more, so that it needs a new page of the file. It is taken back.
_INSERT = "INSERT INTO sse_events (channel, data, created) VALUES ('', hex(zeroblob(4096)), 0)"

# This changes nothing, but SQLite writes the page and waits for the disk, as with an event.
_WRITE = "UPDATE sse_meta SET value = value WHERE name = 'schema'"


class Check:
    """Tries what an append does.

    :param file: the log's file.
    :param writer: the connection that appends.
    """

    def __init__(self, file: SQLiteFile, writer: Gate) -> None:
        self._file = file
        self._writer = writer
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Begin anew: the lock may have been held by a thread that stayed with the parent."""
        # Held by the one thread that tries. Only that thread writes the two below; others read them without it.
        self._trying = threading.Lock()
        self._failure: LogUnavailable | LogUnusable | None = None
        self._good_until = 0.0  # monotonic

    def run(self) -> None:
        """Return if an event could be published; waits for other writers as long as publishing does.

        While another thread tries, the previous result is returned at once, however old; before the first result,
        success. So a locked file takes one thread, however many ask.

        :raises LogError: none could be published.
        """
        if time.monotonic() < self._good_until:
            return
        if not self._trying.acquire(blocking=False):
            failure = self._failure
            if failure is not None:
                raise type(failure)(failure.url, failure.reason)
            return
        try:
            self._try()
            self._failure, self._good_until = None, time.monotonic() + _GOOD_FOR
        except (LogUnavailable, LogUnusable) as error:  # and no other: that is the caller's own mistake
            self._failure = error
            raise
        finally:
            self._trying.release()

    def _try(self) -> None:
        with self._writer.enter() as writer, translated(self._file.url):
            writer.execute("PRAGMA shrink_memory")  # look at the file, and not at what was read from it before
            self._file.take_lock(writer)
            try:
                writer.execute("SAVEPOINT sse_check")
                writer.execute(_INSERT)
                writer.execute("ROLLBACK TO sse_check")
                writer.execute(_WRITE)
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
                raise
            self._writer.require_same()
