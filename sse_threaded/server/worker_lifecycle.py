"""The worker's beginning and end: signals, settings, open files, and streams that must have their farewell.

It overrides of gunicorn's:

- ``init_signals``: signals that came before the worker could take them are let in.
- ``init_process``: ``worker_exit`` closes the logs at every end.
- ``load_wsgi``: it raises the limit on open files before the first request. It also calls the plain worker's
  hooks, so that a configuration file need not name them.
- ``run``: parked streams get their last lines where the worker ends at once.
"""

from __future__ import annotations

import gc
import time
from contextlib import suppress
from typing import Any

from gunicorn.config import PostRequest
from gunicorn.glogging import Logger

from ..fanout.lifecycle import request_close_all
from . import hooks, startup_signals
from .accepting_worker import AcceptingWorker
from .capacity import make_room

# Seconds that parked streams have where the worker ends at once (SIGINT, SIGQUIT). The pump gives a client that
# does not read half a second, and gunicorn's master kills a worker after two.
_LAST_SECONDS = 1.5

# Seconds between two looks whether they have ended.
_LOOK_SECONDS = 0.25


class LifecycleWorker(AcceptingWorker):
    """gunicorn's ThreadWorker, which ends streams whatever ends it.

    :ivar tells_ends: whether an access log or a hook needs the end of each request.
    """

    tells_ends = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        startup_signals.expect_worker()

    def init_signals(self) -> None:
        """Take signals, and those that came since the fork."""
        mask = startup_signals.begin_handlers()
        super().init_signals()
        startup_signals.end_handlers(mask)

    def init_process(self) -> None:
        """Live. However the worker ends, its streams end with a farewell and its logs are closed."""
        own_hook = self.cfg.worker_exit

        def worker_exit(server: Any, worker: Any) -> None:
            try:
                own_hook(server, worker)  # which may publish still
            finally:
                hooks.worker_exit(server, worker)

        self.cfg.set("worker_exit", worker_exit)  # gunicorn calls it at every end of this process
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the app, and prepare the ends of its streams."""
        self._make_room()
        super().load_wsgi()
        hooks.post_worker_init(self, parks=True)
        gc.freeze()  # the app stays while the worker lives, so collections need not look at it

    def _make_room(self) -> None:
        wanted = self.cfg.worker_connections
        capacity = make_room(wanted, self.cfg.threads)
        self.worker_connections = capacity.connections
        # gunicorn keeps a connection for each thread, however few there are.
        self.max_keepalived = capacity.idle
        if capacity.connections < wanted:
            self.log.warning(
                "Only %s connections: this process may open %s files, and %s of them are for the app. Raise that "
                "limit (ulimit -n) for the %s of worker_connections",
                capacity.connections,
                capacity.files,
                capacity.files - capacity.connections,
                wanted,
            )

    def run(self) -> None:
        """Run gunicorn's loop."""
        self._fix_settings()
        try:
            super().run()
        except BaseException:  # SystemExit: of a signal handler, or of sys.exit() in a view
            with suppress(Exception):
                self.conclude_streams()
            raise

    def _fix_settings(self) -> None:
        # With it the handshake is in wrap_socket(). During that call conn.sock is still the plain socket. That
        # one is detached, so the deadline could not end the handshake. Without it gunicorn does the handshake
        # right after that, on the same thread.
        self.cfg.set("do_handshake_on_connect", False)
        # After post_worker_init, so no setting changes from here on. gunicorn finds a setting by way of
        # __getattr__, which is a tenth of the time a request takes.
        self.cfg.__dict__.update((name, setting.get()) for name, setting in self.cfg.settings.items())
        own_logger = type(self.log).access is not Logger.access
        own_hook = self.cfg.post_request is not PostRequest.default
        self.tells_ends = own_logger or own_hook or self.log.access_log_enabled

    def conclude_streams(self) -> None:
        """Let parked streams have their farewell, access line and hooks before the worker ends at once.

        The main thread.
        """
        if self._ends_at_once:
            return
        self._ends_at_once, self.alive = True, False
        request_close_all()
        self.set_accept_enabled(False)
        deadline = time.monotonic() + min(_LAST_SECONDS, self.cfg.graceful_timeout)
        while self._streaming and time.monotonic() < deadline:
            self.wait_for_and_dispatch_events(_LOOK_SECONDS)
