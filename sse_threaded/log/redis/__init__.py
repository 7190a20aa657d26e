"""A log in Redis or Valkey, for several machines."""
