#!lua flags=allow-oom
-- Takes an event out of the index, unless it was entered again since it was claimed.
--
-- KEYS: due, since. ARGV: event id, the time in ms at which it was entered. Replies 1 or 0.
local since = redis.call('ZSCORE', KEYS[2], ARGV[1])
if since and tonumber(since) ~= tonumber(ARGV[2]) then
  return 0
end
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])
