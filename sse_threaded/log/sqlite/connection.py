"""A connection to the SQLite file for one thread at a time, that comes to rest for a fork."""

from __future__ import annotations

import ctypes
import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import LogUnavailable, LogUnusable
from ..interface import NestedTransaction
from .file import Companions, SQLiteFile
from .lent_connection import LentConnection

_log = logging.getLogger(__name__)


class Gate:
    """A connection and the lock that lets one thread at a time use it; opened at first use.

    :param file: what to connect to.
    :param read_only: refuse to change anything through it; default ``False``.
    """

    def __init__(self, file: SQLiteFile, *, read_only: bool = False) -> None:
        self._file = file
        self._read_only = read_only
        # Guards the connection and its companions, for as long as a statement or a transaction lasts. Nobody
        # enters twice, and yet it is one that knows its owner: a signal handler may raise (Ctrl-C, a time limit)
        # when it was taken just now and nothing has been noted.
        self._lock = threading.RLock()
        self._connection: LentConnection | None = None
        self._companions: Companions | None = None  # what was beside the file when it was opened
        self._is_left = False  # the connection must not be closed
        self._owner = 0
        self._rests = False  # the lock is held for a fork
        self._closed = False

    @contextmanager
    def enter(self, *, wait: bool = True) -> Iterator[LentConnection]:
        """The connection, for the length of the block.

        :param wait: wait until no other thread has it, up to the file's ``busy_timeout``; default ``True``.
        :raises NestedTransaction: this thread is inside already.
        :raises LogUnavailable: another thread of this process keeps it for longer than another process may, or
            has it now and ``wait`` is ``False``.
        :raises LogUnusable: the log was closed, or the file is no longer the one at its path.
        :raises LogError: the file could not be opened yet, nor can it be now.
        """
        if self._owner == threading.get_ident():
            raise NestedTransaction(self._file.url)
        # The first step of each "finally" is one that no signal handler can come before.
        try:
            timeout = self._file.busy_timeout if wait else 0
            if not self._lock.acquire(timeout=timeout):
                waited = f"kept by another thread for over {timeout:g} s"
                raise LogUnavailable(self._file.url, f"{waited}; try again")
            self._owner = threading.get_ident()
            try:
                yield self._opened()
            finally:
                self._owner = 0
        finally:
            try:
                while True:  # an interrupt may have left it taken before
                    self._lock.release()
            except RuntimeError:
                pass  # it is not this thread's

    def _opened(self) -> LentConnection:
        if self._closed:
            raise LogUnusable(self._file.url, "this log was closed; open it again")
        self._file.require_prepared()
        try:
            self._file.require_same(self._companions)
        except LogUnusable:
            self._leave_to_others()
            raise
        if self._connection is None:
            self._connection = self._file.connect(read_only=self._read_only)
            self._companions = self._file.companions()
        if self._connection.in_transaction:
            self._connection.rollback()  # what was interrupted left it open
        return self._connection

    def require_same(self) -> None:
        """Refuse what was written just now if that was no longer into the log's file; called inside.

        :raises LogUnusable: the file was removed or replaced meanwhile.
        """
        self._file.require_same(self._companions)

    def close(self) -> None:
        """Close the connection for good; idempotent. Who is inside for too long keeps it."""
        self._closed = True
        if self._lock.acquire(timeout=self._file.busy_timeout):
            self._disconnect()
            self._lock.release()

    def _disconnect(self) -> None:
        if self._connection is None:
            return
        self._leave_to_others()
        if not self._is_left:
            self._connection.close()
        self._connection = self._companions = None
        self._is_left = False

    def _leave_to_others(self) -> None:
        """Never close the connection where others have gone on with files that were put into its files' place.

        The last to close a file copies its own -wal into it, and would overwrite what the others have written.
        """
        if self._connection is None or self._is_left or self._companions in (None, self._file.companions()):
            return
        if self._file.is_behind(self._connection):
            self._is_left = True
            _keep_for_good(self._connection)

    def before_fork(self) -> None:
        """Wait until nobody is inside, and close the connection: a child must not inherit one.

        SQLite keeps what it knows of a file in the process, so that a child of a process with an open
        connection would take the parent's locks for its own, whether it uses that connection or not. Only
        where the forking thread, or one that stays inside, has a transaction open does that remain so.
        """
        mine = self._owner == threading.get_ident()
        self._rests = not mine and self._lock.acquire(timeout=self._file.busy_timeout)
        if self._rests:
            self._disconnect()
        else:
            _log.warning("%s: forking with a transaction open; the child must not use this log", self._file.url)

    def after_fork(self, in_child: bool) -> None:
        """Let others in again."""
        if in_child and not self._rests:
            # Of the parent's transaction the child can have no part, not even in closing its connection.
            if self._connection is not None:
                _keep_for_good(self._connection)
            self._connection = self._companions = None
            self._owner = 0
            self._lock = threading.RLock()
        elif self._rests:
            self._rests = False
            self._lock.release()


def _keep_for_good(connection: sqlite3.Connection) -> None:
    """Let neither the garbage collector nor the interpreter's end close a connection."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
