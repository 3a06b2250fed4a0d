#!lua flags=allow-oom
-- Sets when a session wants attention.
--
-- KEYS: due. ARGV: session id, time in ms, 'exactly' or 'at the latest'. Replies 'scheduled'.
if ARGV[3] == 'exactly' then
  redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
else
  redis.call('ZADD', KEYS[1], 'LT', ARGV[2], ARGV[1])
end
return 'scheduled'
