"""The board's gunicorn configuration: ``gunicorn -c python:sse_threaded.board.gunicorn_conf``.

Every name is a setting of gunicorn's; gunicorn's own flags override them. Numbers come from the environment,
see ``deploy/gunicorn.conf.py``, which is the same for a checkout.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sse_threaded.board.settings import DEFAULT_URL, URL, server_number
from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter

__all__ = [
    "bind",
    "control_socket_disable",
    "graceful_timeout",
    "on_starting",
    "post_worker_init",
    "threads",
    "timeout",
    "worker_class",
    "worker_exit",
    "workers",
    "wsgi_app",
]

_url = os.environ.get(URL) or DEFAULT_URL

wsgi_app = "sse_threaded.board:create_app()"
bind = os.environ.get("SSE_THREADED_BIND") or "127.0.0.1:3000"

# Two, so that one is there while the other restarts. A log in memory is one process's.
workers = server_number(os.environ, "SSE_THREADED_WORKERS", 1 if _url == "memory://" else 2)

# An open page holds a thread. 64 cost a few megabytes and carry 56 pages a worker; the other 8 are for
# ordinary requests.
worker_class = "gthread"
threads = server_number(os.environ, "SSE_THREADED_THREADS", 64)

# A worker whose main thread says nothing for so many seconds is killed. Streams are not on that thread, so
# they neither keep a hung worker alive nor get a healthy one killed.
timeout = 30

# Streams end within a second of SIGTERM; this is for ordinary requests in flight.
graceful_timeout = 10

# gunicorn's management socket is one per user by default, and servers of one user would share it.
control_socket_disable = True


def on_starting(server: Arbiter) -> None:
    """Refuse what would lose events."""
    if _url == "memory://" and server.cfg.workers > 1:
        raise SystemExit(
            f"{URL}=memory:// is one process's log, but there are {server.cfg.workers} workers: "
            "an event would reach a part of the clients. Use sqlite:///file.db, or -w 1."
        )
