-- The keys of the boards, for every script of the board. `base` is the prefix of the log.
local counters = base .. 'boards'
local function board_key(number) return base .. 'board:' .. number end
local function has_board(number) return redis.call('EXISTS', board_key(number)) == 1 end
