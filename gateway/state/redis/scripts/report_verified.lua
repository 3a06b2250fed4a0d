#!lua flags=allow-oom
-- Notes how many bytes of the object were read back.
--
-- KEYS: session. ARGV: bytes. Replies {'reported'} or {'missing'}.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'missing'}
end
redis.call('HSET', KEYS[1], 'verified', ARGV[1])
return {'reported'}
