"""A connection that is given into the app's hands for a while, and comes back as it was."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class LentConnection(sqlite3.Connection):
    """SQLite's, which :class:`~.sqlite.SQLiteLog` uses itself and lends to the app inside of transactions."""

    # What the app has made while it had the connection. No WeakSet: a Ctrl-C in its callbacks would be lost.
    _cursors: list[weakref.ref[sqlite3.Cursor]] | None = None

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        """See :class:`sqlite3.Connection`."""
        made = super().cursor(factory)
        if self._cursors is not None:
            self._cursors.append(weakref.ref(made))
        return made

    # The base class's make their cursors by themselves.

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """See :class:`sqlite3.Connection`."""
        return self.cursor().execute(sql, parameters)  # type: ignore[no-any-return]

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """See :class:`sqlite3.Connection`."""
        return self.cursor().executemany(sql, parameters)  # type: ignore[no-any-return]

    def executescript(self, sql_script: str, /) -> sqlite3.Cursor:
        """See :class:`sqlite3.Connection`."""
        return self.cursor().executescript(sql_script)  # type: ignore[no-any-return]

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The time for which the app has it.

        A cursor that is not read to its end would keep the state of that time in sight, and the log without
        news for ever: it is closed.
        """
        cursors: list[weakref.ref[sqlite3.Cursor]] = []
        self._cursors = cursors
        try:
            yield
        finally:
            self._cursors = None
            for cursor in filter(None, (made() for made in cursors)):
                cursor.close()
            self.row_factory, self.text_factory = None, str
