-- What changed, and how far that is, as of one moment.
-- KEYS: feed, how far that is
-- ARGV: the number before the first, how many
local at = redis.call('GET', KEYS[2]) or '0'
return {at, redis.call('XRANGE', KEYS[1], '(' .. ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])}
