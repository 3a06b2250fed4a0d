#!lua flags=no-writes
-- Reads all parts with their revision, all of one moment.
--
-- KEYS: session, parts. ARGV: the revision of the parts that the caller has already, or ''.
-- Replies {revision or nil, {part as JSON, ...}} in no order; without any where they are those.
local revision = redis.call('HGET', KEYS[1], 'revision')
if revision and revision == ARGV[1] then
  return {revision, {}}
end
return {revision, redis.call('HVALS', KEYS[2])}
