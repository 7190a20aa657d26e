"""What runs inside Redis, in Lua: each script is one step, of which others see all or nothing.

Numbers are given by a counter. An event with number 7 that was made at the Unix time 1760000000000 ms is the entry
``7-1760000000000`` of two streams: the *feed*, which has the newest of all channels in one row, and that of its
channel. So a range of numbers is a range of entries, and an entry tells its age.

All keys of a log begin with its prefix in braces, so that a Cluster keeps them in one slot:

    {prefix}:meta                       hash: schema, epoch, last, run, gaps, forgotten, folded, size, count, age
    {prefix}:lock                       who has a transaction open
    {prefix}:next                       who found it locked, and is to have a turn before the next transaction
    {prefix}:done:TOKEN                 what a script answered, for who did not get the answer
    {prefix}:EPOCH:feed                 stream: fields c (channel), d (data), e (event)
    {prefix}:EPOCH:marks                list: numbers in the feed, one for each 8 MB
    {prefix}:EPOCH:channel:NAME         stream: fields d, e
    {prefix}:EPOCH:last                 sorted set: each channel's newest number
    {prefix}:EPOCH:trimmed              hash: the newest number that is gone from a channel

A server that was restarted, or a replica that took over, may lack the newest events that were acknowledged, and
would give their numbers again. So the first append to such a server leaves a *gap* of numbers: who resumes from
inside it has seen an event that is lost. A server says who it is by its ``run_id``, and since when it is the
master by its ``master_replid``.
"""

from __future__ import annotations

from functools import lru_cache

from ..retention import Retention

# Numbers left out after a change of server, at least: more than any server loses. To these come as many as nine
# digits of its master_replid say, up to 2**36 at random: of two servers that went on from the same place, unknown
# to each other, neither gives the other's numbers. Lua has 53 bits for a number, enough for 200,000 restarts.
GAP = 10_000_000_000

# Gaps that are remembered; whoever resumes from before the oldest of these gets a reset.
GAPS = 32

# Events in the feed: how far a process may be behind, or cut off, and go on where it was.
FEED = 10_000

# Its bytes, at most: so many steps of this size, at each of which a mark is made of where it is.
FEED_STEP, FEED_STEPS = 8 * 1024 * 1024, 8

# What a lost answer is kept for, and what an open transaction may last, in milliseconds.
DONE_MS = 20_000
LOCK_MS = 4_000

# For how long no transaction begins after somebody was refused, who tries again within some 30 ms.
NEXT_MS = 100

# Channels without events of which is remembered up to where they were trimmed; see sqlite_trim.
REMEMBERED = 10_000

# Instead of how many events are kept: as many, and as long, as was written into the meta hash last.
FROM_META = "?"
_DEFAULT = Retention()
_DEFAULT_MS = int((_DEFAULT.age or 0) * 1000)

# How a script says that it did nothing: Redis wraps its words in others, which differ between releases.
NEW_EPOCH = "sse_threaded:epoch"
LOCKED = "sse_threaded:locked"
LOCK_LOST = "sse_threaded:lock lost"

# Scripts of the app's own that are kept ready. They are few, unless an app writes values into their text.
_BODIES = 64

# KEYS[1] is the meta hash, in all of them; KEYS[2] is never there.

# The commands that these scripts use, and the listener, each as somebody might say it of a key.
_COMMANDS = (
    "info time get:k mget:k:k set:k:v del:k exists:k pttl:k pexpire:k:1 persist:k "
    "hget:k:f hset:k:f:v hmget:k:f hincrby:k:f:1 hdel:k:f rpush:k:v lpop:k "
    "zadd:k:1:m zscore:k:m zcard:k zrank:k:m zrange:k:0:1 zrem:k:m "
    "xadd:k:*:f:v xlen:k xrange:k:-:+ xtrim:k:MINID:0 xread:STREAMS:k:0"
)

