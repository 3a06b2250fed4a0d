#!lua flags=allow-oom
-- Takes or prolongs a lease. A full Redis still hands out leases: what is under way finishes.
--
-- KEYS: lease. ARGV: token of the holder, life in ms. Replies 1, or 0 while another token has it.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
