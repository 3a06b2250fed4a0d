#!lua flags=allow-oom
-- Replaces a client's claim of bytes on the way; parts that are recorded are not on the way.
--
-- KEYS: session, received, in_flight. ARGV: life in ms, then number, bytes, number, bytes...
-- Replies {'reported'}, {'closed', state} or {'missing'}.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  return {'missing'}
end
if state ~= 'open' then
  return {'closed', state}
end
-- Fails here, before the first write, if something else lies under the key.
redis.call('STRLEN', KEYS[2])
local life = tonumber(ARGV[1])

redis.call('DEL', KEYS[3])
for index = 2, #ARGV, 2 do
  if redis.call('GETBIT', KEYS[2], ARGV[index] - 1) == 0 then
    redis.call('HSET', KEYS[3], ARGV[index], ARGV[index + 1])
  end
end
redis.call('PEXPIRE', KEYS[3], life)
return {'reported'}
