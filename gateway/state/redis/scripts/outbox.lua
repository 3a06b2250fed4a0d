#!lua flags=no-writes
-- Reads the events of a session. KEYS: outbox. Replies them, oldest first.
return redis.call('LRANGE', KEYS[1], 0, -1)
