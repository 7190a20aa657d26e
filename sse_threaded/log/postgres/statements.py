"""The statements that a log in PostgreSQL runs, with the names of one log in them."""

from __future__ import annotations

from typing import NamedTuple

from .schema import fill
from .url import Address

# In all of them the values are given as text, and PostgreSQL gets their types from here.
_EXISTS = "SELECT to_regclass('{state}') IS NOT NULL, getdatabaseencoding() IN ('UTF8', 'SQL_ASCII')"
_STATE = """SELECT s.schema, s.epoch, ARRAY(SELECT e.epoch FROM {epochs} e ORDER BY e.nr),
    ARRAY(SELECT e.upto FROM {epochs} e ORDER BY e.nr) FROM {state} s"""
_LAST = """SELECT s.epoch, coalesce((SELECT n.sequence FROM {numbers} n ORDER BY n.sequence DESC LIMIT 1), 0),
    has_table_privilege('{events}', 'INSERT') AND has_table_privilege('{numbers}', 'INSERT')
    AND NOT pg_is_in_recovery() FROM {state} s"""
_NEWEST = """SELECT
    s.epoch || '-' || coalesce((SELECT n.sequence FROM {numbers} n ORDER BY n.sequence DESC LIMIT 1), 0)
    FROM {state} s"""
_APPEND = """SELECT a.is_behind, a.epoch, a.last, a.waited
    FROM {append}(%s::text[], %s::text[], %s::text[], %s::text, %s::bigint) a"""
_PUBLISH = "SELECT {publish}(%s::text, %s::text, %s::text, %s::boolean), (SELECT s.epoch FROM {state} s)"
_READ = "SELECT * FROM {read}(%s::bigint, %s::text[], %s::bigint, %s::integer, %s::bigint)"
_NEWEST_OF = """SELECT n.sequence, n.channel, e.event, e.data
    FROM {numbers} n JOIN {events} e ON e.transaction = n.transaction AND e.place = n.place
    WHERE n.channel = %s ORDER BY n.sequence DESC LIMIT 1"""
_TRIMMED = """SELECT coalesce(max(coalesce(t.upto, others.upto)), 0)
    FROM unnest(%s::text[]) AS name (channel)
    LEFT JOIN {trimmed} t ON t.channel = name.channel
    LEFT JOIN {trimmed} others ON others.channel = ''"""
_TRIM = """SELECT t.next_after, t.deleted, t.is_end
    FROM {trim}(
        %s::text, %s::integer, %s::integer, %s::bigint, %s::float8, %s::bigint, %s::float8
    ) t"""
# The rows stay, so that readers of all channels find every number.
_DROP_DATA = """WITH dropped AS (
        UPDATE {events} e SET data = '' FROM {numbers} n
        WHERE n.channel = %s::text AND n.sequence > %s::bigint
            AND n.numbered < statement_timestamp() - make_interval(secs => %s::float8)
            AND e.transaction = n.transaction AND e.place = n.place AND e.data <> ''
        RETURNING n.sequence
    ) SELECT max(d.sequence) FROM dropped d"""
_FOLD = "SELECT {fold}(%s::bigint, %s::integer)"


class Statements(NamedTuple):
    """The statements of one log.

    :ivar exists: whether there is a log, and whether the database takes all texts.
    :ivar state: the version, the epoch, the earlier epochs, and the last number of each.
    :ivar last: the epoch, the newest number, and whether this role can publish here.
    :ivar newest: the message of the newest number, for the listener.
    :ivar newest_of: the newest event of a channel.
    :ivar trimmed: the newest number that was trimmed from channels.
    :ivar append: numbers the committed events, and appends events; see ``sql/append.sql``.
    :ivar publish: adds one event in the caller's transaction; returns whether the numberer is awake, and the
        epoch.
    :ivar read: one page.
    :ivar trim: some steps of trimming.
    :ivar drop_data: drops the data of a channel's old events.
    :ivar fold: forgets channels without events.
    """

    exists: str
    state: str
    last: str
    newest: str
    newest_of: str
    trimmed: str
    append: str
    publish: str
    read: str
    trim: str
    drop_data: str
    fold: str


def statements_for(address: Address) -> Statements:
    """Return the statements of the log at an address."""
    texts = (
        *(_EXISTS, _STATE, _LAST, _NEWEST, _NEWEST_OF, _TRIMMED),
        *(_APPEND, _PUBLISH, _READ, _TRIM, _DROP_DATA, _FOLD),
    )
    return Statements(*(fill(address, text) for text in texts))
