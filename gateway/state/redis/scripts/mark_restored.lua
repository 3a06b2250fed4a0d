#!lua flags=allow-oom
-- Notes that all chunks found in storage are recorded.
--
-- KEYS: session. Replies {'marked'} or {'missing'}.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'missing'}
end
redis.call('HSET', KEYS[1], 'chunks_known', '1')
return {'marked'}
