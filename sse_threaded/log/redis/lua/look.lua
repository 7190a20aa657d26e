-- Runs a body that changes nothing; it may call last_event_id().
-- ARGV: epoch; then the body's own arguments, as args.
local function body(args)
-- BODY
end

local args = {}
for place = 2, #ARGV do args[#args + 1] = ARGV[place] end
return body(args)