# ARGV: schema, a new epoch. Returns the schema and the epoch there are, Redis's version, what it evicts, and the
# first command that it denies this user, as far as it can say so (7.0). Writes nothing if the log is there.
PREPARE = f"""
for command in string.gmatch(redis.acl_check_cmd and '{_COMMANDS}' or '', '%S+') do
    local words = {{}}
    for word in string.gmatch(command, '[^:]+') do words[#words + 1] = word == 'k' and KEYS[1] or word end
    if not redis.acl_check_cmd(unpack(words)) then return {{'', '', '', '', words[1]}} end
end
local server = redis.call('INFO', 'server')
if not redis.call('HGET', KEYS[1], 'epoch') then
    local own = string.match(server, 'run_id:(%x+)')
    local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
    redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'epoch', ARGV[2], 'last', '0', 'run', own .. ':' .. history)
end
local found = redis.call('HMGET', KEYS[1], 'schema', 'epoch')
local policy = string.match(redis.call('INFO', 'memory'), 'maxmemory_policy:([%w-]+)')
return {{found[1], found[2], string.match(server, 'redis_version:([%d.]+)'), policy, ''}}
"""

# Begins those that follow. ARGV[1] is the epoch that the caller knows.
_COMMON = f"""
local meta = KEYS[1]
local base = string.sub(meta, 1, -5)
if redis.call('HGET', meta, 'epoch') ~= ARGV[1] then return redis.error_reply('{NEW_EPOCH}') end
local keys = base .. ARGV[1]
local feed, marks = keys .. ':feed', keys .. ':marks'
local lasts, trims = keys .. ':last', keys .. ':trimmed'

local function text(number) return string.format('%.0f', number) end
local function stream_of(channel) return keys .. ':channel:' .. channel end
local function number_of(entry) return tonumber(string.match(entry, '^%d+')) end
local function last_event_id() return ARGV[1] .. '-' .. redis.call('HGET', meta, 'last') end
local function time_of(entry) return tonumber(string.match(entry, '%d+$')) end
"""

