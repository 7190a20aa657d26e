-- ARGV: epoch, a channel. Returns the newest entry of the channel's stream, in a list.
return redis.call('XREVRANGE', stream_of(ARGV[2]), '+', '-', 'COUNT', 1)
