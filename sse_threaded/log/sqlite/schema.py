"""The tables of a log in a SQLite file, and the values in its table ``sse_meta``."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence

from ...errors import LogUnusable
from ..event_id import new_epoch

# Counts the versions of the tables below. A file of a higher version is left alone.
SCHEMA = 1

# AUTOINCREMENT: no number is given twice, even when the newest events are deleted.
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


def has_tables(connection: sqlite3.Connection) -> bool:
    """Whether all tables and indexes exist."""
    marks = ", ".join("?" * len(_NAMES))
    query = f"SELECT count(*) FROM sqlite_master WHERE name IN ({marks})"
    (count,) = connection.execute(query, _NAMES).fetchone()
    return bool(count == len(_NAMES))


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables and indexes that are missing, inside the caller's transaction."""
    for statement in _TABLES.split(";"):
        connection.execute(statement)


def read_meta(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the log's values about itself: ``schema``, ``epoch``, ``inode``, ``mark`` and perhaps ``boot``."""
    return dict(connection.execute("SELECT name, value FROM sse_meta"))


def write_meta(connection: sqlite3.Connection, meta: Mapping[str, str]) -> None:
    """Write the log's values about itself, inside the caller's transaction."""
    connection.executemany("INSERT OR REPLACE INTO sse_meta VALUES (?, ?)", meta.items())


def complete_meta(found: Mapping[str, str], url: str, synchronous: str) -> dict[str, str]:
    """Return a log's values about itself. New values replace those that are missing or no longer hold.

    :param found: the values in the file.
    :param url: the log's, for the errors.
    :param synchronous: ``"full"`` or ``"normal"``.
    :raises LogUnusable: a newer release wrote the file, the table belongs to another program, or this system
        cannot do ``synchronous=normal``.
    """
    meta = {"schema": str(SCHEMA), "epoch": new_epoch(), **found}
    if not meta["schema"].isdecimal():
        raise LogUnusable(url, "its table sse_meta belongs to another program; name another file")
    if int(meta["schema"]) > SCHEMA:
        versions = f"a newer sse_threaded (schema {meta['schema']}; this one knows {SCHEMA})"
        raise LogUnusable(url, f"written by {versions}; upgrade this program")
    # With synchronous=normal a power cut undoes the last commits, and their numbers would be given again. So the
    # ids begin a new epoch after each boot: clients fetch their state again instead of missing events.
    if synchronous == "normal" or "boot" in meta:
        boot = _boot_id(url)
        if meta.setdefault("boot", boot) != boot:
            meta.update(boot=boot, epoch=new_epoch())
    return meta


def _boot_id(url: str) -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        raise LogUnusable(url, "synchronous=normal needs Linux, which has an id for each boot") from None


def last_sequence(connection: sqlite3.Connection) -> int:
    """Return the newest event's number, 0 before the first."""
    row = execute_plain(connection, _LAST).fetchone()
    return row[0] if row else 0


def set_last_sequence(connection: sqlite3.Connection, sequence: int) -> None:
    """Let the numbers go on after ``sequence``, inside the caller's transaction."""
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'sse_events'")
    connection.execute("INSERT INTO sqlite_sequence VALUES ('sse_events', ?)", (sequence,))


def execute_plain(connection: sqlite3.Connection, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
    """Run a statement whose rows are tuples, whatever row factory the app has set."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute(statement, values)
