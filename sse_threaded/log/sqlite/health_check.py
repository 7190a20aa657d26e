"""Whether an event could be published now: this tries it on the log's file, and leaves nothing behind.

It is for health checks, which may come from several sides each second. Any thread may call it.
"""

from __future__ import annotations

import threading
import time

from ...errors import LogUnavailable, LogUnusable
from .connection import SharedConnection
from .file import SQLiteFile

# An event larger than a page of the file, so that SQLite needs a new page for it. It is rolled back.
_INSERT = "INSERT INTO sse_events (channel, data, created) VALUES ('', hex(zeroblob(4096)), 0)"

# This changes nothing, but SQLite writes the page and waits for the disk, as for an event.
_WRITE = "UPDATE sse_meta SET value = value WHERE name = 'schema'"


class HealthCheck:
    """Tries the steps of an append.

    :param file: the log's file.
    :param writer: the connection that appends.
    """

    def __init__(self, file: SQLiteFile, writer: SharedConnection) -> None:
        self._file = file
        self._writer = writer
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Forget the results and make a new lock: a thread that stayed with the parent may hold the old one."""
        # The one thread that tries holds it. Only that thread writes the two below; others read them without it.
        self._trying = threading.Lock()
        self._failure: LogUnavailable | LogUnusable | None = None
        self._good_until = 0.0  # monotonic

    def run(self) -> None:
        """Return if an event could be published. It waits for other writers up to the same time-out as publishing.

        While one thread tries, all others get the previous result at once, however old it is; before the first
        result they get success. So a locked file occupies one thread, however many ask.

        :raises LogError: no event could be published.
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
            self._failure, self._good_until = None, time.monotonic() + self._file.timeouts.health
        except (LogUnavailable, LogUnusable) as error:  # only these: others are the caller's own mistake
            self._failure = error
            raise
        finally:
            self._trying.release()

    def _try(self) -> None:
        with self._writer.use() as writer:
            writer.execute("PRAGMA shrink_memory")  # look at the file, and not at SQLite's cache of it
            self._file.begin_write(writer)
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
            self._file.require_unchanged(writer.wal_files)
