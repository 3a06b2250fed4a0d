#!lua flags=no-writes
-- Reads a session with its live progress, all of one moment.
--
-- KEYS: session, received, in_flight.
-- Replies nil for an unknown session, else {record, bytes, count, verified, received bitmap,
-- bytes in flight}; a field that is missing is nil.
local found = redis.call('HMGET', KEYS[1], 'record', 'bytes', 'count', 'verified')
if not found[1] and redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end
local in_flight = 0
for _, bytes in ipairs(redis.call('HVALS', KEYS[3])) do
  in_flight = in_flight + (tonumber(bytes) or 0)
end
found[5] = redis.call('GET', KEYS[2]) or ''
found[6] = in_flight
return found
