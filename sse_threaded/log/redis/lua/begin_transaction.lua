-- args: a token. Returns the last number, once the caller has the lock under this token.
if waiting then return redis.error_reply(LOCKED) end
note_server()
redis.call('SET', lock, args[1], 'PX', LOCK_MS)
return redis.call('HGET', meta, 'last')
