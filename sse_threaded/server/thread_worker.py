"""The worker class: gunicorn's base worker, with streams parked. An open page holds a connection, and no thread.

    gunicorn -k sse_threaded.worker.ThreadWorker --threads 8 --worker-connections 10000 app:app

Its main thread takes signals, tells gunicorn's master that it is alive, and looks after the others
(:mod:`.crew`). One of these waits for events (:mod:`.loop`); each may answer a request (:mod:`.answering`). If the
answer is a stream, the thread makes the head and the first bytes. Then it gives the socket to the pump, and takes
the next request (:class:`~sse_threaded.fanout.handover.Handover` describes the steps).
"""

from __future__ import annotations

import gc
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from gunicorn.config import PostRequest
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from ..fanout.lifecycle import process_budget, request_close_all
from . import hooks, startup_signals, versions
from .accept_policy import AcceptPolicy
from .answering import Answering
from .capacity import make_room, stream_limit
from .connection import Connection
from .crew import Crew
from .loop import Loop
from .permits import Permits
from .watchman import WatchmansSleep
from .worker_load import WorkerLoad

# Seconds between two looks of the main thread: whether the worker is to end, and whether all threads are at work.
# The arbiter hears from the worker as often; it kills a worker from which it does not hear for ``timeout``
# seconds: 1 at least, 30 by default.
_LOOK_SECONDS = 0.25

# Seconds that a connection which waits for its next request stays open after SIGTERM: gunicorn's.
_KEPT_AT_END = 2.0

# Seconds that parked streams have where the worker ends at once (SIGINT, SIGQUIT). The pump gives a client that
# does not read half a second, and gunicorn's master kills a worker after two.
_LAST_SECONDS = 1.5


