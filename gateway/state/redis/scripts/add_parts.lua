#!lua flags=allow-oom
-- Records parts of an open session, all or none, and keeps the counters exact.
--
-- KEYS: session, parts, received, in_flight, replace.
-- ARGV: one part each, as JSON [number, size, etag, checksum or null, true where relayed].
-- Replies {'recorded', outcomes}, a letter a part in the order given: '+' stored, '=' the same as
-- before; or {'conflict', number, ...}, {'closed', state}, {'missing'}, {'unreadable'}. Only
-- 'recorded' has changed anything.
--
-- A part is the same when its checksum is; where either side has none, when its ETag is. What
-- comes last wins, but a checksum once known stays. Other bytes are a conflict, unless `replace`
-- has the number: then they take the part's place, and the permission is used up. A part that was
-- not recorded uses it up, too: it must not be left for the bytes of somebody else.
local session = redis.call('HMGET', KEYS[1], 'state', 'bytes', 'count', 'revision')
if not session[1] then
  return {'missing'}
end
if session[1] ~= 'open' then
  return {'closed', session[1]}
end
local bytes, count, revision = tonumber(session[2]), tonumber(session[3]), tonumber(session[4])
if not (bytes and count and revision) then
  return {'unreadable'}
end
-- These reads fail, before the first write, if something else lies under a key.
redis.call('STRLEN', KEYS[3])
local any_in_flight = redis.call('HLEN', KEYS[4]) > 0
local any_replace = redis.call('SCARD', KEYS[5]) > 0
local any_recorded = redis.call('HLEN', KEYS[2]) > 0

local BATCH = 500 -- unpack() takes some thousand values at most

local wanted, numbers = {}, {}
for index, text in ipairs(ARGV) do
  local part = cjson.decode(text)
  wanted[index], numbers[index] = part, string.format('%d', part[1])
end

-- Before the first write, decide everything. `recorded` is what is there, and what this call will
-- have put there: the same number may come twice.
local recorded = {}
if any_recorded then
  for first = 1, #numbers, BATCH do
    local last = math.min(first + BATCH - 1, #numbers)
    local texts = redis.call('HMGET', KEYS[2], unpack(numbers, first, last))
    for offset = 1, last - first + 1 do
      if texts[offset] then
        local readable, part = pcall(cjson.decode, texts[offset])
        if not readable or type(part) ~= 'table' or type(part[2]) ~= 'number' then
          return {'unreadable'}
        end
        recorded[numbers[first + offset - 1]] = part
      end
    end
  end
end

local outcomes, conflicts, used, changed = {}, {}, {}, {}
local fresh = {}
for index, part in ipairs(wanted) do
  local number = numbers[index]
  local before = recorded[number]
  local text = ARGV[index]
  if not before then
    outcomes[index] = '+'
    used[number] = any_replace or nil
    bytes, count = bytes + part[2], count + 1
    fresh[#fresh + 1] = number
    recorded[number], changed[number] = part, text
  else
    local same
    if part[4] ~= cjson.null and before[4] ~= cjson.null then
      same = part[4] == before[4]
    else
      same = part[3] == before[3]
    end
    if same then
      outcomes[index] = '='
      if part[4] == cjson.null and before[4] ~= cjson.null then
        part[4], part[5] = before[4], before[5]
        text = cjson.encode(part)
      end
      if part[2] ~= before[2] or part[3] ~= before[3] or part[4] ~= before[4] then
        bytes = bytes + part[2] - before[2]
        recorded[number], changed[number] = part, text
      end
    elseif any_replace and not used[number]
        and redis.call('SISMEMBER', KEYS[5], number) == 1 then
      outcomes[index] = '+'
      used[number] = true
      bytes = bytes + part[2] - before[2]
      recorded[number], changed[number] = part, text
    else
      conflicts[#conflicts + 1] = part[1]
    end
  end
end
if #conflicts > 0 then
  return {'conflict', unpack(conflicts, 1, math.min(#conflicts, 1000))}
end

local pairs_to_set = {}
for number, text in pairs(changed) do
  pairs_to_set[#pairs_to_set + 1] = number
  pairs_to_set[#pairs_to_set + 1] = text
end
for first = 1, #pairs_to_set, 2 * BATCH do
  redis.call('HSET', KEYS[2],
    unpack(pairs_to_set, first, math.min(first + 2 * BATCH - 1, #pairs_to_set)))
end
for _, number in ipairs(fresh) do
  redis.call('SETBIT', KEYS[3], number - 1, 1)
end
for number in pairs(used) do
  redis.call('SREM', KEYS[5], number)
end
if any_in_flight then
  for first = 1, #numbers, BATCH do
    redis.call('HDEL', KEYS[4], unpack(numbers, first, math.min(first + BATCH - 1, #numbers)))
  end
end
if #pairs_to_set > 0 then
  redis.call('HSET', KEYS[1], 'bytes', string.format('%.0f', bytes), 'count', count,
    'revision', string.format('%.0f', revision + 1))
end
return {'recorded', table.concat(outcomes)}
