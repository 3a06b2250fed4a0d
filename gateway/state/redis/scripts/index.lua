#!lua
-- Enters a session into an index before it is recorded. Without the flag allow-oom: a full Redis
-- refuses new sessions here, before anything is written.
--
-- KEYS: the index, a sorted set whose scores are all 0. ARGV: entry, life of the index in ms.
-- Replies up to two entries of the index, picked at random, for the caller to check: entries
-- outlive their sessions, and this is how they go when nobody ever lists them.
--
-- The index lives at least as long as asked, and for ever once it was told to (see `keep`).
local life = tonumber(ARGV[2])
local known = redis.call('EXISTS', KEYS[1]) == 1
local left = redis.call('PTTL', KEYS[1])
redis.call('ZADD', KEYS[1], 0, ARGV[1])
if not known or (left >= 0 and left < life) then
  redis.call('PEXPIRE', KEYS[1], life)
end
return redis.call('ZRANDMEMBER', KEYS[1], 2)
