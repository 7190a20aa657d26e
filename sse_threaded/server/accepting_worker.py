"""How the worker accepts connections: many at a time, and not while another worker has fewer.

gunicorn accepts one connection a round of its loop.

It overrides of gunicorn's:

- ``accept``: as many connections as there are, not one.
- ``set_accept_enabled``: for pauses.
- ``wait_for_and_dispatch_events``: a pause may end earlier, and :mod:`.lazy_pool` is to be asked.
- ``notify``: less often; deadlines are looked at, and the other workers read how many connections this one has.
"""

from __future__ import annotations

import errno
import socket
import time
from typing import Any, ClassVar

from .accept_policy import AcceptPolicy
from .client_connection import ClientConnection
from .connection_worker import ConnectionWorker
from .worker_load import WorkerLoad

# accept() fails with these errors when the process or the machine has no room for another connection. The worker
# then accepts nothing for so many seconds; the connection stays in the kernel's queue.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NO_ROOM_PAUSE = 1.0

# Seconds between two looks at deadlines. The arbiter hears from the worker as often; it kills a worker from which
# it does not hear for ``timeout`` seconds: 1 at least, 30 by default.
_NOTIFY_SECONDS = 0.25


class AcceptingWorker(ConnectionWorker):
    """gunicorn's ThreadWorker, which shares connections evenly with the other workers."""

    _shared_load: ClassVar[WorkerLoad | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In the master, before the fork: the workers that follow share it.
        if AcceptingWorker._shared_load is None:
            AcceptingWorker._shared_load = WorkerLoad()
        self._load = AcceptingWorker._shared_load
        self._accept_policy = AcceptPolicy(None if self.cfg.reuse_port else self._load)
        self._notified = 0.0  # when the arbiter was last told that all is well (monotonic)

    # The main thread.

    def notify(self) -> None:
        """A few times a second, tell the arbiter and the other workers that this one is alive."""
        now = time.monotonic()
        if now >= self._notified + _NOTIFY_SECONDS:
            self._notified = now
            super().notify()
            self._load.tell(self.age, self.nr_conns if self.alive else None)
            self._load.look(self.age)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Let connections come, or wait in the kernel's queue. gunicorn's loop cannot end a pause."""
        is_paused = self._lazy_pool.is_awaited or time.monotonic() < self._accept_policy.paused_until
        super().set_accept_enabled(enabled and not is_paused)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events, no longer than the pool and a pause of accepting can."""
        # Here and not after the events: a thread that wakes needs the interpreter, which this one is about to give
        # up now.
        if self._lazy_pool.dispatch() or self._lazy_pool.is_awaited:
            timeout = min(timeout, self._lazy_pool.wake_after)
        if self._accept_policy.paused_until:
            pause = self._accept_policy.pause_left()
            if pause > 0.0:
                timeout = min(timeout, pause)
            else:
                # It may have ended just after gunicorn's loop looked, which looks again in a second only.
                self.set_accept_enabled(self.alive and self.nr_conns < self.worker_connections)
        super().wait_for_and_dispatch_events(timeout)
        if self._lazy_pool.is_awaited and time.monotonic() >= self._lazy_pool.brisk_until:
            self._accept_more()

    def accept(self, listener: socket.socket) -> int:
        """Accept the connections that wait, if there may be more; returns how many."""
        server = listener.getsockname()
        accepted = 0
        share = self._accept_policy.share(self.nr_conns)
        if not share:
            self.set_accept_enabled(False)
        for _ in range(min(share, self.worker_connections - self.nr_conns)):
            try:
                client_sock, client_addr = listener.accept()
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self.log.warning("Cannot accept connections: %s; raise the limit (ulimit -n)", error)
                    self._accept_policy.pause(_NO_ROOM_PAUSE)
                    self.set_accept_enabled(False)
                elif error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
                    raise
                break
            accepted += 1
            self.nr_conns += 1
            self._reader.receive(ClientConnection(self.cfg, client_sock, client_addr, server))
        self._load.tell(self.age, self.nr_conns if self.alive else None)
        if accepted and time.monotonic() < self._lazy_pool.brisk_until:
            # Where many come at once this thread and one of the pool would fight for the interpreter lock. That
            # one is to finish what there is, undisturbed.
            self._lazy_pool.is_awaited = True
            self.set_accept_enabled(False)
        return accepted

    def _accept_more(self) -> None:
        if not self.alive:
            self._lazy_pool.is_awaited = False
        elif not sum(self.accept(listener) for listener in self.sockets):
            self._lazy_pool.is_awaited = False
            self.set_accept_enabled(self.nr_conns < self.worker_connections)

    # A thread of the pool.

    def _on_idle_thread(self) -> None:
        self.method_queue.defer(self._accept_more if self._lazy_pool.is_awaited else self._lazy_pool.dispatch)
