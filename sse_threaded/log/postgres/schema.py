"""The tables and functions of a log in PostgreSQL. Their SQL is in the folder ``sql``; this module fills in names.

The folder's ``tables.sql`` explains the tables. There are three ways to write:

- The function ``publish`` adds an event in the caller's transaction, and takes no lock.
- The function ``append`` numbers all events that were committed. It also adds events, with their numbers.
- The function ``trim`` deletes old events, some at a time.

One caller of ``append`` at a time has the log's lock, until its transaction ends.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files

from .url import Address

# Counts the versions of the tables and functions. A log of a higher version is left alone.
SCHEMA = 1

# The first half of the keys of our advisory locks. The second half is the oid of the table of numbers, so each
# log has locks of its own. The app's locks have other keys, unless it has chosen just these numbers.
_LOCK, _TRIMMER_LOCK, _MAKER_LOCK = 1_397_966_164, 1_397_966_165, 1_397_966_166

# Milliseconds that an append waits for the lock. This is less than the client waits for an answer. So PostgreSQL
# gives up before the caller does, and an append that has failed never takes effect later.
LOCK_MS = 4_000

# Events that one batch numbers at most, unless one transaction has more. Other appends wait for the batch.
BATCH = 20_000

# How many times an append looks for the lock, once a millisecond, before it queues for it.
_LOOKS = 50

# Old epochs that are remembered.
_MOST_EPOCHS = 100

# How many numbers are given, and one in a hundred more, before the log notes the newest one in its own row.
_HIGH_STEP = 1_000

# Settings of the functions whose statements must always have the same plan, by the indexes. PostgreSQL would plan
# by the sizes that it knows, and the tables may have grown since. It would also compile the statements, or plan
# them again and again, for milliseconds each time.
_ONE_PLAN = (
    "SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off "
    "SET plan_cache_mode = force_generic_plan SET jit = off"
)

# Whether the numberer is awake, which then holds this lock. It is one expression, so that nothing can interrupt it
# while it has the lock itself.
_IS_AWAKE = (
    "(CASE WHEN pg_try_advisory_lock_shared({awake}) THEN NOT pg_advisory_unlock_shared({awake}) ELSE true END)"
)

_TABLES = ("events", "numbers", "trimmed", "epochs", "state")
_FUNCTIONS = (
    *("place", "system", "letters", "running", "bound", "before", "renew"),
    *("append", "publish", "read", "trim", "fold"),
)
_INDEXES = ("numbers_channel",)

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


def name(address: Address, table: str) -> str:
    """Return the name of one of the log's tables or functions, for SQL.

    :param address: the log's.
    :param table: ``"events"``, or another name from the folder ``sql``.
    """
    return f'"{address.schema}"."{address.prefix}_{table}"'


def statements(address: Address) -> list[str]:
    """Return the SQL that makes the log, one statement each. Run them in one transaction.

    They replace functions. Tables that exist already stay as they are.

    :param address: the log's.
    """
    schema = address.schema
    is_missing = f"to_regnamespace('\"{schema}\"') IS NULL"
    make_schema = f'DO $body$ BEGIN IF {is_missing} THEN CREATE SCHEMA "{schema}"; END IF; END $body$'
    # Two processes that make the log at the same time do so one after the other.
    lock = f"SELECT pg_advisory_xact_lock({_MAKER_LOCK}, hashtext('{schema}.{address.prefix}'))"
    return [
        lock,
        make_schema,
        *(each.strip() for each in fill(address, _load("tables")).split(";\n") if each.strip()),
        *(fill(address, _load(each)).strip().rstrip(";") for each in _FUNCTIONS),
        fill(address, _load("begin")).strip(),
    ]


def fill(address: Address, text: str) -> str:
    """Return SQL with the names of the log's tables and functions for ``{events}``, ``{append}`` and so on."""
    values = {each: name(address, each) for each in (*_TABLES, *_FUNCTIONS)}
    values |= {each: f'"{address.prefix}_{each}"' for each in _INDEXES}
    numbers = {
        "bell": address.bell,
        "one_plan": _ONE_PLAN,
        "version": SCHEMA,
        "lock": _LOCK,
        "trimmer_lock": _TRIMMER_LOCK,
        "lock_timeout": LOCK_MS,
        "looks": _LOOKS,
        "batch": BATCH,
        "most_epochs": _MOST_EPOCHS,
        "high_step": _HIGH_STEP,
    }
    values |= {each: str(value) for each, value in numbers.items()}
    values["is_awake"] = _IS_AWAKE.format(awake=address.awake_key)
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


@lru_cache(None)
def _load(file: str) -> str:
    return (files(__package__) / "sql" / f"{file}.sql").read_text("utf-8")
