-- args: board. Returns the title, the tasks in order, their titles, their lists, and the id of the newest event.
if not has_board(args[1]) then return {'board'} end
local key = board_key(args[1])
return {
    '',
    redis.call('HGET', key, 'title'),
    redis.call('ZRANGE', key .. ':order', 0, -1),
    redis.call('HGETALL', key .. ':titles'),
    redis.call('HGETALL', key .. ':lists'),
    last_event_id(),
}
