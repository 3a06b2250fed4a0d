#!lua flags=no-writes
-- Reads all parts with their revision, all of one moment.
--
-- KEYS: session, parts. Replies {revision or nil, {part as JSON, ...}} in no order.
return {redis.call('HGET', KEYS[1], 'revision'), redis.call('HVALS', KEYS[2])}
