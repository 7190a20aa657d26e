-- ARGV: epoch, the number after which to read, the last wanted number or '', events at most, bytes at most. Then
-- come the channels; without channels it reads the feed.
-- Returns the last number, the gaps, and 1 if wanted events are gone. Then for each stream: 1 if it was cut short,
-- and its entries.
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
