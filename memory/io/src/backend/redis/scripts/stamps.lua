-- Entries by version, as of one moment.
-- KEYS: versions, entries
-- ARGV: the version before the first, how many
local paths = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[2])
local entries = {}
for at, path in ipairs(paths) do
  entries[at] = redis.call('HGET', KEYS[2], path)
end
return entries
