#!lua flags=allow-oom
-- Allows the bytes of some parts of an open session to be replaced, once each.
--
-- KEYS: session, replace. ARGV: part numbers.
-- Replies {'allowed'}, {'closed', state} or {'missing'}.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  return {'missing'}
end
if state ~= 'open' then
  return {'closed', state}
end
for _, number in ipairs(ARGV) do
  redis.call('SADD', KEYS[2], number)
end
return {'allowed'}
