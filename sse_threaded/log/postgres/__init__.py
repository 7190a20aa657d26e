"""A log in PostgreSQL, for several machines, in the database that has the app's rows."""
