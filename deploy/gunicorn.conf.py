"""gunicorn -c deploy/gunicorn.conf.py: the live task board on http://127.0.0.1:3000.

gunicorn's own flags override what is set here (-b 0.0.0.0:8000, -w 4, -k gthread --threads 128), and so do
these variables of the environment:

    SSE_THREADED_URL          where events are kept: sqlite:///sse_threaded.db (the default), memory://
    SSE_THREADED_BIND         127.0.0.1:3000
    SSE_THREADED_WORKERS      2 processes (1 for memory://)
    SSE_THREADED_THREADS      64 a process; seven in eight may hold a stream
    SSE_THREADED_MAX_STREAMS  streams a process, instead of that share
    SSE_THREADED_HEARTBEAT    15 seconds        SSE_THREADED_RETRY       5000 milliseconds
    SSE_THREADED_LEASE        900 seconds       SSE_THREADED_QUEUE_SIZE  1000 events

For an app of your own: keep the two hooks, they give streams their budget and their farewell on SIGTERM.
"""

from sse_threaded.board.gunicorn_conf import (  # noqa: F401
    bind,
    control_socket_disable,
    graceful_timeout,
    on_starting,
    post_worker_init,
    threads,
    timeout,
    worker_exit,
    workers,
    wsgi_app,
)

worker_class = "gthread"
