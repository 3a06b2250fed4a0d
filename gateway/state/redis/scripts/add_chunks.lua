#!lua flags=allow-oom
-- Records chunks of a session, and keeps the counters exact.
--
-- KEYS: session, chunks, chunk_bits, assembled.
-- ARGV: how many chunks the file has, 'add' or 'restore', then for each chunk: index, size,
--       checksum, token or ''.
-- Replies {'recorded', outcomes, staged bytes, their revision, size of chunks or -1, size of the
-- last or -1}, a letter a chunk in the order given: '+' stored, '=' the same as before, '!' other
-- bytes are recorded, '#' the size does not fit; or {'closed', state}, {'missing'},
-- {'unreadable'}, which have changed nothing.
--
-- 'restore' takes a chunk for the same only where its token is the same too, and chunks without a
-- token mark no part. A chunk that is known is told of in any state of the session.
local session = redis.call('HMGET', KEYS[1], 'state', 'chunk_count', 'chunk_size',
  'last_chunk_size', 'staged', 'staged_revision')
if not session[1] then
  return {'missing'}
end
local count, staged = tonumber(session[2] or '0'), tonumber(session[5] or '0')
local revision = tonumber(session[6] or '0')
local size, last_size = tonumber(session[3] or '-1'), tonumber(session[4] or '-1')
if not (count and staged and revision and size and last_size) then
  return {'unreadable'}
end
-- These reads fail, before the first write, if something else lies under a key.
redis.call('STRLEN', KEYS[3])
redis.call('STRLEN', KEYS[4])

local total, restoring = tonumber(ARGV[1]), ARGV[2] == 'restore'
local outcomes, fresh = {}, {}
local recorded = {}
for at = 3, #ARGV, 4 do
  local index, bytes, checksum, token = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
  local place = tonumber(index)
  local before = recorded[index] or redis.call('HGET', KEYS[2], index)
  local text = ARGV[at + 1] .. ' ' .. checksum .. ' ' .. token
  local outcome
  if before then
    local start = ARGV[at + 1] .. ' ' .. checksum .. ' '
    if before == text or (not restoring and string.sub(before, 1, #start) == start) then
      outcome = '='
    else
      outcome = '!'
    end
  elseif session[1] ~= 'open' then
    return {'closed', session[1]}
  else
    local fits
    if total == 1 then
      fits = true
    elseif place == total - 1 then
      fits = size < 0 or bytes <= size
    else
      fits = size == bytes or (size < 0 and last_size <= bytes)
    end
    if fits then
      outcome = '+'
      count = count + 1
      if token ~= '' then
        staged, revision = staged + bytes, revision + 1
      end
      if place == total - 1 then
        last_size = bytes
      end
      if place < total - 1 or total == 1 then
        size = bytes
      end
      recorded[index] = text
      fresh[#fresh + 1] = {index, text, place, token == '' and not restoring}
    else
      outcome = '#'
    end
  end
  outcomes[#outcomes + 1] = outcome
end

for _, chunk in ipairs(fresh) do
  redis.call('HSET', KEYS[2], chunk[1], chunk[2])
  redis.call('SETBIT', KEYS[3], chunk[3], 1)
  if chunk[4] then
    redis.call('SETBIT', KEYS[4], chunk[3], 1)
  end
end
if #fresh > 0 then
  redis.call('HSET', KEYS[1], 'chunk_count', count, 'staged', string.format('%.0f', staged),
    'staged_revision', string.format('%.0f', revision))
  if size >= 0 then
    redis.call('HSET', KEYS[1], 'chunk_size', string.format('%.0f', size))
  end
  if last_size >= 0 then
    redis.call('HSET', KEYS[1], 'last_chunk_size', string.format('%.0f', last_size))
  end
end
return {'recorded', table.concat(outcomes), staged, revision, size, last_size}
