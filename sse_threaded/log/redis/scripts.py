"""The scripts that run inside Redis, in Lua: each is one step, and others see all of it or nothing.

The Lua is in the folder ``lua``; this module loads and composes it. A counter gives the numbers. An event with
number 7 that was made at the Unix time 1760000000000 ms is the entry ``7-1760000000000`` of two streams. One is
the *feed*, which has the newest events of all channels in one row, and one is the stream of its channel. So a
range of numbers is a range of entries, and an entry shows its age.

All keys of a log begin with its prefix in braces, so that a Cluster keeps them in one slot:

    {prefix}:meta                       hash: schema, epoch, last, run, gaps, forgotten, folded, size, count, age
    {prefix}:lock                       the token of the open transaction
    {prefix}:next                       the token of a refused writer, which comes before the next transaction
    {prefix}:done:TOKEN                 a script's answer, for a caller that did not get it
    {prefix}:EPOCH:feed                 stream: fields c (channel), d (data), e (event)
    {prefix}:EPOCH:marks                list: numbers in the feed, one for each 8 MB
    {prefix}:EPOCH:channel:NAME         stream: fields d, e
    {prefix}:EPOCH:last                 sorted set: each channel's newest number
    {prefix}:EPOCH:trimmed              hash: each channel's newest trimmed number

A server that was restarted, or a replica that took over, may lack the newest events that were acknowledged, and
would give their numbers again. So the first append to such a server leaves a *gap* of numbers. A client that
resumes from inside a gap has seen an event that is lost. A server's ``run_id`` says which server it is, and its
``master_replid`` since when it is the master.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from ..retention import MESSAGES, MESSAGES_ROWS, MESSAGES_SECONDS, Retention

# Numbers left out after a change of server, at least: more than any server loses. To these come as many as nine
# digits of its master_replid say, up to 2**36 at random. So two servers that went on from the same place, unknown
# to each other, give different numbers. Lua has 53 bits for a number, enough for 200,000 restarts.
GAP = 10_000_000_000

# Gaps that are remembered. A client that resumes from before the oldest of these gets a reset.
GAPS = 32

# Events in the feed: a process that is so far behind, or was cut off for so long, goes on where it was.
FEED_EVENTS = 10_000

# The feed's bytes at most: so many steps of this size. A mark notes the number at each step.
FEED_STEP, FEED_STEPS = 8 * 1024 * 1024, 8

# Milliseconds: for how long an answer is kept that may have got lost, and how long a transaction may be open.
DONE_MS = 20_000
LOCK_MS = 4_000

# Milliseconds for which no transaction begins after a writer found the lock taken. The writer tries again within
# about 30 ms.
NEXT_MS = 100

# Channels without events for which the log remembers the newest trimmed number; see
# :mod:`sse_threaded.log.sqlite.trimmer`.
REMEMBERED_CHANNELS = 10_000

# Instead of how many events are kept: as many, and as long, as the meta hash says.
FROM_META = "?"
_DEFAULT = Retention()

# How a script says that it did nothing. Redis puts these words into others, which differ between releases.
NEW_EPOCH = "sse_threaded:epoch"
LOCKED = "sse_threaded:locked"
LOCK_LOST = "sse_threaded:lock lost"

# The app's own scripts that are kept composed. They are few, unless an app writes values into their text.
_BODIES = 64

# The commands that these scripts use, and the listener, each as it could be called on a key. KEYS[1] is the meta
# hash in all scripts; KEYS[2] never exists.
_COMMANDS = (
    "info time get:k mget:k:k set:k:v del:k exists:k pttl:k pexpire:k:1 persist:k "
    "hget:k:f hset:k:f:v hmget:k:f hincrby:k:f:1 hdel:k:f rpush:k:v lpop:k "
    "zadd:k:1:m zscore:k:m zcard:k zrank:k:m zrange:k:0:1 zrem:k:m "
    "xadd:k:*:f:v xlen:k xrange:k:-:+ xrevrange:k:+:- xtrim:k:MINID:0 xread:STREAMS:k:0"
)

_BODY = "-- BODY\n"


def _load(name: str) -> str:
    return (files(__package__) / "lua" / f"{name}.lua").read_text("utf-8")


def _constants(**values: str | int) -> str:
    """Return Lua that defines these constants; no text here has a quote in it."""
    return "".join(f"local {name} = {value!r}\n" for name, value in values.items())


_COMMON = _constants(NEW_EPOCH=NEW_EPOCH) + _load("common")
_WRITE = (
    _constants(
        FROM_META=FROM_META,
        DEFAULT_COUNT=str(_DEFAULT.count),
        DEFAULT_MS=str(int((_DEFAULT.age or 0) * 1000)),
        LOCKED=LOCKED,
        LOCK_LOST=LOCK_LOST,
        NEXT_MS=NEXT_MS,
        LOCK_MS=LOCK_MS,
        DONE_MS=DONE_MS,
        MESSAGES=MESSAGES,
        MESSAGES_COUNT=MESSAGES_ROWS.count or 0,
        MESSAGES_MS=int(MESSAGES_SECONDS * 1000),
        GAP=GAP,
        GAPS=GAPS,
        FEED_EVENTS=FEED_EVENTS,
        FEED_STEP=FEED_STEP,
        FEED_STEPS=FEED_STEPS,
    )
    + _COMMON
    + _load("before_write")
    + _load("append_functions")
    + _load("after_write")
)
_LOOK = _COMMON + _load("look")

# Whole scripts.
PREPARE = _constants(COMMANDS=_COMMANDS) + _load("prepare")
READ = _COMMON + _load("read")
NEWEST = _COMMON + _load("newest")
STATE = _COMMON + _load("state")
TRIMMED = _COMMON + _load("trimmed")
CHECK = _COMMON + _load("check")
END_TRANSACTION = _COMMON + _load("end_transaction")

# Bodies of scripts that write.
APPEND = _load("append")
BEGIN_TRANSACTION = _load("begin_transaction")
COMMIT_TRANSACTION = _load("commit_transaction")
TRIM = _load("trim")


@lru_cache(_BODIES)
def reading_script(body: str) -> str:
    """Return the whole script for a body that changes nothing; it may call ``last_event_id()``."""
    return _LOOK.replace(_BODY, f"{body}\n")


@lru_cache(_BODIES)
def writing_script(body: str, remembered_channels: int = REMEMBERED_CHANNELS) -> str:
    """Return the whole script for a body that writes; it may call ``append()`` and ``last_event_id()``.

    :param body: Lua; see :meth:`.log.RedisLog.run`.
    :param remembered_channels: for how many channels without events the log remembers the newest trimmed number.
    """
    return _constants(REMEMBERED_CHANNELS=remembered_channels) + _WRITE.replace(_BODY, f"{body}\n")
