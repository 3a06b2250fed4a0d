#!lua flags=allow-oom
-- Notes that the chunks of a part are in it.
--
-- KEYS: session, assembled. ARGV: number of the part, bytes that are no longer staged by that.
-- Replies {'marked', staged bytes, their revision}, the same when it was marked before, or
-- {'missing'}, {'unreadable'}.
local session = redis.call('HMGET', KEYS[1], 'state', 'staged', 'staged_revision')
if not session[1] then
  return {'missing'}
end
local staged, revision = tonumber(session[2] or '0'), tonumber(session[3] or '0')
if not (staged and revision) then
  return {'unreadable'}
end
if redis.call('SETBIT', KEYS[2], tonumber(ARGV[1]) - 1, 1) == 0 then
  staged, revision = math.max(0, staged - tonumber(ARGV[2])), revision + 1
  redis.call('HSET', KEYS[1], 'staged', string.format('%.0f', staged),
    'staged_revision', string.format('%.0f', revision))
end
return {'marked', staged, revision}
