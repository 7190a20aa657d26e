-- Creates the first board, once.
-- args: the title of the first board, then the list and the title of each task.
if redis.call('EXISTS', counters) == 1 then return 0 end
local board = new_board(args[1])
for at = 2, #args, 2 do new_task(board, args[at], args[at + 1]) end
return 1
