"""The board's gunicorn configuration: ``gunicorn -c python:sse_threaded.board.gunicorn_conf``.

Each name in it is a setting of gunicorn; gunicorn's command-line flags override it. The numbers come from the
environment. ``deploy/gunicorn.conf.py`` explains them; it is the same configuration for a checkout.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

from sse_threaded.board.settings import (
    BIND,
    CONNECTIONS,
    DEBUG,
    DEFAULT_URL,
    METRICS,
    THREADS,
    URL,
    WORKERS,
    SettingError,
    hub_settings,
    operator_networks,
    proxy_count,
    server_number,
    trusted_hosts,
    unknown_names,
)
from sse_threaded.errors import SSEError
from sse_threaded.gunicorn_hooks import child_exit, post_worker_init, worker_exit
from sse_threaded.log import SQLiteLog, open_log
from sse_threaded.metrics_directory import VARIABLE

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter

__all__ = [
    "bind",
    "child_exit",
    "control_socket_disable",
    "forwarder_headers",
    "graceful_timeout",
    "on_exit",
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

# Two, so that one serves while the other restarts. A log in memory belongs to one process.
workers = _number(WORKERS, 1 if _url == "memory://" else 2)

# An open page occupies a connection. Threads are for requests in progress and for long polls: 14 of 16 may wait.
worker_class = "sse_threaded.worker.ThreadWorker"
threads = _number(THREADS, 16)
worker_connections = _number(CONNECTIONS, 10_000)

# gunicorn kills a worker whose main thread gives no sign of life for so many seconds. Streams do not run on that
# thread: they neither keep a hung worker alive nor let a healthy one be killed.
timeout = 30

# For ordinary requests in progress. Streams end within a second after SIGTERM.
graceful_timeout = 10

# By default gunicorn takes the application's path (SCRIPT_NAME) and the scheme from header fields. It does so if
# the request comes from this machine or through a Unix socket. Any client can send these fields, and Caddy passes
# them on. With SCRIPT_NAME a client could hide the path from a rule of the proxy. So gunicorn trusts no fields,
# and the board trusts as many proxies as SSE_THREADED_PROXIES says.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}

# By default all gunicorn servers of a user share one control socket.
control_socket_disable = True

# The processes share their metrics in files. If no directory is set for them, it is a temporary one.
_DIRECTORY = "sse_threaded-metrics-"
if os.environ.get(METRICS, "0").strip() not in ("", "0") and not os.environ.get(VARIABLE):
    os.environ[VARIABLE] = tempfile.mkdtemp(prefix=_DIRECTORY)


def on_exit(server: Arbiter) -> None:
    """Remove the temporary directory of the metrics, unless another master goes on with it (SIGUSR2)."""
    directory = os.environ.get(VARIABLE, "")
    if os.path.basename(directory).startswith(_DIRECTORY) and not (server.reexec_pid or server.master_pid):
        shutil.rmtree(directory, ignore_errors=True)


def on_starting(server: Arbiter) -> None:
    """Refuse settings that cannot work or would lose events, in one line."""
    for name in unknown_names(os.environ):
        server.log.warning("%s is not a setting; deploy/gunicorn.conf.py lists the settings", name)
    try:
        hub_settings(os.environ)
        proxy_count(os.environ)
        trusted_hosts(os.environ)
        operator_networks(os.environ, METRICS)
        operator_networks(os.environ, DEBUG)
        # A SQLite file that cannot be opened at the first start is most likely a mistake, such as a missing
        # folder. A Redis server may start later than this server.
        (SQLiteLog(_url, must_open=True) if _url.startswith("sqlite:///") else open_log(_url)).close()
    except SSEError as error:
        raise SystemExit(f"Cannot start: {error}") from None
    if _url == "memory://" and server.cfg.workers > 1:
        raise SystemExit(
            f"{URL}=memory:// is one process's log, but there are {server.cfg.workers} workers: "
            "an event would reach a part of the clients. Use sqlite:///file.db, or -w 1."
        )
