-- ARGV: epoch. Returns the last number and the gaps.
local state = redis.call('HMGET', meta, 'last', 'gaps')
return {state[1], state[2] or ''}
