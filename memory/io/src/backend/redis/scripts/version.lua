-- The item that has a version: path, entry and value; nothing where none has.
-- KEYS: versions, entries, values
-- ARGV: the version
local path = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[1], 'LIMIT', 0, 1)[1]
if not path then
  return {}
end
return {path, redis.call('HGET', KEYS[2], path), redis.call('HGET', KEYS[3], path)}
