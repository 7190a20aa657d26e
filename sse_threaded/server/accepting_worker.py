"""gunicorn's gthread worker, with another way from a connection to a thread.

gunicorn accepts one connection a round and gives each to the pool at once, where a thread waits for its request
and, after the last response, for the client to close. When many come at once, threads that take the interpreter
from each other cost more than the requests do; and clients that are slow or say nothing take all threads. Here
connections are accepted many at a time, wait in the poller until their request is there
(:mod:`.request_reader`) and after the last response (:mod:`.closing_connections`), and are served by one thread
after the other; and each worker leaves connections to one that has fewer.

What is overridden of gunicorn's (tests/unit/test_worker_points.py knows what it looks like):

- what :mod:`.connection_worker` has.
- ``accept``: as many connections as there are, not one.
- ``enqueue_req``, ``wait_for_and_dispatch_events``, ``get_thread_pool``: connections go to the pool's threads by
  way of :mod:`.lazy_pool`.
- ``set_accept_enabled``: for pauses.
- ``notify``: less often.
- ``load_wsgi``: the limit on open files must be raised before the first request.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from . import capacity
from .client_connection import Connection
from .connection_worker import ConnectionWorker
from .lazy_pool import PATIENCE, LazyPool
from .worker_load import WorkerLoad

# Connections accepted before the main thread looks at anything else.
_ACCEPTS_A_ROUND = 64

# What accept() fails with when the process or the machine has no room for another connection, and for how many
# seconds it is then left alone: the connection stays in the kernel's queue.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NO_ROOM_PAUSE = 1.0


# How many connections a worker may have more than another before it leaves new ones to that one; and for how many
# seconds it does, for each that it has more and at most. The other may be busy, or stuck.
_LEAD = 4
_GIVE_WAY, _LONGEST_WAY = 0.0005, 0.02

# The arbiter kills a worker from which it does not hear for ``timeout`` seconds: 1 at least, 30 by default.
_NOTIFY_SECONDS = 0.25


class AcceptingWorker(ConnectionWorker):
    """gunicorn's ThreadWorker; its settings mean what gunicorn's manual says."""

    _shares: ClassVar[WorkerLoad | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In the master, before the fork: the workers that follow share it.
        if AcceptingWorker._shares is None:
            AcceptingWorker._shares = WorkerLoad()
        self.shares = AcceptingWorker._shares
        self._gave_way = False
        self._accepts_again = 0.0  # not before (monotonic)
        self._notified = 0.0  # when the arbiter was last told that all is well (monotonic)
        self._crowded = False  # connections come faster than they are served
        self._dispatch_asked = False  # the main thread was woken for a task
        self._runners: LazyPool

    def get_thread_pool(self) -> Any:
        """gunicorn's pool, and the runners who use it."""
        pool = super().get_thread_pool()
        self._runners = LazyPool(pool, self.cfg.threads, self._on_idle)
        return pool

    def load_wsgi(self) -> None:
        """Load the app."""
        self._make_room()
        super().load_wsgi()

    def _make_room(self) -> None:
        wanted = self.cfg.worker_connections
        self.worker_connections, files = capacity.raise_file_limit(wanted)
        if self.worker_connections < wanted:
            self.log.warning(
                "Only %s connections, as this process may open %s files, of which %s are for the app; raise that "
                "(ulimit -n) for the %s of worker_connections",
                self.worker_connections,
                files,
                files - self.worker_connections,
                wanted,
            )
        # gunicorn keeps a connection for each thread, however few there are.
        kept = capacity.kept_connections(self.worker_connections, self.cfg.threads)
        self.max_keepalived = self.worker_connections - kept

    # The main thread.

    def notify(self) -> None:
        """Tell the arbiter now and then that the worker is alive; each round is a system call too often."""
        now = time.monotonic()
        if now >= self._notified + _NOTIFY_SECONDS:
            self._notified = now
            super().notify()
            self._tell_others()
            self.shares.look(self.age)

    def _tell_others(self) -> None:
        if self.alive:
            self.shares.tell(self.age, self.nr_conns)
        else:
            self.shares.retire(self.age)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Let connections come or wait in the kernel's queue; a pause outlasts what gunicorn thinks of it."""
        super().set_accept_enabled(enabled and not self._crowded and time.monotonic() >= self._accepts_again)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events, no longer than the runners and a pause of accepting can."""
        # Here and not after the events: a thread that is woken needs the interpreter, which this one is about to
        # give up now.
        if self._runners.dispatch() or self._crowded:
            timeout = min(timeout, PATIENCE)
        if self._accepts_again:
            pause = self._accepts_again - time.monotonic()
            if pause > 0.0:
                timeout = min(timeout, pause)
            else:
                # It may have been over just after gunicorn's loop looked, which looks again in a second only.
                self._accepts_again = 0.0
                self.set_accept_enabled(self.alive and self.nr_conns < self.worker_connections)
        super().wait_for_and_dispatch_events(timeout)
        if self._crowded and not self._runners.brisk:
            self._accept_more()

    def accept(self, listener: socket.socket) -> int:
        """Accept the connections that wait, as far as there may be more; returns how many."""
        server = listener.getsockname()
        accepted = 0
        for _ in range(min(self._share(), self.worker_connections - self.nr_conns)):
            try:
                client_sock, client_addr = listener.accept()
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self.log.warning("Cannot accept connections: %s; raise the limit (ulimit -n)", error)
                    self._pause_accepting(_NO_ROOM_PAUSE)
                elif error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
                    raise
                break
            accepted += 1
            self.nr_conns += 1
            self._reception.receive(Connection(self.cfg, client_sock, client_addr, server))
        self._tell_others()
        if accepted and self._runners.brisk:
            # Where many come at once this thread and that of the runner would fight for the interpreter lock: let
            # it finish what there is, undisturbed.
            self._crowded = True
            self.set_accept_enabled(False)
        return accepted

    def _share(self) -> int:
        """How many connections to accept now: none while another worker, which has fewer, may take them."""
        lead = None if self.cfg.reuse_port else self.shares.lead(self.nr_conns)
        if lead is None or lead < -_ACCEPTS_A_ROUND:
            return _ACCEPTS_A_ROUND
        if lead < _LEAD:
            self._gave_way = False
            return _LEAD - lead
        if self._gave_way:  # and the other has not taken them: it is busy
            self._gave_way = False
            return _LEAD
        self._gave_way = True
        self._pause_accepting(min(lead * _GIVE_WAY, _LONGEST_WAY))
        return 0

    def _pause_accepting(self, seconds: float) -> None:
        self._accepts_again = time.monotonic() + seconds
        self.set_accept_enabled(False)

    def _accept_more(self) -> None:
        if not self.alive:
            self._crowded = False
        elif not sum(self.accept(listener) for listener in self.sockets):
            self._crowded = False
            self.set_accept_enabled(self.nr_conns < self.worker_connections)

    def enqueue_req(self, conn: Connection) -> None:
        """Have a thread serve the connection's request, which has begun to arrive."""
        self._runners.put(partial(self._serve, conn))

    def enqueue(self, task: Callable[[], None]) -> None:
        """Have a thread run ``task``, which must not raise; at an end at once, the main thread runs it."""
        if self._ends_at_once:
            task()
        else:
            self._runners.put(task)

    def enqueue_next(self, task: Callable[[], None]) -> None:
        """Have a thread of the pool run ``task``: the calling one, when it is done with its own."""
        self._runners.put(task)

    def enqueue_soon(self, task: Callable[[], None]) -> None:
        """Have a thread of the pool run ``task``, which may run the app's code; from a thread that must not wait,
        such as the pump's.
        """
        self._runners.put(task)
        if not self._dispatch_asked:
            self._dispatch_asked = True
            self.method_queue.defer(self._dispatch)

    @property
    def has_tasks(self) -> bool:
        """Whether tasks wait for a thread."""
        return self._runners.waiting > 0

    def _dispatch(self) -> None:
        self._dispatch_asked = False
        self._runners.dispatch()

    # Threads of the pool.

    def _on_idle(self) -> None:
        if self._crowded:
            self.method_queue.defer(self._accept_more)
        elif self._runners.waiting:
            self.method_queue.defer(self._runners.dispatch)
