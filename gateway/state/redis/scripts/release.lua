#!lua flags=allow-oom
-- Gives up a lease, if it is still this holder's.
--
-- KEYS: lease. ARGV: token of the holder. Replies 'released' either way.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 'released'
