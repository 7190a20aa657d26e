-- args: the number that begin_transaction.lua returned; then of each event its channel, its data, and either 1 and
-- its type or 0 and nothing.
note_server()
redis.call('DEL', lock)
if redis.call('HGET', meta, 'last') ~= args[1] then return redis.error_reply(LOCK_LOST) end
for place = 2, #args, 4 do
    append(args[place], args[place + 1], args[place + 2] == '1' and args[place + 3] or false)
end
return '1'
