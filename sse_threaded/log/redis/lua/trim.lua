-- args: a channel or ''. Trims the next channel. Returns the channel after which to go on, how many events were
-- deleted, and 1 if that was all.
redis.call('DEL', KEYS[2])  -- a first write that takes no memory; after it a script may go on at maxmemory too
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
