"""A connection to the SQLite file: the threads of a process share it, and the app may use it for a while."""

from __future__ import annotations

import ctypes
import logging
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import LogUnavailable, LogUnusable
from ..interface import NestedTransaction
from .errors import raise_translated
from .file import SQLiteFile, WalFiles

_log = logging.getLogger(__name__)


class LogConnection(sqlite3.Connection):
    """A connection to the log's file.

    :ivar wal_files: the files beside the log's file when it was opened.
    """

    wal_files: WalFiles = ()

    @contextmanager
    def lent_to_app(self) -> Iterator[None]:
        """Let the app use the connection in the block; afterwards its cursors are closed.

        A cursor that is not read to its end would show the state of that time for ever. Then the log would show no
        new events.
        """
        cursors: list[weakref.ref[sqlite3.Cursor]] = []
        try:
            self.__class__ = _LentConnection
            self.cursors_of_app = cursors
            yield
        finally:
            self.__class__ = LogConnection  # the log's own statements need no tracking
            for cursor in filter(None, (made() for made in cursors)):
                cursor.close()
            self.row_factory, self.text_factory = None, str


class _LentConnection(LogConnection):
    """The class of a connection while the app uses it: it notes the cursors that are made with it."""

    # Not a WeakSet: a Ctrl-C during its callbacks would be lost.
    cursors_of_app: list[weakref.ref[sqlite3.Cursor]]

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        made = super().cursor(factory)
        self.cursors_of_app.append(weakref.ref(made))
        return made

    # The methods of the base class make their cursors without calling cursor().

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        return self.cursor().execute(sql, parameters)  # type: ignore[no-any-return]

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        return self.cursor().executemany(sql, parameters)  # type: ignore[no-any-return]

    def executescript(self, sql_script: str, /) -> sqlite3.Cursor:
        return self.cursor().executescript(sql_script)  # type: ignore[no-any-return]


class SharedConnection:
    """A connection that one thread at a time uses. It is opened at the first use, and closed for a fork.

    :param file: the file to connect to.
    :param read_only: refuse every change through it; default ``False``.
    """

    def __init__(self, file: SQLiteFile, *, read_only: bool = False) -> None:
        self._file = file
        self._read_only = read_only
        # Guards the connection while a statement or a transaction lasts. No thread takes it twice. It is an RLock,
        # because an RLock knows its owner. A signal handler may raise (Ctrl-C, a time limit) just after the lock
        # was taken, before this object has noted that.
        self._lock = threading.RLock()
        self._connection: LogConnection | None = None
        self._must_stay_open = False
        self._owner = 0
        self._is_held_for_fork = False
        self._closed = False

    @contextmanager
    def use(self, *, wait: float | None = None, known_only: bool = False) -> Iterator[LogConnection]:
        """Have the connection for the length of the block, in which SQLite's errors become errors of this package.

        :param wait: for how many seconds to wait until no other thread has it; ``None``, the default, for the
            lock's time-out.
        :param known_only: see :func:`.errors.translated`; default ``False``.
        :raises NestedTransaction: this thread has it already.
        :raises LogUnavailable: another thread of this process keeps it for longer than that.
        :raises LogUnusable: the log was closed, or the file is no longer the one at its path.
        :raises LogError: the file could not be opened until now, and cannot be opened now either; or SQLite failed
            in the block.
        """
        if self._owner == threading.get_ident():
            raise NestedTransaction(self._file.url)
        # A signal handler cannot run before the first step of each "finally".
        try:
            seconds = self._file.timeouts.lock if wait is None else wait
            if not self._lock.acquire(timeout=seconds):
                waited = f"kept by another thread for over {seconds:g} s"
                raise LogUnavailable(self._file.url, f"{waited}; try again")
            self._owner = threading.get_ident()
            try:
                if self._closed:
                    raise LogUnusable(self._file.url, "this log was closed; open it again")
                if self._connection is None:
                    self._connection = self._open()
                else:
                    self._file.require_unchanged(self._connection.wal_files)
                if self._connection.in_transaction:
                    self._connection.rollback()  # an interrupt left it open
                yield self._connection
            except sqlite3.Error as error:
                raise_translated(error, self._file.url, known_only=known_only)
                raise
            except LogUnusable:
                self._keep_open_if_behind()
                raise
            finally:
                self._owner = 0
        finally:
            try:
                while True:  # an interrupt may have left it taken before
                    self._lock.release()
            except RuntimeError:
                pass  # this thread does not have it any more

    def require_not_nested(self) -> None:
        """Raise if this thread has the connection, and would wait for itself.

        :raises NestedTransaction: it has.
        """
        if self._owner == threading.get_ident():
            raise NestedTransaction(self._file.url)

    def _open(self) -> LogConnection:
        self._file.require_prepared()
        self._file.require_unchanged()
        connection = self._file.connect(LogConnection, read_only=self._read_only)
        connection.wal_files = self._file.wal_files()
        return connection

    def close(self) -> None:
        """Close the connection for good; idempotent.

        If a thread uses it for longer than the time-out, it stays.
        """
        self._closed = True
        if self._lock.acquire(timeout=self._file.timeouts.lock):
            self._disconnect()
            self._lock.release()

    def _disconnect(self) -> None:
        if self._connection is None:
            return
        self._keep_open_if_behind()
        if not self._must_stay_open:
            self._connection.close()
        self._connection = None
        self._must_stay_open = False

    def _keep_open_if_behind(self) -> None:
        """Never close the connection if other processes have gone on with new files at the paths of its files.

        SQLite copies the ``-wal`` into the file when its last connection is closed. Here that would overwrite what
        the others have written.
        """
        if self._connection is None or self._must_stay_open:
            return
        if self._connection.wal_files == self._file.wal_files():
            return
        if self._file.is_behind(self._connection):
            self._must_stay_open = True
            _never_close(self._connection)

    def before_fork(self) -> None:
        """Wait until no thread uses the connection, and close it: a child must not inherit one.

        SQLite keeps its knowledge of a file in the process. So the child of a process with an open connection
        would take the parent's locks for its own, whether it uses that connection or not. This cannot be avoided
        where the forking thread, or a thread that uses the connection for too long, has a transaction open.
        """
        is_mine = self._owner == threading.get_ident()
        self._is_held_for_fork = not is_mine and self._lock.acquire(timeout=self._file.timeouts.lock)
        if self._is_held_for_fork:
            self._disconnect()
        else:
            url = self._file.url
            _log.warning(
                "%s: forking with a transaction open; the child must not use this log",
                url,
                extra={"event": "forked_in_transaction", "url": url},
            )

    def after_fork(self, in_child: bool) -> None:
        """Let the threads use it again."""
        if in_child and not self._is_held_for_fork:
            # The child has no part in the parent's transaction, and must not even close its connection.
            if self._connection is not None:
                _never_close(self._connection)
            self._connection = None
            self._owner = 0
            self._lock = threading.RLock()
        elif self._is_held_for_fork:
            self._is_held_for_fork = False
            self._lock.release()


def _never_close(connection: sqlite3.Connection) -> None:
    """Keep the garbage collector and the interpreter's end from closing a connection."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
