-- args: board, channel, list ('': there is no such list), title, the event's data before and after the task's number.
if not has_board(args[1]) then return {'board'} end
if args[3] == '' then return {'list'} end
local number = new_task(args[1], args[3], args[4])
return {'', number, append(args[2], args[5] .. number .. args[6])}
