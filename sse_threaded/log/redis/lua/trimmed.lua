-- ARGV: epoch, the channels. Returns the newest number that was trimmed from one of them, '0' for none.
local folded = tonumber(redis.call('HGET', meta, 'folded') or 0)
local newest = tonumber(redis.call('HGET', meta, 'forgotten') or 0)
for place = 2, #ARGV do
    local channel = ARGV[place]
    local last = redis.call('ZSCORE', lasts, channel)
    local floor
    if last and redis.call('EXISTS', stream_of(channel)) == 1 then
        floor = redis.call('HGET', trims, channel) or 0
    else
        floor = last or folded
    end
    newest = math.max(newest, tonumber(floor))
end
return text(newest)
