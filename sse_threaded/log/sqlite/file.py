"""The SQLite file: where it is, how it is opened, and whether it is still the same file.

Any thread may call everything here. It holds no connection.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import threading
import time
from typing import TypeAlias, TypeVar

from ...errors import LogUnavailable, LogUnusable
from ..folder_state import FolderState, settled_state
from .errors import CANNOT_OPEN, READ_ONLY, is_locked, translated
from .high_water_mark import WENT_BACK, HighWaterMark
from .schema import (
    complete_meta,
    create_tables,
    has_tables,
    last_sequence,
    read_meta,
    set_last_sequence,
    write_meta,
)
from .timeouts import Timeouts

_log = logging.getLogger(__name__)

# Statements that a connection keeps for its next use. In a free-threaded Python a statement that another thread
# made keeps the closed file open until that thread runs again, and a fork must find it closed: keep none there.
_CACHED_STATEMENTS = 0 if "t" in sys.abiflags else 128

AnyConnection = TypeVar("AnyConnection", bound=sqlite3.Connection)

# Seconds between two looks at the write lock, and at a new file that another process switches to WAL mode.
_LOOK_AGAIN = 0.001
_SWITCH_AGAIN = 0.01

# A device and an inode; None where there is no file.
Identity: TypeAlias = "tuple[int, int] | None"
# Those of the files that SQLite has beside the log's file: FILE-wal and FILE-shm. Empty if they are not known.
WalFiles: TypeAlias = "tuple[Identity, ...]"

_REMOVED = (
    "the file, or a file that SQLite has beside it, was removed or replaced while in use; restart the server"
)


class SQLiteFile:
    """Where the log is and how it is opened.

    :param path: absolute path.
    :param url: the log's, for messages.
    :param synchronous: ``"full"`` or ``"normal"``, as SQLite's pragma.
    :param timeouts: default :class:`Timeouts`.
    :ivar epoch: the log's; ``""`` until :meth:`prepare` has read it.
    :ivar timeouts: as given.
    :ivar mark: says how far the log has come.
    """

    def __init__(self, path: str, url: str, synchronous: str, timeouts: Timeouts | None = None) -> None:
        self.path = path
        self.url = url
        self.epoch = ""
        self.timeouts = timeouts or Timeouts()
        self._synchronous = synchronous
        self._real_path = os.path.realpath(path)  # SQLite puts its other files beside this one
        self._paths = path, self._real_path + "-wal", self._real_path + "-shm"
        # Empty if the path is a link, which may be in another folder.
        self._folder = os.path.dirname(path) if path == self._real_path else ""
        self._identity: Identity = None
        # The last state of the folder in which the files were the same, and which files these were.
        self._unchanged: tuple[FolderState | None, WalFiles] = None, ()
        self.mark = HighWaterMark(self._real_path, url)
        self.after_fork_in_child()
        self._failure: LogUnavailable | LogUnusable | None = None
        self._next_try = 0.0  # monotonic

    def after_fork_in_child(self) -> None:
        """Make a new lock: a thread that stayed with the parent may hold the old one."""
        # Guards _failure and _next_try. One thread at a time tries to open a file that could not be opened.
        self._preparing = threading.Lock()

    # Opening.

    def connect(self, kind: type[AnyConnection], *, read_only: bool = False) -> AnyConnection:
        """Open a connection in autocommit mode, which any one thread at a time may use.

        :param kind: its class.
        :param read_only: refuse every change through it; default ``False``.
        :raises LogError: the file cannot be opened.
        """
        with translated(self.url):
            connection = sqlite3.connect(
                self._file_path(),
                timeout=self.timeouts.lock,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_CACHED_STATEMENTS,
                factory=kind,
            )
            try:
                self._use_wal(connection)
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                connection.execute(f"PRAGMA query_only = {int(read_only)}")
                if not read_only:
                    connection.execute("PRAGMA busy_timeout = 0")  # begin_write() waits instead
            except BaseException:
                connection.close()
                raise
        if self._identity is None:
            self._identity = _identity(self.path)
        return connection

    def _file_path(self) -> str:
        if os.path.isdir(self.path):
            raise LogUnusable(self.url, "is a directory; name a file in it")
        return self.path

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        # In this mode readers never wait for the writer. Several processes that switch a new file at once can get
        # SQLITE_BUSY, and SQLite's own waiting does not apply here.
        deadline = time.monotonic() + self.timeouts.lock
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_SWITCH_AGAIN)
        if mode != "wal":
            raise LogUnusable(
                self.url, "this file system cannot share memory (SQLite's WAL mode); use a local disk"
            )

    def begin_write(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that has the write lock; wait for the lock up to the time-out.

        SQLite's own waiting looks less and less often, down to every 0.1 s. Beside a process that appends without
        a pause it hardly ever finds the lock free, and takes seconds.

        :raises sqlite3.OperationalError: the lock was not free in time.
        """
        deadline = time.monotonic() + self.timeouts.lock
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not is_locked(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(_LOOK_AGAIN)

    # The first use.

    def require_prepared(self) -> None:
        """Return once the file is ready for use. The first call that finds the file makes it ready.

        :raises LogError: as :meth:`prepare`. For a moment after a failure it raises the same error at once, so
            that requests do not queue.
        """
        if self.epoch:
            return
        if not self._preparing.acquire(timeout=self.timeouts.lock):
            raise LogUnavailable(self.url, "another thread has been trying to open it for long; try again")
        try:
            if self.epoch:
                return
            if self._failure is not None and time.monotonic() < self._next_try:
                raise type(self._failure)(self.url, self._failure.reason)
            try:
                self.prepare()
            except (LogUnavailable, LogUnusable) as error:
                self._failure, self._next_try = error, time.monotonic() + self.timeouts.reopen
                raise
            if self._failure is not None:
                self._failure = None
                fields = {"event": "log_opened", "url": self.url}
                _log.warning("%s: could be opened now", self.url, extra=fields)
        finally:
            self._preparing.release()

    def prepare(self) -> None:
        """Make the tables if they are missing, and read the epoch.

        If nothing is missing it only reads. So a process can begin while another one writes for long, or while the
        disk is full.

        :raises LogUnusable: a newer release wrote the file, or the file needs a person's help.
        :raises LogUnavailable: the file cannot be opened or written now.
        """
        self._identity = None  # an earlier try may have found another file
        self._unchanged = None, ()
        connection = self.connect(sqlite3.Connection)
        try:
            with translated(self.url):
                found = read_meta(connection) if has_tables(connection) else {}
                meta = complete_meta(found, self.url, self._synchronous)
                if meta != found or not self.mark.agrees(meta, lambda: last_sequence(connection)):
                    meta = self._begin_log(connection)
                elif not os.access(self.path, os.W_OK):
                    raise LogUnavailable(self.url, READ_ONLY)  # now, and not at the first event
        except OSError as error:
            raise LogUnavailable(self.url, CANNOT_OPEN) from error  # the file was removed just now
        finally:
            connection.close()
        self.epoch = meta["epoch"]

    def _begin_log(self, connection: sqlite3.Connection) -> dict[str, str]:
        """Make the missing tables and values, under the write lock. Begin a new epoch if the file went back."""
        self.begin_write(connection)
        create_tables(connection)
        found = read_meta(connection)
        meta = complete_meta(found, self.url, self._synchronous)
        last = last_sequence(connection)
        wal_is_empty = _size(self._real_path + "-wal") == 0  # no other process can write to it now
        reached = self.mark.decide_epoch(meta, found.get("epoch"), last, wal_is_empty=wal_is_empty)
        if reached is None:
            fields = {"event": "log_new_epoch", "url": self.url}
            _log.warning("%s: a copy, or it went back: its ids begin a new epoch", self.url, extra=fields)
        elif reached > last:
            set_last_sequence(connection, reached)
        write_meta(connection, meta)
        connection.execute("COMMIT")
        if "epoch" not in found:
            # A relative path names another file in another working directory.
            is_absolute = os.path.isabs(self.url.removeprefix("sqlite:///"))
            where = "" if is_absolute else "; the URL is relative, so each working directory has its own log"
            fields = {"event": "log_made", "url": self.url}
            _log.warning("%s: made a new log in %r%s", self.url, self.path, where, extra=fields)
        return meta

    # The high-water mark.

    def update_mark(self, connection: sqlite3.Connection) -> None:
        """Write into the mark how far the log has come, or find that the file went back.

        It does nothing while another connection writes; a later call does it.

        :param connection: one that may write, outside of a transaction.
        """
        if self.mark.is_ahead(self.epoch, lambda: last_sequence(connection)):
            self.mark.went_back = True
            return
        if self.mark.is_up_to_date(self.epoch, last_sequence(connection)):
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if is_locked(error):
                return
            raise
        try:
            self.mark.commit(self.epoch, last_sequence(connection))
        finally:
            connection.execute("ROLLBACK")

    def is_behind(self, connection: sqlite3.Connection) -> bool:
        """Whether others have appended events that this connection does not see.

        Then it must never write again.
        """
        try:
            return self.mark.is_beyond(self.epoch, last_sequence(connection))
        except sqlite3.Error:
            return True

    # Whether it is still the same file.

    def require_unchanged(self, wal_files: WalFiles = ()) -> None:
        """Raise if the file is no longer the one at its path, or went back.

        Clients would not see the events that are appended to such a file.

        :param wal_files: the files beside it, as the caller found them when it connected. Empty, the default: do
            not compare them.
        :raises LogUnusable: the file was removed, replaced or set back.
        """
        if self.mark.went_back:
            raise LogUnusable(self.url, WENT_BACK)
        # While the folder's state stays the same, no file in it was removed, replaced or renamed. The path is
        # followed from the root, so a new folder at this path shows, too. One call replaces three.
        folder = settled_state(self._folder) if self._folder else None
        if folder is not None and self._unchanged == (folder, wal_files):
            return
        for path, identity in zip(self._paths, (self._identity, *wal_files), strict=False):
            try:
                status = os.stat(path)
                found = status.st_dev, status.st_ino
            except OSError:
                found = None
            if found != identity:
                raise LogUnusable(self.url, _REMOVED)
        self._unchanged = (folder, wal_files)

    def wal_files(self) -> WalFiles:
        """Return which files SQLite has beside it: the write-ahead log and its index.

        They stay the same while any process has a connection. If one is removed, each process goes on with its own
        files, and the processes lose each other's events.
        """
        return tuple(_identity(path) for path in self._paths[1:])

    def mode(self) -> int:
        """Return the file's permission bits."""
        return os.stat(self.path).st_mode & 0o666


def _identity(path: str) -> Identity:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
