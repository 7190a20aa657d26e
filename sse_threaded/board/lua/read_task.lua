-- args: board, task. Returns the title and the list.
if not has_board(args[1]) then return {'board'} end
local key = board_key(args[1])
local title = redis.call('HGET', key .. ':titles', args[2])
if not title then return {'task'} end
return {'', title, redis.call('HGET', key .. ':lists', args[2])}
