#!lua flags=allow-oom
-- Brings the parts of an open session in line with what the store lists.
--
-- KEYS: session, parts, received, in_flight.
-- ARGV: how many parts were found, then the found ones, then the lost ones, each as JSON
--       [number, size, etag, checksum or null].
-- Replies {'healed'}, {'closed', state}, {'missing'} or {'unreadable'}; only 'healed' has changed
-- anything.
--
-- Both lists are compared with the record as it is when the call comes. Found: added where the
-- number is unrecorded; corrects the size where number and ETag are recorded. Lost: forgotten where
-- number and ETag are recorded. A number that is both is forgotten, so that it is sent again.
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

local found_count = tonumber(ARGV[1])
local changes = {} -- in order; {number, JSON or false, bit}
local recorded = {} -- number -> part as it will be, false where there is none
for index = 2, #ARGV do
  local part = cjson.decode(ARGV[index])
  local number = string.format('%d', part[1])
  local before = recorded[number]
  if before == nil then
    local text = redis.call('HGET', KEYS[2], number)
    if text then
      local readable
      readable, before = pcall(cjson.decode, text)
      if not readable or type(before) ~= 'table' or type(before[2]) ~= 'number' then
        return {'unreadable'}
      end
    else
      before = false
    end
    recorded[number] = before
  end
  if index <= found_count + 1 then
    if not before then
      bytes, count = bytes + part[2], count + 1
      recorded[number] = part
      changes[#changes + 1] = {number, ARGV[index], 1}
    elseif before[3] == part[3] and before[2] ~= part[2] then
      bytes = bytes + part[2] - before[2]
      before[2] = part[2]
      changes[#changes + 1] = {number, cjson.encode(before), 1}
    end
  elseif before and before[3] == part[3] then
    bytes, count = bytes - before[2], count - 1
    recorded[number] = false
    changes[#changes + 1] = {number, false, 0}
  end
end

for _, change in ipairs(changes) do
  if change[2] then
    redis.call('HSET', KEYS[2], change[1], change[2])
    if any_in_flight then
      redis.call('HDEL', KEYS[4], change[1])
    end
  else
    redis.call('HDEL', KEYS[2], change[1])
  end
  redis.call('SETBIT', KEYS[3], change[1] - 1, change[3])
end
if #changes > 0 then
  redis.call('HSET', KEYS[1], 'bytes', string.format('%.0f', bytes), 'count', count,
    'revision', string.format('%.0f', revision + 1))
end
return {'healed'}
