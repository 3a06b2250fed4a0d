#!lua
-- Records a session with its parts and its event, unless the session is known. Without the flag
-- allow-oom: a full Redis refuses it before anything is written, and keeps what it has (fault 11).
--
-- KEYS: session, parts, received, in_flight, replace, outbox, chunks, chunk_bits, assembled.
-- ARGV: record, version, state, first revision, event or '', retention in ms or 0 for ever, then
--       one part each, as JSON [number, size, etag, checksum or null], no number twice.
-- Replies 'added', or 'known' and changes nothing.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 'known'
end
-- Fails here, before the first write, if something else lies under the key.
redis.call('LLEN', KEYS[6])
local retention = tonumber(ARGV[6])
local FIRST = 7
local bytes, numbers = 0, {}
for index = FIRST, #ARGV do
  local part = cjson.decode(ARGV[index])
  numbers[index] = part[1]
  bytes = bytes + part[2]
end

-- Parts and chunks without their session have no counters and are not believed: storage heals. Events that
-- still wait in the outbox are facts, and stay.
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[7], KEYS[8], KEYS[9])
for index = FIRST, #ARGV do
  redis.call('HSET', KEYS[2], string.format('%d', numbers[index]), ARGV[index])
  redis.call('SETBIT', KEYS[3], numbers[index] - 1, 1)
end
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'version', ARGV[2], 'state', ARGV[3],
  'revision', ARGV[4], 'bytes', string.format('%.0f', bytes), 'count', #ARGV - FIRST + 1,
  'verified', '0')
if ARGV[5] ~= '' then
  redis.call('RPUSH', KEYS[6], ARGV[5])
end
for _, key in ipairs({KEYS[1], KEYS[2], KEYS[3], KEYS[6]}) do
  if retention > 0 then
    redis.call('PEXPIRE', key, retention)
  else
    redis.call('PERSIST', key)
  end
end
return 'added'
