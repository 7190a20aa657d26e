-- Runs the body and keeps its answer. The body returns what the caller gets, or redis.error_reply() if it did
-- nothing.
local function body(args)
-- BODY
end

local args = {}
for place = 6, #ARGV do args[#args + 1] = ARGV[place] end
local answer = body(args)
if type(answer) ~= 'table' or not answer.err then
    redis.call('SET', done, cmsgpack.pack(answer), 'PX', DONE_MS)
end
return answer
