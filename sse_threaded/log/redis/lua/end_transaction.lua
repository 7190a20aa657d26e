-- ARGV: epoch, a token. Gives the lock back, if the caller has it.
if redis.call('GET', base .. 'lock') == ARGV[2] then redis.call('DEL', base .. 'lock') end
return 1
