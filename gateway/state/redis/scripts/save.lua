#!lua flags=allow-oom
-- Compares and swaps a session's record, and puts the event of the change into the outbox. Sessions
-- under way are saved even when Redis is full, so that they finish (fault 11).
--
-- KEYS: session, parts, received, in_flight, replace, outbox, chunks, chunk_bits, assembled.
-- ARGV: version expected, new version, record, state, event or '', parts revision or '' for any,
--       retention in ms or 0 for ever, a token of this one call.
-- Replies 'saved', 'changed' (another version, or other parts) or 'missing'. The same call sent
-- again, by its token, is 'saved' again, and its event is there once.
local now = redis.call('HMGET', KEYS[1], 'version', 'revision', 'state', 'saved_by')
if not now[1] then
  return 'missing'
end
if now[1] == ARGV[2] and now[4] == ARGV[8] then
  return 'saved'
end
if now[1] ~= ARGV[1] or (ARGV[6] ~= '' and now[2] ~= ARGV[6]) then
  return 'changed'
end
-- Fails here, before the first write, if something else lies under the key.
redis.call('LLEN', KEYS[6])
local retention = tonumber(ARGV[7])

redis.call('HSET', KEYS[1], 'version', ARGV[2], 'record', ARGV[3], 'state', ARGV[4],
  'saved_by', ARGV[8])
if now[3] == 'open' and ARGV[4] ~= 'open' then
  redis.call('DEL', KEYS[4])
end
if now[3] ~= 'verifying' and ARGV[4] == 'verifying' then
  -- Another verification reads from the start.
  redis.call('HSET', KEYS[1], 'verified', '0')
end
if ARGV[5] ~= '' then
  redis.call('RPUSH', KEYS[6], ARGV[5])
end
-- in_flight has a life of its own.
for _, key in ipairs({KEYS[1], KEYS[2], KEYS[3], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]}) do
  if retention > 0 then
    redis.call('PEXPIRE', key, retention)
  else
    redis.call('PERSIST', key)
  end
end
return 'saved'