# ARGV: epoch, a token, a transaction's own token or '', events per channel or '' (or FROM_META), milliseconds that
# they are kept or ''; then the body's own, as ``args``. A second call with the same token changes nothing and
# returns the same. The body may call ``append(channel, data, event or false)``, which returns the event's id, and
# returns what the caller gets, or ``redis.error_reply()`` if it did nothing.
_WRITE = f"""
local has_say = ARGV[4] ~= '{FROM_META}'
local count, age = ARGV[4], ARGV[5]
if not has_say then
    count, age = unpack(redis.call('HMGET', meta, 'count', 'age'))
    if not count then count, age = '{_DEFAULT.count}', '{_DEFAULT_MS}' end
end
count, age = tonumber(count), tonumber(age)
local lock, next_one, done = base .. 'lock', base .. 'next', base .. 'done:' .. ARGV[2]
local before, holder, waiting = unpack(redis.call('MGET', done, lock, next_one))
if before then return cmsgpack.unpack(before) end
if ARGV[3] ~= '' then
    if holder ~= ARGV[3] then return redis.error_reply('{LOCK_LOST}') end
elseif holder then
    if not waiting or waiting == ARGV[2] then redis.call('SET', next_one, ARGV[2], 'PX', '{NEXT_MS}') end
    return redis.error_reply('{LOCKED}')
elseif waiting == ARGV[2] then
    redis.call('DEL', next_one)
    waiting = false
end

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

local looked = false
local function look_at_server()
    if looked then return end
    looked = true
    local own = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
    local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
    local run, most, longest = unpack(redis.call('HMGET', meta, 'run', 'count', 'age'))
    if has_say and (most ~= ARGV[4] or longest ~= ARGV[5]) then
        redis.call('HSET', meta, 'count', ARGV[4], 'age', ARGV[5])
    end
    if run == own .. ':' .. history then return end
    redis.call('HSET', meta, 'run', own .. ':' .. history)
    local last = redis.call('HGET', meta, 'last')
    local wide = {GAP} + tonumber(string.sub(history, 1, 9), 16)
    local gaps = {{}}
    for gap in string.gmatch(redis.call('HGET', meta, 'gaps') or '', '[%d:]+') do gaps[#gaps + 1] = gap end
    local past = text(tonumber(last) + wide)
    redis.call('HSET', meta, 'last', past)
    gaps[#gaps + 1] = last .. ':' .. past
    if #gaps > {GAPS} then
        redis.call('HSET', meta, 'forgotten', string.match(table.remove(gaps, 1), '%d+$'))
    end
    redis.call('HSET', meta, 'gaps', table.concat(gaps, ','))
end

-- Each look takes a few of the oldest, so what an append costs does not grow.
local function trim(channel, stream, now)
    local over = count and redis.call('XLEN', stream) - count or 0
    local limit = age and now - age or 0
    local gone
    for place, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', 24)) do
        if place > over and time_of(entry[1]) >= limit then break end
        gone = number_of(entry[1])
    end
    if not gone then return 0 end
    redis.call('HSET', trims, channel, text(gone))
    return redis.call('XTRIM', stream, 'MINID', text(gone + 1))
end

local function fold()
    if redis.call('ZCARD', lasts) <= REMEMBERED then return end
    local oldest = redis.call('ZRANGE', lasts, 0, 15, 'WITHSCORES')
    for place = 1, #oldest, 2 do
        local stream = stream_of(oldest[place])
        if redis.call('EXISTS', stream) == 1 then
            -- It may be of a time when events were kept for ever, and hold all others up.
            if age and redis.call('PTTL', stream) < 0 then redis.call('PEXPIRE', stream, text(age)) end
            return
        end
        redis.call('ZREM', lasts, oldest[place])
        redis.call('HDEL', trims, oldest[place])
        redis.call('HSET', meta, 'folded', oldest[place + 1])
    end
end

local function append(channel, data, event)
    look_at_server()
    local stream = stream_of(channel)
    if redis.call('EXISTS', stream) == 0 then
        local gone = redis.call('ZSCORE', lasts, channel) or redis.call('HGET', meta, 'folded')
        if gone then redis.call('HSET', trims, channel, gone) end
    end
    -- Set, not incremented: Redis may run a part of a torn step in its append-only file again, at a later start.
    local number = tonumber(redis.call('HGET', meta, 'last')) + 1
    redis.call('HSET', meta, 'last', text(number))
    local now = now()
    local entry = text(number) .. '-' .. text(now)
    if event then
        redis.call('XADD', stream, entry, 'd', data, 'e', event)
        redis.call('XADD', feed, 'MAXLEN', '~', '{FEED}', entry, 'c', channel, 'd', data, 'e', event)
    else
        redis.call('XADD', stream, entry, 'd', data)
        redis.call('XADD', feed, 'MAXLEN', '~', '{FEED}', entry, 'c', channel, 'd', data)
    end
    if redis.call('HINCRBY', meta, 'size', #channel + #data) > {FEED_STEP} then
        redis.call('HSET', meta, 'size', '0')
        if redis.call('RPUSH', marks, text(number)) > {FEED_STEPS} then
            redis.call('XTRIM', feed, 'MINID', redis.call('LPOP', marks))
        end
    end
    redis.call('ZADD', lasts, text(number), channel)
    if age then
        redis.call('PEXPIRE', stream, text(age))
        redis.call('PEXPIRE', feed, text(age))
    else
        -- Somebody with a bound may have appended before, and nobody after this event.
        redis.call('PERSIST', stream)
        redis.call('PERSIST', feed)
    end
    if redis.call('XLEN', stream) % 16 == 0 then trim(channel, stream, now) end
    if number % 16 == 0 then fold() end
    return ARGV[1] .. '-' .. text(number)
end

local function body(args)
BODY
end

local args = {{}}
for place = 6, #ARGV do args[#args + 1] = ARGV[place] end
local answer = body(args)
if type(answer) ~= 'table' or not answer.err then
    redis.call('SET', done, cmsgpack.pack(answer), 'PX', '{DONE_MS}')
end
return answer
"""

# args: channel, data, then the event's type if it has one.
APPEND = "return append(args[1], args[2], args[3] or false)"

# args: a token. Returns last, once the caller has the lock under this token.
LOCK = f"""
if waiting then return redis.error_reply('{LOCKED}') end
look_at_server()
redis.call('SET', lock, args[1], 'PX', '{LOCK_MS}')
return redis.call('HGET', meta, 'last')
"""

