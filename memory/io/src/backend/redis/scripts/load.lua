-- What a change or a reading looks at, as of one moment.
-- KEYS: account, entries, values, expiry
-- ARGV: milliseconds since 1970 or '' for this server's, how many that have expired, how many paths, the
--       paths, and the paths whose values are wanted too
local now = ARGV[1]
if now == '' then
  local time = redis.call('TIME')
  now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
end
local account = redis.call('HMGET', KEYS[1], 'turn', 'items', 'bytes', 'first', 'before', 'next', 'head')
local entries, values, expired, stood = {}, {}, {}, {}
local paths = tonumber(ARGV[3])
for at = 1, paths do
  entries[at] = redis.call('HGET', KEYS[2], ARGV[3 + at])
end
for at = 4 + paths, #ARGV do
  values[at - 3 - paths] = redis.call('HGET', KEYS[3], ARGV[at])
end
if tonumber(ARGV[2]) > 0 then
  expired = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, ARGV[2])
  for at, path in ipairs(expired) do
    stood[at] = redis.call('HGET', KEYS[2], path)
  end
end
return {now, account, entries, values, expired, stood}
