"""A log in Redis, for the processes of many machines."""
