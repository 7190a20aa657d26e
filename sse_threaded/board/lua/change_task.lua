-- args: board, task, channel, list, the data of the list's event, title, the data of the title's event.
-- The list is '' if there is no such list, and '-' to keep the task's list. The title is '' to keep the title.
-- Returns the title, the list, and the id of the last event or ''.
if not has_board(args[1]) then return {'board'} end
local titles, lists = board_key(args[1]) .. ':titles', board_key(args[1]) .. ':lists'
local title, list = redis.call('HGET', titles, args[2]), redis.call('HGET', lists, args[2])
if not title then return {'task'} end
if args[4] == '' then return {'list'} end
local id = ''
if args[4] ~= '-' and args[4] ~= list then
    list = args[4]
    place(args[1], args[2], list)
    id = append(args[3], args[5])
end
if args[6] ~= '' and args[6] ~= title then
    title = args[6]
    redis.call('HSET', titles, args[2], title)
    id = append(args[3], args[7])
end
return {'', title, list, id}
