#!lua
-- Announces a session that is about to be made. Without the flag allow-oom: a full Redis refuses
-- new sessions here, before anything is made in the store.
--
-- KEYS: due. ARGV: session id, time in ms. Replies 1, or 0 where it was announced before.
return redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
