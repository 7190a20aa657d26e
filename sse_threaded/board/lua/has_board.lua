-- args: board.
return {has_board(args[1]) and '' or 'board'}
