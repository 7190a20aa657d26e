"""gunicorn -c deploy/gunicorn.conf.py: the live task board on http://127.0.0.1:3000.

gunicorn's own flags override these settings (-b 0.0.0.0:8000, -w 4, --worker-connections 20000). So do these
environment variables:

    SSE_THREADED_URL          the log: sqlite:///sse_threaded.db (the default), memory://, redis://host:6379/0
                              for several machines
    SSE_THREADED_BIND         127.0.0.1:3000
    SSE_THREADED_WORKERS      2 processes (1 for memory://)
    SSE_THREADED_THREADS      16 a process, for ordinary requests
    SSE_THREADED_CONNECTIONS  10000 a process, for open pages and requests, up to the limit on open files
    SSE_THREADED_PROXIES      0, the number of proxies that may name the client (X-Forwarded-For, -Proto)
    SSE_THREADED_HOSTS        the board's names beside localhost, separated by commas; .example.org is for
                              all names below it, * for all names; needed if the board listens on localhost
                              and a proxy passes another name on
    SSE_THREADED_MAX_STREAMS  streams a process; default: the connections less one for each thread
    SSE_THREADED_HEARTBEAT    15 seconds        SSE_THREADED_RETRY       5000 milliseconds
    SSE_THREADED_LEASE        900 seconds       SSE_THREADED_QUEUE_SIZE  1000 events
    SSE_THREADED_METRICS      who may read /metrics: 1 for this machine, or networks, separated by commas;
                              it needs prometheus_client
    SSE_THREADED_DEBUG        who may use the debug page /debug, in the same form

For your own app, keep the worker class. In gunicorn's own worker (-k gthread --threads 128) an open page holds a
thread. There keep the two hooks: they limit the number of streams and send the farewell. Also keep
forwarder_headers and secure_scheme_headers, because any client can write these fields. Leave them out only if your
proxy sets these fields itself.
"""

from sse_threaded.board.gunicorn_conf import (  # noqa: F401
    bind,
    child_exit,
    control_socket_disable,
    forwarder_headers,
    graceful_timeout,
    on_exit,
    on_starting,
    post_worker_init,
    secure_scheme_headers,
    threads,
    timeout,
    worker_class,
    worker_connections,
    worker_exit,
    workers,
    wsgi_app,
)
