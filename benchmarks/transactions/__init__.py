"""Apps that append events in their own transactions in PostgreSQL, while processes and servers are killed.

- ``__main__``: the command; ``experiment``: runs everything at the same time;
- ``writers``: the transactions; ``database``: PostgreSQL, and how it is killed or replaced; ``app``: the streams;
- ``comparison``: compares rows, events and what clients received.
"""
