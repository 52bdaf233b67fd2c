-- Some paths in order, each with its entry, as of one moment.
-- KEYS: paths, entries
-- ARGV: from, to (both as ZRANGEBYLEX has them), how many
local paths = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
local entries = {}
for at, path in ipairs(paths) do
  entries[at] = redis.call('HGET', KEYS[2], path)
end
return {paths, entries}
