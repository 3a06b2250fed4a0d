#!lua flags=no-writes
-- Reads a session with its live progress, all of one moment.
--
-- KEYS: session, received, in_flight, chunk_bits, assembled.
-- Replies nil for an unknown session, else {record, bytes, count, verified, received bitmap,
-- bytes in flight}; a field that is missing is nil. Where anything is known of chunks, there follow
-- how many, their bitmap, the bitmap of assembled parts, bytes staged, the size of chunks, that of
-- the last one, and whether this is all that storage knows.
local found = redis.call('HMGET', KEYS[1], 'record', 'bytes', 'count', 'verified',
  'chunk_count', 'staged', 'chunk_size', 'last_chunk_size', 'chunks_known')
if not found[1] and redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end
local in_flight = 0
for _, bytes in ipairs(redis.call('HVALS', KEYS[3])) do
  in_flight = in_flight + (tonumber(bytes) or 0)
end
local reply = {found[1], found[2], found[3], found[4], redis.call('GET', KEYS[2]) or '', in_flight}
if found[5] or found[9] then
  reply[7] = found[5] or '0'
  reply[8] = redis.call('GET', KEYS[4]) or ''
  reply[9] = redis.call('GET', KEYS[5]) or ''
  reply[10] = found[6] or '0'
  reply[11], reply[12], reply[13] = found[7], found[8], found[9]
end
return reply
