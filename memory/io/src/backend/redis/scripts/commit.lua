-- All of a change, or nothing of it where another gateway changed the tenant since it was looked at.
-- KEYS: account, entries, values, expiry, paths, versions, events, tenants, feed, and how far that is
-- ARGV: the turn that was looked at, the tenant, how many events are kept, items, bytes, how
--       many changes are told, and then steps:
--       put PATH ENTRY VALUE VERSION EXPIRES | take PATH VERSION | log NUMBER HASH SEAL EVENT
local turn = redis.call('HGET', KEYS[1], 'turn') or '0'
if turn ~= ARGV[1] then
  return 0
end
-- A Redis that is full refuses what may take memory, but in a script that has begun to write. What takes items
-- out begins so, with a path that nothing has: else nobody could make room.
local gives, takes = false, false
local step = 7
while step <= #ARGV do
  gives = gives or ARGV[step] == 'put'
  takes = takes or ARGV[step] == 'take'
  step = step + (({ put = 6, take = 3 })[ARGV[step]] or 5)
end
if takes and not gives then
  redis.call('ZREM', KEYS[4], '')
end
redis.call('HSET', KEYS[1], 'turn', string.format('%.0f', turn + 1), 'items', ARGV[4], 'bytes', ARGV[5])
redis.call('SADD', KEYS[8], ARGV[2])
local function tell(what, version)
  local number = redis.call('INCR', KEYS[10])
  redis.call('XADD', KEYS[9], 'MAXLEN', '~', ARGV[6], number .. '-0', 't', ARGV[2], what, version)
end
local at = 7
while at <= #ARGV do
  local step, path = ARGV[at], ARGV[at + 1]
  if step == 'put' then
    redis.call('HSET', KEYS[2], path, ARGV[at + 2])
    redis.call('HSET', KEYS[3], path, ARGV[at + 3])
    redis.call('ZADD', KEYS[5], 0, path)
    redis.call('ZADD', KEYS[6], ARGV[at + 4], path)
    if ARGV[at + 5] ~= '' then
      redis.call('ZADD', KEYS[4], ARGV[at + 5], path)
    end
    tell('p', ARGV[at + 4])
    at = at + 6
  elseif step == 'take' then
    redis.call('HDEL', KEYS[2], path)
    redis.call('HDEL', KEYS[3], path)
    redis.call('ZREM', KEYS[4], path)
    redis.call('ZREM', KEYS[5], path)
    redis.call('ZREM', KEYS[6], path)
    tell('g', ARGV[at + 2])
    at = at + 3
  else
    local number, hash = ARGV[at + 1], ARGV[at + 2]
    redis.call('XADD', KEYS[7], number .. '-0', 'h', hash, 's', ARGV[at + 3], 'e', ARGV[at + 4])
    redis.call('HSET', KEYS[1], 'next', string.format('%.0f', number + 1), 'head', hash)
    at = at + 5
    while redis.call('XLEN', KEYS[7]) > tonumber(ARGV[3]) do
      local oldest = redis.call('XRANGE', KEYS[7], '-', '+', 'COUNT', 1)[1]
      local gone = tonumber(string.match(oldest[1], '^%d+'))
      redis.call('HSET', KEYS[1], 'first', string.format('%.0f', gone + 1), 'before', oldest[2][2])
      redis.call('XDEL', KEYS[7], oldest[1])
    end
  end
end
return 1
