"""The SQLite file itself: opening it, its tables, and what its errors mean to a person."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from ...errors import LogUnavailable, LogUnusable
from ..event_id import new_epoch
from .high_water_mark import Mark
from .lent_connection import LentConnection

_log = logging.getLogger(__name__)

# Counts the shapes of the tables below; a file of a higher one is left alone.
SCHEMA = 1

# How long an append waits for the writers before it, in seconds: past this somebody holds a transaction open.
BUSY_TIMEOUT = 5.0

# Seconds between two looks at the write lock.
_LOOK_AGAIN = 0.001

# Seconds in which a file that could not be opened is not tried again.
_TRY_AGAIN = 0.2

# A device and an inode each, None where there is no file.
Identity: TypeAlias = "tuple[int, int] | None"
Companions: TypeAlias = "tuple[Identity, Identity]"

_REMOVED = "the file, or one that SQLite has beside it, was removed or replaced while in use; restart the server"

_WENT_BACK = "a backup was put into the file while in use, or its mark was removed; restart the server"

# AUTOINCREMENT: numbers are never given twice, even when the newest events are deleted.
_TABLES = """
CREATE TABLE IF NOT EXISTS sse_meta (
    name TEXT PRIMARY KEY, value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sse_events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT NOT NULL, event TEXT, data TEXT NOT NULL, created REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS sse_events_channel ON sse_events (channel);
CREATE TABLE IF NOT EXISTS sse_channels (
    channel TEXT PRIMARY KEY, trimmed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sse_channels_trimmed ON sse_channels (trimmed);
"""
_NAMES = re.findall("EXISTS (sse_[a-z_]+)", _TABLES)

_LAST = "SELECT seq FROM sqlite_sequence WHERE name = 'sse_events'"

_LOCKED = (
    f"locked by another writer, or by an open transaction of this thread's own, for over {BUSY_TIMEOUT:g} s; "
    "try again or end it"
)
_OPENS_NOT = "cannot be opened; its folder must be there, and this process write in it"
_CORRUPT = "the file is corrupt; restore it from a backup, or move it away"
_READ_ONLY = "read-only for this process; let it write the file and its folder"

# What SQLite says (its messages are stable; error codes reach Python from 3.11 on only), which error that
# is here, and what a person can do. Whole phrases, as a message may have names of the app's tables in it.
_MEANING: tuple[tuple[str, type[LogUnavailable] | type[LogUnusable], str], ...] = (
    ("database is locked", LogUnavailable, _LOCKED),
    ("database table is locked", LogUnavailable, _LOCKED),
    ("database or disk is full", LogUnavailable, "the disk is full; make room, then try again"),
    ("a readonly database", LogUnavailable, f"a snapshot, or {_READ_ONLY}"),
    ("unable to open database file", LogUnavailable, _OPENS_NOT),
    ("disk i/o error", LogUnavailable, "the disk failed to read or write; look at the system's log"),
    ("database disk image is malformed", LogUnusable, _CORRUPT),
    ("file is not a database", LogUnusable, "not a SQLite database; name another file, or move this one away"),
)


@contextmanager
def translated(url: str, *, known_only: bool = False) -> Iterator[None]:
    """Turn SQLite's errors inside the block into this package's.

    :param known_only: let pass what says nothing about the file, such as a failed constraint, for blocks
        that run the caller's own statements.
    """
    try:
        yield
    except sqlite3.Error as error:
        message = str(error).lower()
        for part, kind, meaning in _MEANING:
            if part in message:
                raise kind(url, meaning) from error
        if known_only:
            raise
        raise LogUnusable(url, f"SQLite failed: {error}") from error


class SQLiteFile:
    """Where the log is and how it is opened; holds no connection.

    :param path: absolute path.
    :param url: for error messages.
    :param synchronous: ``"full"`` or ``"normal"``, as SQLite's pragma.
    :ivar epoch: the log's.
    """

    busy_timeout = BUSY_TIMEOUT

    def __init__(self, path: str, url: str, synchronous: str) -> None:
        self.path = path
        self.url = url
        self.epoch = ""  # until prepare() knows it
        self._synchronous = synchronous
        self._real_path = os.path.realpath(path)  # beside which SQLite has its other files
        self._identity: Identity = None
        self._mark = Mark(self._real_path)
        self._was_set_back = False
        self.after_fork_in_child()
        self._failure: LogUnavailable | LogUnusable | None = None
        self._next_try = 0.0  # monotonic

    def after_fork_in_child(self) -> None:
        """Begin anew: the lock may have been held by a thread that stayed with the parent."""
        # Guards _failure and _next_try: one thread at a time tries to open a file that could not be opened.
        self._preparing = threading.Lock()

    def connect(self, *, read_only: bool = False) -> LentConnection:
        """A connection in autocommit mode, usable by any one thread at a time.

        :param read_only: refuse to change anything through it; default ``False``.
        """
        with translated(self.url):
            connection = sqlite3.connect(
                self._file_path(),
                timeout=self.busy_timeout,
                isolation_level=None,
                check_same_thread=False,
                factory=LentConnection,
            )
            try:
                _use_wal(connection, self.url)
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                connection.execute(f"PRAGMA query_only = {int(read_only)}")
                if not read_only:
                    connection.execute("PRAGMA busy_timeout = 0")  # take_lock() waits
            except BaseException:
                connection.close()
                raise
        if self._identity is None:
            self._identity = _identity(self.path)
        return connection

    def take_lock(
        self, connection: sqlite3.Connection, statement: str = "BEGIN IMMEDIATE", values: Sequence[object] = ()
    ) -> sqlite3.Cursor:
        """Run a statement that takes the write lock, and wait for it up to ``busy_timeout``.

        SQLite itself waits longer and longer between two looks, up to 0.1 s, so beside a process that appends
        without a pause it hardly ever finds the lock free, and takes seconds.
        """
        deadline = time.monotonic() + self.busy_timeout
        while True:
            try:
                return connection.execute(statement, values)
            except sqlite3.OperationalError as error:
                if "is locked" not in str(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(_LOOK_AGAIN)

    def _file_path(self) -> str:
        if os.path.isdir(self.path):
            raise LogUnusable(self.url, "is a directory; name a file in it")
        return self.path

    def require_prepared(self) -> None:
        """Return once the file is ready for use; the first call that finds it so makes it ready.

        :raises LogError: as :meth:`prepare`; at once for a moment after a failure, so that requests do not queue.
        """
        if self.epoch:
            return
        if not self._preparing.acquire(timeout=self.busy_timeout):
            raise LogUnavailable(self.url, "another thread has been trying to open it for long; try again")
        try:
            if self.epoch:
                return
            if self._failure is not None and time.monotonic() < self._next_try:
                raise type(self._failure)(self.url, self._failure.reason)
            try:
                self.prepare()
            except (LogUnavailable, LogUnusable) as error:
                self._failure, self._next_try = error, time.monotonic() + _TRY_AGAIN
                raise
            if self._failure is not None:
                self._failure = None
                _log.warning("%s: could be opened now", self.url)
        finally:
            self._preparing.release()

    def prepare(self) -> None:
        """Make the tables if they are not there, and find out the epoch.

        Where all is there it only reads: a process can begin while another one writes for long, or the disk
        is full.

        :raises LogUnusable: a newer release wrote the file.
        :raises LogUnavailable: it cannot be written, other than for a while.
        """
        self._identity = None  # that of an earlier try may be another file's
        connection = self.connect()
        try:
            with translated(self.url):
                found = _meta(connection) if _has_tables(connection) else {}
                meta = self._completed(found)
                if meta != found or not self._mark.agrees(meta, lambda: last_sequence(connection)):
                    meta = self._begin(connection)
                elif not os.access(self.path, os.W_OK):
                    raise LogUnavailable(self.url, _READ_ONLY)  # now, and not at the first event
        except OSError as error:
            raise LogUnavailable(self.url, _OPENS_NOT) from error  # it went away just now
        finally:
            connection.close()
        self.epoch = meta["epoch"]

    def _begin(self, connection: sqlite3.Connection) -> dict[str, str]:
        """Make what is missing, under the write lock; begin a new epoch if the file went back."""
        self.take_lock(connection)
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        found = _meta(connection)
        meta = self._completed(found)
        last = last_sequence(connection)
        wal_is_empty = _size(self._real_path + "-wal") == 0  # nobody else can write to it now
        reached = self._mark.begin(meta, found.get("epoch"), last, wal_is_empty=wal_is_empty)
        if reached is None:
            _log.warning("%s: a copy, or it went back: its ids begin a new epoch", self.url)
        elif reached > last:
            connection.execute("DELETE FROM sqlite_sequence WHERE name = 'sse_events'")
            connection.execute("INSERT INTO sqlite_sequence VALUES ('sse_events', ?)", (reached,))
        connection.executemany("INSERT OR REPLACE INTO sse_meta VALUES (?, ?)", meta.items())
        connection.execute("COMMIT")
        if "epoch" not in found:
            # A relative path in another working directory names another file.
            _log.warning("%s: made a new log in %r", self.url, self.path)
        return meta

    def _completed(self, found: dict[str, str]) -> dict[str, str]:
        """What the log says of itself, with what it does not say yet."""
        meta = {"schema": str(SCHEMA), "epoch": new_epoch(), **found}
        self._require_schema(meta["schema"])
        self._require_same_boot(meta)
        return meta

    def _require_schema(self, schema: str) -> None:
        if not schema.isdecimal():
            raise LogUnusable(self.url, "its table sse_meta is another program's; name another file")
        if int(schema) > SCHEMA:
            versions = f"a newer sse_threaded (schema {schema}; this one knows {SCHEMA})"
            raise LogUnusable(self.url, f"written by {versions}; upgrade this program")

    def _require_same_boot(self, meta: dict[str, str]) -> None:
        # With synchronous=normal a power cut takes back the last commits, and their numbers would be given
        # again. After each boot the ids therefore begin a new epoch: clients refetch instead of missing events.
        if self._synchronous == "normal" or "boot" in meta:
            try:
                with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                    boot = file.read().strip()
            except OSError:
                raise LogUnusable(self.url, "synchronous=normal needs Linux, which tells boots apart") from None
            if meta.setdefault("boot", boot) != boot:
                meta.update(boot=boot, epoch=new_epoch())

    def promise(self, number: int, settled: int | None) -> None:
        """Leave the mark for a transaction that is about to commit; see :mod:`.high_water_mark`.

        :param number: its newest event's; the caller has the write lock.
        :param settled: numbers up to this one are known to be committed; ``None`` for not known.
        :raises LogUnusable: the log has had this number: the file went back while it was in use.
        """
        if not self._mark.promise(self.epoch, number, settled):
            self._was_set_back = True
            self.require_same()

    def leave_mark(self, connection: sqlite3.Connection) -> None:
        """Write down how far the log has come, or find that it went back; where somebody writes, another time.

        :param connection: one that writes, outside of a transaction.
        """
        if self._mark.is_ahead(self.epoch, lambda: last_sequence(connection)):
            self._was_set_back = True
            return
        if self._mark.is_settled(self.epoch, last_sequence(connection)):
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if "is locked" in str(error):
                return
            raise
        try:
            self._mark.settle(self.epoch, last_sequence(connection))
        finally:
            connection.execute("ROLLBACK")

    def sync_mark(self) -> None:
        """Let the mark outlast a power cut; outside of a transaction, as it may take some milliseconds."""
        self._mark.sync()

    def is_behind(self, connection: sqlite3.Connection) -> bool:
        """Whether others have appended what this connection does not see; then it must never write again."""
        try:
            return self._mark.is_past(self.epoch, last_sequence(connection))
        except sqlite3.Error:
            return True

    def require_same(self, companions: Companions | None = None) -> None:
        """Refuse to go on with a file that is no longer the one at its path, or in another state than it was.

        :param companions: what was beside it, as the caller found when it connected; default ``None``: no matter.
        :raises LogUnusable: it was removed, replaced or set back; clients would not see what is appended to it.
        """
        if self._was_set_back:
            raise LogUnusable(self.url, _WENT_BACK)
        if _identity(self.path) != self._identity or (companions and self.companions() != companions):
            raise LogUnusable(self.url, _REMOVED)

    def companions(self) -> Companions:
        """Which files are beside it: the write-ahead log and its index, the same for as long as somebody has a
        connection. Where one is removed, processes go on in files of their own, and lose each other's events.
        """
        return _identity(self._real_path + "-wal"), _identity(self._real_path + "-shm")

    def mode(self) -> int:
        """The file's permission bits."""
        return os.stat(self.path).st_mode & 0o666


def last_sequence(connection: sqlite3.Connection) -> int:
    """The newest event's number, 0 for none."""
    row = plainly(connection, _LAST).fetchone()
    return row[0] if row else 0


def plainly(connection: sqlite3.Connection, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
    """Run a statement whose rows are tuples, whatever the app has set."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute(statement, values)


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


def _has_tables(connection: sqlite3.Connection) -> bool:
    marks = ", ".join("?" * len(_NAMES))
    query = f"SELECT count(*) FROM sqlite_master WHERE name IN ({marks})"
    (count,) = connection.execute(query, _NAMES).fetchone()
    return bool(count == len(_NAMES))


def _meta(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT name, value FROM sse_meta"))


def _use_wal(connection: sqlite3.Connection, url: str) -> None:
    # Readers never wait for the writer in this mode. Several processes that switch a new file at once can
    # meet in SQLITE_BUSY, for which SQLite's own waiting does not apply here.
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise LogUnusable(url, "this file system cannot share memory (SQLite's WAL mode); use a local disk")
