"""Presence: the processes tell each other, over the log, which people have streams in them."""
