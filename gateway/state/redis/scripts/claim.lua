#!lua flags=allow-oom
-- Claims what is due: keeps it from others until a time, at which it is due again.
--
-- KEYS: due, since, and for letters also letters.
-- ARGV: now in ms, until in ms, how many at most.
-- Replies a list of {id, since in ms, letter or ''}.
local claimed = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[3])) do
  local letter = ''
  if KEYS[3] then
    letter = redis.call('HGET', KEYS[3], id)
  end
  if letter then
    redis.call('ZADD', KEYS[1], ARGV[2], id)
    claimed[#claimed + 1] = {id, redis.call('ZSCORE', KEYS[2], id) or ARGV[1], letter}
  else
    -- A letter without words was lost with a part of Redis, and would come first for ever.
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZREM', KEYS[2], id)
  end
end
return claimed
