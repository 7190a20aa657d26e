"""Translates SQLite's errors. Each error says how a person can mend it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import LogUnavailable, LogUnusable
from .timeouts import Timeouts

READ_ONLY = "read-only for this process; let it write the file and its folder"
CANNOT_OPEN = "cannot be opened; its folder must be there, and this process must be able to write in it"

_LOCKED = (
    f"locked by another writer, or by an open transaction of this thread, for over {Timeouts().lock:g} s; "
    "try again, or end it; publish(..., connection=...) writes in that transaction, as sse_threaded.django does"
)
_CORRUPT = "the file is corrupt; restore it from a backup, or move it away"

# A part of SQLite's message, our error for it, and the advice for a person. SQLite's messages are stable; its
# error codes reach Python from 3.11 on only. Each part is a whole phrase, because a message can have the names of
# the app's tables in it.
_MEANINGS: tuple[tuple[str, type[LogUnavailable] | type[LogUnusable], str], ...] = (
    ("database is locked", LogUnavailable, _LOCKED),
    ("database table is locked", LogUnavailable, _LOCKED),
    ("database or disk is full", LogUnavailable, "the disk is full; make room, then try again"),
    ("a readonly database", LogUnavailable, f"a snapshot, or {READ_ONLY}"),
    ("unable to open database file", LogUnavailable, CANNOT_OPEN),
    ("disk i/o error", LogUnavailable, "the disk failed to read or write; look at the system's log"),
    ("database disk image is malformed", LogUnusable, _CORRUPT),
    ("file is not a database", LogUnusable, "not a SQLite database; name another file, or move this one away"),
)


@contextmanager
def translated(url: str, *, known_only: bool = False) -> Iterator[None]:
    """Turn SQLite's errors in the block into errors of this package.

    :param url: the log's.
    :param known_only: translate only the errors of the table above, and let others pass, such as a failed
        constraint. This is for blocks that run the app's own statements. Default ``False``.
    :raises LogUnavailable: the error may pass.
    :raises LogUnusable: a person must act.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise_translated(error, url, known_only=known_only)
        raise


def raise_translated(error: sqlite3.Error, url: str, *, known_only: bool = False) -> None:
    """Raise this package's error for one of SQLite's; return if it has none. The parameters are as above.

    :param error: SQLite's.
    """
    message = str(error).lower()
    for part, kind, meaning in _MEANINGS:
        if part in message:
            raise kind(url, meaning) from error
    if not known_only:
        raise LogUnusable(url, f"SQLite failed: {error}") from error


def is_locked(error: sqlite3.OperationalError) -> bool:
    """Whether another connection has the lock that the statement needs."""
    return "is locked" in str(error)
