#!lua flags=allow-oom
-- Keeps the sum of what all sessions have staged.
--
-- KEYS: staged by session, their sum. ARGV: session id, bytes, revision of that number, or the
-- session id alone to take it out. Replies with the sum.
--
-- A number that is older than the one before is passed over: two gateways may tell in any order.
local before = redis.call('HGET', KEYS[1], ARGV[1])
local bytes, revision = 0, -1
if before then
  bytes, revision = string.match(before, '^(%d+) (%d+)$')
  bytes, revision = tonumber(bytes or '0'), tonumber(revision or '-1')
end
local wanted = 0
if #ARGV == 1 then
  redis.call('HDEL', KEYS[1], ARGV[1])
elseif tonumber(ARGV[3]) > revision then
  wanted = tonumber(ARGV[2])
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
else
  wanted = bytes
end
local sum = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
sum = math.max(0, sum + wanted - bytes)
redis.call('SET', KEYS[2], string.format('%.0f', sum))
return sum
