#!lua flags=allow-oom
-- Enters an event into the index of those that are not handed on, before it is recorded. What is
-- under way finishes also when Redis is full, and nobody would hear of it otherwise (fault 11).
--
-- KEYS: due, since. ARGV: event id, now in ms. Replies 'entered'.
--
-- One that is there already is due at once, and young again: it is about to be recorded.
redis.call('ZADD', KEYS[1], 'LT', ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
return 'entered'
