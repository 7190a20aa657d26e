-- args: the number below which to begin (0: with the newest), how many.
-- Returns numbers and titles in turn. A number without a board counts too, so the time of the script is bounded.
local newest = tonumber(redis.call('HGET', counters, 'board') or 0)
local below = tonumber(args[1])
if below > 0 then newest = math.min(newest, below - 1) end
local found = {''}
for number = newest, math.max(1, newest - tonumber(args[2]) + 1), -1 do
    local title = redis.call('HGET', board_key(number), 'title')
    if title then
        found[#found + 1] = number
        found[#found + 1] = title
    end
end
return found
