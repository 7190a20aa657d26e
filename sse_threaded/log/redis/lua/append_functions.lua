-- The functions that append and trim.

-- Milliseconds since 1970.
local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Writes down the retention, and leaves a gap of numbers if the server is another one than at the last append.
local has_noted = false
local function note_server()
    if has_noted then return end
    has_noted = true
    local own = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
    local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
    local run, most, longest = unpack(redis.call('HMGET', meta, 'run', 'count', 'age'))
    if sets_retention and (most ~= ARGV[4] or longest ~= ARGV[5]) then
        redis.call('HSET', meta, 'count', ARGV[4], 'age', ARGV[5])
    end
    if run == own .. ':' .. history then return end
    redis.call('HSET', meta, 'run', own .. ':' .. history)
    local last = redis.call('HGET', meta, 'last')
    local wide = GAP + tonumber(string.sub(history, 1, 9), 16)
    local gaps = {}
    for gap in string.gmatch(redis.call('HGET', meta, 'gaps') or '', '[%d:]+') do gaps[#gaps + 1] = gap end
    local past = text(tonumber(last) + wide)
    redis.call('HSET', meta, 'last', past)
    gaps[#gaps + 1] = last .. ':' .. past
    if #gaps > GAPS then
        redis.call('HSET', meta, 'forgotten', string.match(table.remove(gaps, 1), '%d+$'))
    end
    redis.call('HSET', meta, 'gaps', table.concat(gaps, ','))
end

-- How long a channel's events stay, in milliseconds; nil for ever.
local function age_of(channel)
    if channel == MESSAGES then return MESSAGES_MS end
    return age
end

local function expire(key, longest)
    if longest then redis.call('PEXPIRE', key, text(longest)) else redis.call('PERSIST', key) end
end

-- Deletes some of a channel's events that need not be kept; returns how many. Each call looks at a few of the
-- oldest events, so the cost of an append does not grow.
local function trim(channel, stream, now)
    local most = channel == MESSAGES and MESSAGES_COUNT or count
    local over = most and redis.call('XLEN', stream) - most or 0
    local longest = age_of(channel)
    local limit = longest and now - longest or 0
    local gone
    for place, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', 24)) do
        if place > over and time_of(entry[1]) >= limit then break end
        gone = number_of(entry[1])
    end
    if not gone then return 0 end
    redis.call('HSET', trims, channel, text(gone))
    return redis.call('XTRIM', stream, 'MINID', text(gone + 1))
end

-- Forgets the oldest channels without events, if they are too many. One number, folded, stands for all of them.
local function fold()
    if redis.call('ZCARD', lasts) <= REMEMBERED_CHANNELS then return end
    local oldest = redis.call('ZRANGE', lasts, 0, 15, 'WITHSCORES')
    for place = 1, #oldest, 2 do
        local stream = stream_of(oldest[place])
        if redis.call('EXISTS', stream) == 1 then
            -- It may be from a time when events were kept for ever. Then no other channel would be folded.
            if age and redis.call('PTTL', stream) < 0 then redis.call('PEXPIRE', stream, text(age)) end
            return
        end
        redis.call('ZREM', lasts, oldest[place])
        redis.call('HDEL', trims, oldest[place])
        redis.call('HSET', meta, 'folded', oldest[place + 1])
    end
end

-- Appends an event, with false for event if it has no type; returns its id. Bodies may call it.
local function append(channel, data, event)
    note_server()
    local stream = stream_of(channel)
    if redis.call('EXISTS', stream) == 0 then
        local gone = redis.call('ZSCORE', lasts, channel) or redis.call('HGET', meta, 'folded')
        if gone then redis.call('HSET', trims, channel, gone) end
    end
    -- Set, not incremented: at a later start Redis may run a part of a torn step in its append-only file again.
    local number = tonumber(redis.call('HGET', meta, 'last')) + 1
    redis.call('HSET', meta, 'last', text(number))
    local now = now()
    local entry = text(number) .. '-' .. text(now)
    if event then
        redis.call('XADD', stream, entry, 'd', data, 'e', event)
        redis.call('XADD', feed, 'MAXLEN', '~', FEED_EVENTS, entry, 'c', channel, 'd', data, 'e', event)
    else
        redis.call('XADD', stream, entry, 'd', data)
        redis.call('XADD', feed, 'MAXLEN', '~', FEED_EVENTS, entry, 'c', channel, 'd', data)
    end
    if redis.call('HINCRBY', meta, 'size', #channel + #data) > FEED_STEP then
        redis.call('HSET', meta, 'size', '0')
        if redis.call('RPUSH', marks, text(number)) > FEED_STEPS then
            redis.call('XTRIM', feed, 'MINID', redis.call('LPOP', marks))
        end
    end
    redis.call('ZADD', lasts, text(number), channel)
    -- A process with a bound may have appended before, and this event may stay the last one.
    expire(stream, age_of(channel))
    expire(feed, age)
    if redis.call('XLEN', stream) % 16 == 0 then trim(channel, stream, now) end
    if number % 16 == 0 then fold() end
    return ARGV[1] .. '-' .. text(number)
end
