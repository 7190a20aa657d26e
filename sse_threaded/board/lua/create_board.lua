-- args: the title. Returns the number of the board and the id of the newest event.
if not has_board(1) then return {'board'} end
return {'', new_board(args[1]), last_event_id()}
