-- ARGV: epoch, a token, a transaction's own token or ''. Then how many events each channel keeps or '' (or
-- FROM_META), and how many milliseconds or ''. Then the body's own arguments, as args.
-- A second call with the same token changes nothing and returns the same.
-- A process that does not set the retention keeps what the meta hash says.
local sets_retention = ARGV[4] ~= FROM_META
local count, age = ARGV[4], ARGV[5]
if not sets_retention then
    count, age = unpack(redis.call('HMGET', meta, 'count', 'age'))
    if not count then count, age = DEFAULT_COUNT, DEFAULT_MS end
end
count, age = tonumber(count), tonumber(age)
local lock, next_writer, done = base .. 'lock', base .. 'next', base .. 'done:' .. ARGV[2]
local before, holder, waiting = unpack(redis.call('MGET', done, lock, next_writer))
-- The caller did not get the answer to its first call.
if before then return cmsgpack.unpack(before) end
if ARGV[3] ~= '' then
    if holder ~= ARGV[3] then return redis.error_reply(LOCK_LOST) end
elseif holder then
    -- A refused writer comes before the next transaction.
    if not waiting or waiting == ARGV[2] then redis.call('SET', next_writer, ARGV[2], 'PX', NEXT_MS) end
    return redis.error_reply(LOCKED)
elseif waiting == ARGV[2] then
    redis.call('DEL', next_writer)
    waiting = false
end
