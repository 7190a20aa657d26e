"""gunicorn -c deploy/gunicorn.conf.py: the live task board on http://127.0.0.1:3000.

gunicorn's own flags override what is set here (-b 0.0.0.0:8000, -w 4, --worker-connections 20000), and so do
these variables of the environment:

    SSE_THREADED_URL          where events are kept: sqlite:///sse_threaded.db (the default), memory://,
                              redis://host:6379/0 for several machines
    SSE_THREADED_BIND         127.0.0.1:3000
    SSE_THREADED_WORKERS      2 processes (1 for memory://)
    SSE_THREADED_THREADS      16 a process, for requests at work
    SSE_THREADED_CONNECTIONS  10000 a process, open pages and all others; as far as open files allow
    SSE_THREADED_PROXIES      0, the proxies in front that say who the client is (X-Forwarded-For, -Proto)
    SSE_THREADED_HOSTS        names by which browsers reach the board, separated by commas, beside localhost;
                              .example.org is for all below, * for all; needed when it listens on localhost
                              and a proxy passes another name on
    SSE_THREADED_MAX_STREAMS  streams a process, instead of those connections but one a thread
    SSE_THREADED_HEARTBEAT    15 seconds        SSE_THREADED_RETRY       5000 milliseconds
    SSE_THREADED_LEASE        900 seconds       SSE_THREADED_QUEUE_SIZE  1000 events

For an app of your own: the worker class is what matters. With gunicorn's own (-k gthread --threads 128), in
which an open page holds a thread, keep the two hooks: they give streams their budget and their farewell.
Keep forwarder_headers and secure_scheme_headers, too, unless your proxy sets these fields itself: strangers
can write them.
"""

from sse_threaded.board.gunicorn_conf import (  # noqa: F401
    bind,
    control_socket_disable,
    forwarder_headers,
    graceful_timeout,
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