class ThreadWorker(Worker):  # type: ignore[misc]  # gunicorn has no annotations
    """A worker of gunicorn's with threads, in which a stream holds no thread; its settings mean what gunicorn's
    manual says for ``gthread``.

    ``threads`` bounds requests at work, ``worker_connections`` open connections, parked ones included.

    :ivar tells_ends: whether an access log or a hook needs the end of each request.
    """

    _shared_load: ClassVar[WorkerLoad | None] = None
    tells_ends = True

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Warn of a setting that this worker cannot follow; gunicorn's master calls it before the first fork.

        It also prepares the directory of the metrics, if there is one.
        """
        hooks.prepare_metrics(cfg, log)
        if versions.wants_http2(cfg):
            log.warning(
                "This worker speaks HTTP/1.1 only: gunicorn's own HTTP/2 answers the requests of a connection one "
                "after another, and a stream would block them. End HTTP/2 in a proxy, or use -k gthread"
            )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alive: bool
        self.worker_connections: int = self.cfg.worker_connections
        # In the master, before the fork: the workers that follow share it.
        if ThreadWorker._shared_load is None:
            ThreadWorker._shared_load = WorkerLoad()
        self._load = ThreadWorker._shared_load
        self._idle_limit = 0  # connections that may wait for their next request, or hold streams
        self._streaming: set[Connection] = set()  # those that streams have; threads add and discard
        self._warned: set[str] = set()
        self._calls: deque[Callable[[], None]] = deque()  # for the main thread
        self._is_concluding = False
        self._loop: Loop
        self._answering: Answering
        self._crew: Crew
        # How many wrapped streams may have a thread at the same time.
        self.permits = Permits(self._permit_limit, self.enqueue, self._enqueue_next)
        startup_signals.expect_worker()

    # Its beginning; the main thread.

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
        self._idle_limit = capacity.idle
        if capacity.connections < wanted:
            self.log.warning(
                "Only %s connections: this process may open %s files, and %s of them are for the app. Raise that "
                "limit (ulimit -n) for the %s of worker_connections",
                capacity.connections,
                capacity.files,
                capacity.files - capacity.connections,
                wanted,
            )

    def _fix_settings(self) -> None:
        versions.leave_out_http2(self.cfg)
        # After post_worker_init, so no setting changes from here on. gunicorn finds a setting by way of
        # __getattr__, which is a tenth of the time a request takes.
        self.cfg.__dict__.update((name, setting.get()) for name, setting in self.cfg.settings.items())
        own_logger = type(self.log).access is not Logger.access
        own_hook = self.cfg.post_request is not PostRequest.default
        self.tells_ends = own_logger or own_hook or versions.writes_access_log(self.log)

    # Its life; the main thread.

    def run(self) -> None:
        """Look after the threads until the end."""
        self._fix_settings()
        policy = AcceptPolicy(None if self.cfg.reuse_port else self._load)
        self._loop = Loop(
            self.cfg,
            self.log,
            listeners=self.sockets,
            limit=self.worker_connections,
            policy=policy,
            serve=self._enqueue_request,
            serve_elsewhere=self._enqueue_upload,
            told=self._tell,
        )
        self._answering = Answering(self, self._loop)
        events = self._loop.events
        watchman = None if events is None else WatchmansSleep(events)
        self._crew = Crew(self.cfg.threads, self._loop.lead, self._loop.interrupt, watchman=watchman)
        self._crew.begin()
        try:
            while self.alive and self._has_parent():
                self._look()
            self._end_gracefully()
        except BaseException:  # SystemExit: of a signal handler
            with suppress(Exception):
                self.conclude_streams()
            raise

    def _look(self) -> None:
        self.notify()
        self._tell(self._loop.connections)
        self._load.look(self.age)
        self._crew.watch(_LOOK_SECONDS)
        if self._crew.is_busy:  # no thread leads, and deadlines and clients that go must be seen
            self._crew.lead_briefly(partial(self._loop.lead, 0.0))
        while self._calls:
            self._calls.popleft()()

    def _has_parent(self) -> bool:
        if self.ppid == os.getppid():
            return True
        self.log.info("Parent changed, shutting down: %s", self)
        return False

    def _tell(self, connections: int) -> None:
        self._load.tell(self.age, connections if self.alive else None)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Have the main thread call something soon. Any thread, or a signal handler."""
        self._calls.append(call)
        self._crew.wake_watchman()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: end when all requests at work have their answer."""
        super().handle_exit(sig, frame)
        if hasattr(self, "_crew"):
            self._crew.wake_watchman()

    def _end_gracefully(self) -> None:
        deadline = time.monotonic() + self.cfg.graceful_timeout
        self.alive = False
        self._tell(0)
        self._loop.stop_accepting(time.monotonic() + _KEPT_AT_END)
        while self._loop.connections > 0 and time.monotonic() < deadline:
            self._look()
        self._loop.close_kept()
        for listener in self.sockets:
            listener.close()

    def conclude_streams(self) -> None:
        """Let parked streams have their farewell, access line and hooks before the worker ends at once.

        The main thread.
        """
        if self._is_concluding or not hasattr(self, "_crew"):
            return
        self._is_concluding, self.alive = True, False
        request_close_all()
        self._loop.stop_accepting(time.monotonic() + _KEPT_AT_END)
        deadline = time.monotonic() + min(_LAST_SECONDS, self.cfg.graceful_timeout)
        while self._streaming and time.monotonic() < deadline:
            self._crew.watch(_LOOK_SECONDS / 10)

    # Any thread; see exchange.ExchangeWorker.

    def _enqueue_request(self, conn: Connection) -> None:
        self._crew.put_own(partial(self._answering.serve, conn))

    def _enqueue_upload(self, conn: Connection) -> None:
        self._crew.put(partial(self._answering.serve, conn))

    def enqueue(self, task: Callable[[], None]) -> None:
        """Have a thread run ``task``. This does not wait."""
        self._crew.put(task)

    def _enqueue_next(self, task: Callable[[], None]) -> None:
        self._crew.put_own(task)

    @property
    def has_tasks(self) -> bool:
        """Whether tasks wait for a thread."""
        return self._crew.has_tasks

    def _permit_limit(self) -> int:
        # Those that keep their thread are as many less.
        return max(1, stream_limit(self.cfg.threads) - process_budget.taken)

    def count_request(self, resp: Any, is_stream: bool) -> None:
        """Count a request.

        Streams do not count toward ``max_requests``. When a worker ends, its pages reconnect to the workers that
        are left. If they counted, those workers would end too, and so on without end.
        """
        if not is_stream:
            self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
            self._crew.wake_watchman()
        # Connections with streams count here, too: none of them makes room for a new connection soon.
        no_room = self._loop.idle + len(self._streaming) >= self._idle_limit
        if not self.alive or not self.cfg.keepalive or no_room:
            resp.force_close()

    def begin_stream(self, conn: Connection) -> None:
        """Note that a stream has a connection, until :meth:`give_back`."""
        self._streaming.add(conn)

    def park(self, conn: Connection) -> None:
        """Watch a connection that the pump has, unless its stream has ended already."""
        self._loop.park(conn)

    def unpark(self, conn: Connection) -> None:
        """The pump has given a connection back."""
        self._loop.unpark(conn)

    def give_back(self, conn: Connection, again: bool) -> None:
        """Wait for a connection's next request, or close it."""
        self._streaming.discard(conn)
        self._answering.give_back(conn, again)

    def fail(self, error: BaseException) -> None:
        """Have the main thread raise an exception that ends the worker."""

        def fail() -> None:
            raise error

        self.call_soon(fail)

    def warn_once(self, kind: str, message: Callable[[], str]) -> None:
        """Log a warning, unless one of its kind was logged in this worker."""
        if kind not in self._warned:
            self._warned.add(kind)  # two threads at the same moment warn twice
            self.log.warning("%s", message())
