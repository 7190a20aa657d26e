"""The board's gunicorn configuration: ``gunicorn -c python:sse_threaded.board.gunicorn_conf``.

Every name is a setting of gunicorn's; gunicorn's own flags override them. Numbers come from the environment,
see ``deploy/gunicorn.conf.py``, which is the same for a checkout.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sse_threaded.board.settings import (
    BIND,
    CONNECTIONS,
    DEFAULT_URL,
    THREADS,
    URL,
    WORKERS,
    SettingError,
    hub_settings,
    proxy_count,
    server_number,
    trusted_hosts,
    unknown_names,
)
from sse_threaded.errors import SSEError
from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit
from sse_threaded.log import SQLiteLog, open_log

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter

__all__ = [
    "bind",
    "control_socket_disable",
    "forwarder_headers",
    "graceful_timeout",
    "on_starting",
    "post_worker_init",
    "secure_scheme_headers",
    "threads",
    "timeout",
    "worker_class",
    "worker_connections",
    "worker_exit",
    "workers",
    "wsgi_app",
]


def _number(variable: str, default: int) -> int:
    try:
        return server_number(os.environ, variable, default)
    except SettingError as error:
        raise SystemExit(f"Cannot start: {error}") from None


_url = os.environ.get(URL) or DEFAULT_URL

wsgi_app = "sse_threaded.board:create_app()"
bind = os.environ.get(BIND) or "127.0.0.1:3000"

# Two, so that one is there while the other restarts. A log in memory is one process's.
workers = _number(WORKERS, 1 if _url == "memory://" else 2)

# An open page holds a connection. Threads are for requests at work, and for long polls: 14 of 16 may wait.
worker_class = "sse_threaded.worker.ThreadWorker"
threads = _number(THREADS, 16)
worker_connections = _number(CONNECTIONS, 10_000)

# A worker whose main thread says nothing for so many seconds is killed. Streams are not on that thread, so
# they neither keep a hung worker alive nor get a healthy one killed.
timeout = 30

# Streams end within a second of SIGTERM; this is for ordinary requests in flight.
graceful_timeout = 10

# By default gunicorn takes the application's path (SCRIPT_NAME) and the scheme from a request's fields if the
# request comes from this machine or by a Unix socket. A stranger can write these fields, and Caddy passes them
# on: with SCRIPT_NAME, a rule of the proxy for a path does not see the path. So gunicorn believes nothing, and
# the board believes the proxies that SSE_THREADED_PROXIES counts.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}

# gunicorn's management socket is one per user by default, and servers of one user would share it.
control_socket_disable = True


def on_starting(server: Arbiter) -> None:
    """Refuse, in one line, what could not work, and what would lose events."""
    for name in unknown_names(os.environ):
        server.log.warning("%s is no setting; deploy/gunicorn.conf.py names those there are", name)
    try:
        hub_settings(os.environ)
        proxy_count(os.environ)
        trusted_hosts(os.environ)
        # A file that cannot be opened at the very first start is most likely a mistake, such as a missing folder.
        # A Redis may come later than this server.
        (SQLiteLog(_url, must_open=True) if _url.startswith("sqlite:///") else open_log(_url)).close()
    except SSEError as error:
        raise SystemExit(f"Cannot start: {error}") from None
    if _url == "memory://" and server.cfg.workers > 1:
        raise SystemExit(
            f"{URL}=memory:// is one process's log, but there are {server.cfg.workers} workers: "
            "an event would reach a part of the clients. Use sqlite:///file.db, or -w 1."
        )
