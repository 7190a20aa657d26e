"""Compares the log in PostgreSQL with those in SQLite and Redis, and with other ways to number events.

- ``__main__``: the command; ``report``: the page; ``servers``: the servers of all parts.
- ``publishing``: publishes a second, by the program ``writers``; ``delivery``: from a commit to a client, by the
  program ``committer``; ``processor``: processor time a delivery.
- ``ways``: the ways to number events, in SQL alone, by ``pgbench``; their tables and functions are in ``sql``.
- ``open_transaction``: publishing while a transaction of the app stays open; ``sizes``: tables after a while.
"""
