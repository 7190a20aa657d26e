-- Functions that insert boards and tasks. They need keys.lua.
local function place(board, task, list)
    local key = board_key(board)
    redis.call('ZADD', key .. ':order', redis.call('HINCRBY', key, 'place', 1), task)
    redis.call('HSET', key .. ':lists', task, list)
end
local function new_board(title)
    local number = redis.call('HINCRBY', counters, 'board', 1)
    redis.call('HSET', board_key(number), 'title', title)
    return number
end
local function new_task(board, list, title)
    local number = redis.call('HINCRBY', counters, 'task', 1)
    place(board, number, list)
    redis.call('HSET', board_key(board) .. ':titles', number, title)
    return number
end
