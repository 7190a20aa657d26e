"""Breaks things under a board on three hosts, and counts what its clients lose.

- ``__main__``: the command; ``cases``: what is broken; ``experiment``: runs a case and compares;
- ``network``: hosts on this machine, as network ``namespaces`` or, without them, on the ``loopback`` interface
  with a ``tcp_proxy`` in between; ``network_choice`` chooses;
- ``programs``: redis-server, Sentinel and gunicorn on a host; ``store``: the database, which is in Redis
  (``redis_store``) or PostgreSQL (``postgres_store``); ``deployment``: all of them together;
- ``clients``, ``publisher``: the load; ``delivery_check``: compares what clients received with the log;
- ``waiting``: waits for conditions;
- ``host_latency``: how long an event takes from host to host.
"""
