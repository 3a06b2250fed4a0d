#!lua
-- Puts a letter into the queue of an endpoint, unless there is one of this event. Without the flag
-- allow-oom: a full Redis refuses it, and the event stays in the index until there is room.
--
-- KEYS: due, since, letters. ARGV: event id, now in ms, letter. Replies 1, or 0 where there is one.
if redis.call('HSETNX', KEYS[3], ARGV[1], ARGV[3]) == 0 then
  return 0
end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
return 1
