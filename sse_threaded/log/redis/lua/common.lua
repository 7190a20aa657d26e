-- Begins all scripts but prepare.lua. It names the keys, and returns an error if the log has another epoch.
-- KEYS[1] is the meta hash; KEYS[2] is never there. ARGV[1] is the epoch that the caller knows.
local meta = KEYS[1]
local base = string.sub(meta, 1, -5)
if redis.call('HGET', meta, 'epoch') ~= ARGV[1] then return redis.error_reply(NEW_EPOCH) end
local keys = base .. ARGV[1]
local feed, marks = keys .. ':feed', keys .. ':marks'
local lasts, trims = keys .. ':last', keys .. ':trimmed'

-- Of a number, all digits: tostring() would round it.
local function text(number) return string.format('%.0f', number) end
local function stream_of(channel) return keys .. ':channel:' .. channel end
local function number_of(entry) return tonumber(string.match(entry, '^%d+')) end
local function last_event_id() return ARGV[1] .. '-' .. redis.call('HGET', meta, 'last') end
local function time_of(entry) return tonumber(string.match(entry, '%d+$')) end
