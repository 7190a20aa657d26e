-- args: board, task, channel, the event's data.
if not has_board(args[1]) then return {'board'} end
local key = board_key(args[1])
if redis.call('HDEL', key .. ':titles', args[2]) == 0 then return {'task'} end
redis.call('HDEL', key .. ':lists', args[2])
redis.call('ZREM', key .. ':order', args[2])
return {'', append(args[3], args[4])}
