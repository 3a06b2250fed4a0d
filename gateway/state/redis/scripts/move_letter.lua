#!lua flags=allow-oom
-- Moves a letter on: it waits again, is given up, begins anew, or is done with. One that somebody
-- else has brought to its end meanwhile stays there. A full Redis gets no fuller by it.
--
-- KEYS: due, since, letters, dead.
-- ARGV: event id, from ('waiting', 'dead' or 'any'), to ('waiting', 'anew', 'dead' or 'gone'), letter,
--       time in ms: when it is due, or was given up; and for 'dead', the time in ms before which
--       those that were given up are forgotten.
-- Replies 1, or 0 where there was no such letter.
local id = ARGV[1]
local dead = redis.call('ZSCORE', KEYS[4], id)
if redis.call('HEXISTS', KEYS[3], id) == 0
  or (ARGV[2] == 'waiting' and dead) or (ARGV[2] == 'dead' and not dead) then
  return 0
end
if ARGV[3] ~= 'waiting' then
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZREM', KEYS[4], id)
end
if ARGV[3] == 'gone' then
  redis.call('HDEL', KEYS[3], id)
  return 1
end
redis.call('HSET', KEYS[3], id, ARGV[4])
if ARGV[3] == 'dead' then
  redis.call('ZADD', KEYS[4], ARGV[5], id)
  -- So many at a time: a script holds up everybody else.
  local old = redis.call('ZRANGE', KEYS[4], '-inf', '(' .. ARGV[6], 'BYSCORE', 'LIMIT', 0, 100)
  for _, one in ipairs(old) do
    redis.call('ZREM', KEYS[4], one)
    redis.call('HDEL', KEYS[3], one)
  end
else
  redis.call('ZADD', KEYS[1], ARGV[5], id)
  if ARGV[3] == 'anew' then
    redis.call('ZADD', KEYS[2], ARGV[5], id)
  end
end
return 1
