"""One event to many clients: the pump and all that it works with."""
