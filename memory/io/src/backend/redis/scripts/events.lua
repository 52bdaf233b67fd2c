-- Some events, and where their chain stands, as of one moment.
-- KEYS: account, events
-- ARGV: XRANGE or XREVRANGE, from, to, how many
local account = redis.call('HMGET', KEYS[1], 'turn', 'items', 'bytes', 'first', 'before', 'next', 'head')
return {account, redis.call(ARGV[1], KEYS[2], ARGV[2], ARGV[3], 'COUNT', ARGV[4])}