# args: what LOCK returned; then channel, data, 1 and a type or 0 and nothing, of each event.
COMMIT = f"""
look_at_server()
redis.call('DEL', lock)
if redis.call('HGET', meta, 'last') ~= args[1] then return redis.error_reply('{LOCK_LOST}') end
for place = 2, #args, 4 do
    append(args[place], args[place + 1], args[place + 2] == '1' and args[place + 3] or false)
end
return '1'
"""

# args: a channel or ''. Trims the next one, and returns from where to go on, how many events went, and whether
# that was all.
TRIM = """
redis.call('DEL', KEYS[2])  -- a first write that takes no memory; after one a script may go on at maxmemory, too
fold()
local rank = args[1] == '' and -1 or redis.call('ZRANK', lasts, args[1]) or -1
local channel = redis.call('ZRANGE', lasts, rank + 1, rank + 1)[1]
if not channel then return {'', 0, 1} end
local gone, some = 0, 0
repeat
    some = trim(channel, stream_of(channel), now())
    gone = gone + some
until some == 0 or gone > 200
return {gone > 200 and args[1] or channel, gone, 0}
"""

# ARGV: epoch, after which number, the last number wanted or '', events at most, bytes at most, then channels; none
# for the feed. Returns last, gaps, whether some of it is gone, and for each stream whether it was cut short and
# its entries.
READ = (
    _COMMON
    + """
local after, upto, most, room = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local folded = tonumber(redis.call('HGET', meta, 'folded') or 0)
local gone = tonumber(redis.call('HGET', meta, 'forgotten') or 0) > after and 1 or 0

local function read(stream)
    local found, size, from, step = {}, 0, text(after + 1), 8
    while true do
        local some = redis.call('XRANGE', stream, from, upto == '' and '+' or upto, 'COUNT', step)
        for _, entry in ipairs(some) do
            found[#found + 1] = entry
            for place = 2, #entry[2], 2 do size = size + #entry[2][place] end
            if #found >= most or size >= room then return {1, found} end
        end
        if #some < step then return {0, found} end
        from = text(number_of(some[#some][1]) + 1)
        step = math.min(step * 2, 64)
    end
end

local streams = {}
if #ARGV == 5 then
    streams[1] = read(feed)
else
    for place = 6, #ARGV do
        local channel = ARGV[place]
        local stream = stream_of(channel)
        local last = redis.call('ZSCORE', lasts, channel)
        local floor
        if last and redis.call('EXISTS', stream) == 1 then
            floor = redis.call('HGET', trims, channel) or 0
        else
            floor = last or folded
        end
        if tonumber(floor) > after then gone = 1 end
        streams[#streams + 1] = read(stream)
    end
end
local state = redis.call('HMGET', meta, 'last', 'gaps')
return {state[1], state[2] or '', gone, streams}
"""
)

# ARGV: epoch; then the body's own, as ``args``.
_READ_OWN = """
local function body(args)
BODY
end

local args = {}
for place = 2, #ARGV do args[#args + 1] = ARGV[place] end
return body(args)
"""

# ARGV: epoch. Returns last and gaps.
STATE = (
    _COMMON
    + """
local state = redis.call('HMGET', meta, 'last', 'gaps')
return {state[1], state[2] or ''}
"""
)

# ARGV: epoch. Fails where Redis would take no event, as each script does that writes; but this writes nothing.
CHECK = (
    _COMMON
    + """
redis.call('SET', KEYS[2], '', 'XX')
return 1
"""
)

# ARGV: epoch, a token. Gives the lock back, if the caller has it.
UNLOCK = (
    _COMMON
    + """
if redis.call('GET', base .. 'lock') == ARGV[2] then redis.call('DEL', base .. 'lock') end
return 1
"""
)


@lru_cache(_BODIES)
def reading(body: str) -> str:
    """The whole script for a body that changes nothing; it may call ``last_event_id()``."""
    return _COMMON + _READ_OWN.replace("BODY", body)


def writing(body: str) -> str:
    """The whole script for a body that appends."""
    return _writing(body, REMEMBERED)


@lru_cache(_BODIES)
def _writing(body: str, remembered: int) -> str:
    return _COMMON + _WRITE.replace("REMEMBERED", str(remembered)).replace("BODY", body)
