"""gunicorn's gthread worker, with another way from a connection to a thread.

gunicorn accepts one connection a round and gives each to the pool at once, where a thread waits for its request;
when many come at once, threads that take the interpreter from each other cost more than the requests do. Here
connections are accepted many at a time, wait in the poller until their request begins to arrive, and are served
by one thread after the other; and each worker leaves connections to one that has fewer.

What is overridden of gunicorn's (tests/test_worker_points.py knows what it looks like):

- ``accept``: as many connections as there are, not one; those whose request has not come yet wait in the poller.
- ``enqueue_req``, ``wait_for_and_dispatch_events``, ``get_thread_pool``: connections go to the pool's threads by
  way of :mod:`.runners`.
- ``set_accept_enabled``: for pauses.
- ``_cap_keepalive``: as threads, too, give connections back.
- ``notify``: less often.
- ``load_wsgi``: the limit on open files must be raised before the first request.
- ``init_signals``: a signal that came before the worker could take it is let in.
"""

from __future__ import annotations

import contextvars
import errno
import resource
import selectors
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from gunicorn.workers import gthread

from . import newborn
from .runners import PATIENCE, Runners
from .shares import Shares

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

# Files that a worker opens beside its connections: listeners, logs, databases, what the app reads.
_OTHER_FILES = 200

# The arbiter kills a worker from which it does not hear for ``timeout`` seconds: 1 at least, 30 by default.
_NOTIFY_SECONDS = 0.25


class Connection(gthread.TConn):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's connection.

    :ivar take_over: what takes it over, once its thread is done with it; ``None`` for gunicorn.
    :ivar context: in which its request is answered.
    """

    take_over: Callable[[], None] | None = None
    context: contextvars.Context


class Outcome:
    """What became of a request, as gunicorn's ``finish_request`` asks for it."""

    def __init__(self, again: Any = False, error: BaseException | None = None) -> None:
        self.again = again
        self.error = error

    def cancelled(self) -> bool:
        return False

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.again


class AcceptingWorker(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's ThreadWorker; its settings mean what gunicorn's manual says."""

    _shares: ClassVar[Shares | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In the master, before the fork: the workers that follow share it.
        if AcceptingWorker._shares is None:
            AcceptingWorker._shares = Shares()
        self.shares = AcceptingWorker._shares
        self.alive: bool
        self._gave_way = False
        self._accepts_again = 0.0  # not before (monotonic)
        self._notified = 0.0  # when the arbiter was last told that all is well (monotonic)
        self._crowded = False  # connections come faster than they are served
        self._dispatch_asked = False  # the main thread was woken for a task
        self._runners: Runners
        newborn.expect()

    def init_signals(self) -> None:
        """Take signals, and those that came since the fork."""
        super().init_signals()
        newborn.let_signals_in()

    def get_thread_pool(self) -> Any:
        """gunicorn's pool, and the runners who use it."""
        pool = super().get_thread_pool()
        self._runners = Runners(pool, self.cfg.threads, self._on_idle)
        return pool

    def load_wsgi(self) -> None:
        """Load the app."""
        self._make_room()
        super().load_wsgi()

    def _make_room(self) -> None:
        # What a shell gives is often a soft limit of 1024 open files, for the sake of programs that use select().
        wanted = self.cfg.worker_connections + _OTHER_FILES
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            if soft < wanted:
                self.worker_connections = max(1, soft - _OTHER_FILES)
                self.max_keepalived = self.worker_connections - self.cfg.threads
                self.log.warning(
                    "Only %s connections, as this process may open %s files; raise that (ulimit -n) for the %s of "
                    "worker_connections",
                    self.worker_connections,
                    soft,
                    self.cfg.worker_connections,
                )

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
            conn = Connection(self.cfg, client_sock, client_addr, server)
            if _has_data(client_sock):
                conn.data_ready = True
                self.enqueue_req(conn)
            else:
                self._await_request(conn)
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

    def _await_request(self, conn: Connection) -> None:
        # No thread waits for a client that takes its time; it has as long as with gunicorn.
        conn.timeout = time.monotonic() + gthread.DEFAULT_WORKER_DATA_TIMEOUT + self.cfg.keepalive
        readable = partial(self.on_pending_socket_readable, conn)
        try:
            self.poller.register(conn.sock, selectors.EVENT_READ, readable)
        except OSError:  # the kernel has no room for it
            self._count_out()
            conn.close()
        else:
            self.pending_conns.append(conn)

    def enqueue_req(self, conn: Connection) -> None:
        """Have a thread serve the connection's request, which has begun to arrive."""
        self.enqueue(partial(self._serve, conn))

    def enqueue(self, task: Callable[[], None]) -> None:
        """Have a thread run ``task``, which must not raise."""
        self._runners.put(task)

    def enqueue_soon(self, task: Callable[[], None]) -> None:
        """The same, from a thread that must not wait, such as the pump's."""
        self._runners.put(task)
        if not self._dispatch_asked:
            self._dispatch_asked = True
            self.method_queue.defer(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatch_asked = False
        self._runners.dispatch()

    def _count_out(self) -> None:
        self.nr_conns -= 1

    # Threads of the pool.

    def _on_idle(self) -> None:
        if self._crowded:
            self.method_queue.defer(self._accept_more)
        elif self._runners.waiting:
            self.method_queue.defer(self._runners.dispatch)

    def _serve(self, conn: Connection) -> None:
        try:
            # A parked stream's iterable is in the midst of its work: what it has set must not reach the thread's
            # next request, and must be there when another thread closes it.
            conn.context = contextvars.copy_context()
            outcome = Outcome(conn.context.run(self.handle, conn))
        except BaseException as error:
            outcome = Outcome(error=error)
        take_over, conn.take_over = conn.take_over, None
        if take_over is None:
            self.give_back(conn, outcome)
        else:
            take_over()

    def give_back(self, conn: Connection, outcome: Outcome) -> None:
        """Let gunicorn wait for the connection's next request, or close it."""
        if outcome.again and self.alive and not conn.parser.unreader.buf.getvalue():
            self._await_next(conn)
            return
        if outcome.error or outcome.again:
            self.method_queue.defer(self.finish_request, conn, outcome)
            return
        # Here, as the main thread must not wait until the client has closed too, for up to two seconds.
        try:
            conn.close(graceful=True)
        except OSError:
            conn.close()
        self.method_queue.defer(self._count_out)

    def _await_next(self, conn: Connection) -> None:
        # As finish_request does; but the main thread need not be woken, since the poller may be given something
        # while it waits.
        conn.set_timeout()
        self.keepalived_conns.append(conn)
        try:
            conn.sock.setblocking(False)
            readable = partial(self.on_client_socket_readable, conn)
            self.poller.register(conn.sock, selectors.EVENT_READ, readable)
        except (OSError, ValueError, KeyError) as error:
            self.keepalived_conns.remove(conn)
            self.method_queue.defer(self.finish_request, conn, Outcome(error=error))
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + gthread.STOP_KEEPALIVE_LINGER)

    def _cap_keepalive(self, deadline: float) -> None:
        # On the main thread, over a copy, as threads may still append to it.
        for conn in (*self.keepalived_conns, *self.pending_conns):
            conn.timeout = min(conn.timeout, deadline)


def _has_data(sock: socket.socket) -> bool:
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a thread will find out
    return True
