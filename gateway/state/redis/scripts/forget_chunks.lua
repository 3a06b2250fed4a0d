#!lua flags=allow-oom
-- Forgets chunks of a part that storage has lost, so that they are sent again.
--
-- KEYS: session, chunks, chunk_bits, assembled. ARGV: number of the part, then for each chunk:
-- index, size, checksum, token or ''.
-- Replies {'forgotten', staged bytes, their revision}, or {'missing'}, {'unreadable'}. A chunk that
-- is recorded otherwise stays; one that only the bitmap knows goes.
local session = redis.call('HMGET', KEYS[1], 'state', 'chunk_count', 'staged', 'staged_revision')
if not session[1] then
  return {'missing'}
end
local count, staged = tonumber(session[2] or '0'), tonumber(session[3] or '0')
local revision = tonumber(session[4] or '0')
if not (count and staged and revision) then
  return {'unreadable'}
end
redis.call('STRLEN', KEYS[3])
local was_assembled = redis.call('GETBIT', KEYS[4], tonumber(ARGV[1]) - 1) == 1

for at = 2, #ARGV, 4 do
  local text = ARGV[at + 1] .. ' ' .. ARGV[at + 2] .. ' ' .. ARGV[at + 3]
  local recorded = redis.call('HGET', KEYS[2], ARGV[at])
  if recorded == text or not recorded then
    redis.call('HDEL', KEYS[2], ARGV[at])
    count = count - redis.call('SETBIT', KEYS[3], ARGV[at], 0)
  end
  if recorded == text then
    if ARGV[at + 3] ~= '' and not was_assembled then
      staged = math.max(0, staged - tonumber(ARGV[at + 1]))
    end
  end
end
redis.call('SETBIT', KEYS[4], tonumber(ARGV[1]) - 1, 0)
redis.call('HSET', KEYS[1], 'chunk_count', count, 'staged', string.format('%.0f', staged),
  'staged_revision', string.format('%.0f', revision + 1))
return {'forgotten', staged, revision + 1}
