-- args: channel, data, then the event's type if it has one. Returns the event's id.
return append(args[1], args[2], args[3] or false)
