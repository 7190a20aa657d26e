-- Makes the log if it does not exist; writes nothing if it does.
-- ARGV: schema, a new epoch.
-- Returns the log's schema and epoch, and Redis's version and eviction policy. The last value is the first command
-- that Redis denies this user: '' for no command, and before 7.0, which cannot tell.
for command in string.gmatch(redis.acl_check_cmd and COMMANDS or '', '%S+') do
    local words = {}
    for word in string.gmatch(command, '[^:]+') do words[#words + 1] = word == 'k' and KEYS[1] or word end
    if not redis.acl_check_cmd(unpack(words)) then return {'', '', '', '', words[1]} end
end
local server = redis.call('INFO', 'server')
if not redis.call('HGET', KEYS[1], 'epoch') then
    local own = string.match(server, 'run_id:(%x+)')
    local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
    redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'epoch', ARGV[2], 'last', '0', 'run', own .. ':' .. history)
end
local found = redis.call('HMGET', KEYS[1], 'schema', 'epoch')
local policy = string.match(redis.call('INFO', 'memory'), 'maxmemory_policy:([%w-]+)')
return {found[1], found[2], string.match(server, 'redis_version:([%d.]+)'), policy, ''}
