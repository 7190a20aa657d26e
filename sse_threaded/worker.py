"""gunicorn's gthread worker, with streams parked: an open page holds a connection, and no thread.

    gunicorn -k sse_threaded.worker.ThreadWorker --threads 8 --worker-connections 10000 app:app

A request is handled by gunicorn as ever. When its answer turns out to be a stream of this package, the thread
sends the head and the first bytes, leaves the socket to the pump and takes the next request. When the stream
has ended, a thread writes the access line, calls ``post_request`` and gives the connection back to gunicorn.

What is overridden of gunicorn's (tests/test_worker_points.py knows what it looks like):

- ``accept``: as many connections as there are, not one; those whose request has not come yet wait in the poller.
- ``enqueue_req`` and ``wait_for_and_dispatch_events``: connections go to the pool by way of :mod:`.runners`.
- ``handle_request``: where a response is iterated.
- ``set_accept_enabled``: for pauses.
- ``get_thread_pool`` and ``load_wsgi``: what must be there before the first request; the hooks that the plain
  worker needs in a configuration file among it.
"""

from __future__ import annotations

import errno
import gc
import logging
import resource
import selectors
import socket
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from gunicorn import http, util
from gunicorn.config import PostRequest
from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from gunicorn.workers import gthread

from . import gunicorn_hooks
from .parked import ENVIRON_KEY, Parked, Space
from .runners import PATIENCE, Runners
from .shares import Shares
from .stream import EventStream

_log = logging.getLogger(__name__)

# Connections accepted before the main thread looks at anything else.
_ACCEPTS_A_ROUND = 64

# What accept() fails with when the process or the machine has no room for another connection, and for how many
# seconds it is then left alone: the connection stays in the kernel's queue.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NO_ROOM_PAUSE = 1.0


# How many connections a worker may have more than another before it leaves new ones to that one, and for how many
# seconds it does.
_LEAD = 4
_GIVE_WAY = 0.002

# Files that a worker opens beside its connections: listeners, logs, databases, what the app reads.
_OTHER_FILES = 200

# The arbiter kills a worker from which it does not hear for ``timeout`` seconds, of which there are 1 at least.
_NOTIFY_SECONDS = 0.25


class _Connection(gthread.TConn):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's connection, and the stream for which its thread leaves it to the pump."""

    leaving: tuple[EventStream, Parked, bytes] | None = None


class _Outcome:
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


class _Buffer:
    """Takes the place of a socket, so that a response's head and its first bytes leave in one packet."""

    def __init__(self) -> None:
        self.data = b""

    def sendall(self, data: bytes) -> None:
        self.data += data


class _Exchange:
    """One request and its response, from its first to its last byte.

    :ivar again: whether the connection may be used again.
    """

    def __init__(self, worker: ThreadWorker, req: Any, conn: _Connection) -> None:
        self._worker = worker
        self._req = req
        self.conn = conn
        self._start = datetime.now()  # noqa: DTZ005  # gunicorn's access log takes the difference
        self.environ: Any = {}
        self.resp: Any = None
        self.respiter: Any = None
        self.again = False
        self.parked: Parked | None = None

    def park(self, parked: Parked) -> None:
        """Keep, for as long as the stream is parked, no more than its end will ask for."""
        self.parked = parked
        if not self.conn.parser.unreader.buf.getvalue():
            self.conn.parser = None
        if not self._worker.tells_ends:
            self._req = self.environ = self.resp = None

    def conclude(self) -> None:
        """The access line, then the iterable's close, in gunicorn's order."""
        try:
            if self.resp is not None:
                elapsed = datetime.now() - self._start  # noqa: DTZ005
                self._worker.log.access(self.resp, self._req, self.environ, elapsed)
        finally:
            if hasattr(self.respiter, "close"):
                self.respiter.close()

    def post_request(self) -> None:
        """gunicorn's server hook."""
        try:
            self._worker.cfg.post_request(self._worker, self._req, self.environ, self.resp)
        except Exception:
            self._worker.log.exception("Exception in post_request hook")

    def finished(self) -> None:
        """The stream has ended; on the pump's thread, which must not wait for a log file, a hook or the pool."""
        self._worker.method_queue.defer(self._worker.enqueue, self._after)

    def _after(self) -> None:
        parked = self.parked
        assert parked is not None
        if self.resp is not None:
            self.resp.sent += parked.sent
        try:
            self.conclude()
        except BaseException as error:
            self._worker.give_back(self.conn, _Outcome(error=error))
            return
        finally:
            if self._worker.tells_ends:
                self.post_request()
        again = self.again and parked.complete and parked.ended != "shutdown"
        if again and self.conn.parser is None:
            self.conn.parser = http.get_parser(self._worker.cfg, self.conn.sock, self.conn.client)
        self._worker.give_back(self.conn, _Outcome(again))


class ThreadWorker(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's ThreadWorker that parks streams; its settings mean what gunicorn's manual says.

    ``threads`` bounds requests at work, ``worker_connections`` open connections, parked ones included.
    """

    _shares: ClassVar[Shares | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In the master, before the fork: the workers that follow share it.
        if ThreadWorker._shares is None:
            ThreadWorker._shares = Shares()
        self.shares = ThreadWorker._shares
        self.alive: bool
        self._gave_way = False
        self._accepts_again = 0.0  # not before (monotonic)
        self._notified = 0.0  # when the arbiter was last told that all is well (monotonic)
        self._crowded = False  # connections come faster than they are served
        self.tells_ends = True  # somebody wants to know of a request's end: an access log, a hook
        self._runners: Runners

    def get_thread_pool(self) -> Any:
        """gunicorn's pool, and the runners who use it."""
        pool = super().get_thread_pool()
        self._runners = Runners(pool, self.cfg.threads, self._on_idle)
        return pool

    def load_wsgi(self) -> None:
        """Load the app, and see to the ends of its streams."""
        super().load_wsgi()
        # gunicorn finds a setting by way of __getattr__, which is a tenth of the time a request takes. In a worker
        # none changes any more.
        self.cfg.__dict__.update((name, setting.get()) for name, setting in self.cfg.settings.items())
        own_logger = type(self.log).access is not Logger.access
        own_hook = self.cfg.post_request is not PostRequest.default
        self.tells_ends = own_logger or own_hook or self.log.access_log_enabled
        self._make_room()
        gunicorn_hooks.post_worker_init(self, parks=True)
        gc.freeze()  # the app is here to stay; let collections pass it by

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
        pause = self._accepts_again - time.monotonic()
        if pause > 0.0:
            timeout = min(timeout, pause)
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
            conn = _Connection(self.cfg, client_sock, client_addr, server)
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
        self._pause_accepting(_GIVE_WAY)
        return 0

    def _pause_accepting(self, seconds: float) -> None:
        self._accepts_again = time.monotonic() + seconds
        self.set_accept_enabled(False)

    def _accept_more(self) -> None:
        if self.alive and not sum(self.accept(listener) for listener in self.sockets):
            self._crowded = False
            self.set_accept_enabled(self.nr_conns < self.worker_connections)

    def _await_request(self, conn: _Connection) -> None:
        # No thread waits for a client that takes its time; it has as long as with gunicorn.
        conn.timeout = time.monotonic() + gthread.DEFAULT_WORKER_DATA_TIMEOUT + self.cfg.keepalive
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def enqueue_req(self, conn: _Connection) -> None:
        """Have a thread serve the connection's request, which has begun to arrive."""
        self.enqueue(partial(self._serve, conn))

    def enqueue(self, task: Callable[[], None]) -> None:
        """Have a thread run ``task``, which must not raise."""
        self._runners.put(task)

    def _count_out(self) -> None:
        self.nr_conns -= 1

    # Threads of the pool.

    def _on_idle(self) -> None:
        if self._crowded:
            self.method_queue.defer(self._accept_more)

    def _serve(self, conn: _Connection) -> None:
        try:
            outcome = _Outcome(self.handle(conn))
        except BaseException as error:
            outcome = _Outcome(error=error)
        leaving, conn.leaving = conn.leaving, None
        if leaving is None:
            self.give_back(conn, outcome)
        else:
            stream, parked, head = leaving
            stream.hand_over(parked, head)

    def give_back(self, conn: _Connection, outcome: _Outcome) -> None:
        """Let gunicorn wait for the connection's next request, or close it."""
        if outcome.error or (outcome.again and not self.alive):
            self.method_queue.defer(self.finish_request, conn, outcome)
            return
        if outcome.again:
            # Here, as it would have to wake the main thread. The poller may be given something while it waits.
            self.finish_request(conn, outcome)
            return
        # Here, as the main thread must not wait until the client has closed too, for up to two seconds.
        try:
            conn.close(graceful=True)
        except OSError:
            conn.close()
        self.method_queue.defer(self._count_out)

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Answer one request, on a thread of the pool; returns whether the connection may be used again."""
        exchange = _Exchange(self, req, conn)
        parked = False
        try:
            self.cfg.pre_request(self, req)
            exchange.resp, environ = wsgi.create(req, conn.sock, conn.client, conn.server, self.cfg)
            environ["wsgi.multithread"] = True
            exchange.environ = environ
            self._count_request(exchange.resp)
            parked = self._respond(exchange)
            return not parked and not exchange.resp.should_close()
        except OSError:
            raise
        except (Exception, SystemExit):
            if exchange.resp is not None and exchange.resp.headers_sent:
                # The response has begun, so an error page would only corrupt it.
                self.log.exception("Error handling request")
                util.close_graceful(conn.sock)
                raise StopIteration() from None
            raise
        finally:
            if not parked:
                exchange.post_request()

    def _count_request(self, resp: Any) -> None:
        self.nr += 1
        if self.nr >= self.max_requests:
            if self.alive:
                self.log.info("Autorestarting worker after current request.")
                self.alive = False
            resp.force_close()
        no_room = len(self.keepalived_conns) >= self.max_keepalived
        if not self.alive or not self.cfg.keepalive or no_room:
            resp.force_close()

    def _respond(self, exchange: _Exchange) -> bool:
        """Send the response, to its end or until it is parked; returns which."""
        resp, environ = exchange.resp, exchange.environ
        space = environ[ENVIRON_KEY] = Space()
        parked = False
        exchange.respiter = self.wsgi(environ, resp.start_response)
        try:
            if isinstance(exchange.respiter, environ["wsgi.file_wrapper"]):
                resp.write_file(exchange.respiter)
            else:
                for item in exchange.respiter:
                    stream, space.stream = space.stream, None
                    if stream is not None and self._may_park(stream, item, resp):
                        self._park(stream, item, exchange)
                        parked = True
                        return True
                    resp.write(item)
            resp.close()
            return False
        finally:
            if not parked:
                exchange.conclude()

    def _may_park(self, stream: EventStream, item: bytes, resp: Any) -> bool:
        # The rest is sent past gunicorn and past all middleware, so the bytes must have come through unchanged.
        encoded = any(name.lower() == "content-encoding" for name, _ in resp.headers)
        changed = encoded or item != stream.first or resp.response_length is not None
        return not (changed or self.cfg.is_ssl or resp._omits_body)

    def _park(self, stream: EventStream, item: bytes, exchange: _Exchange) -> None:
        resp, conn = exchange.resp, exchange.conn
        resp.sock = begin = _Buffer()
        resp.write(item)
        resp.sock = conn.sock
        exchange.again = not resp.should_close()
        parked = stream.park(conn.sock, resp.chunked, exchange.finished)
        exchange.park(parked)
        conn.leaving = (stream, parked, begin.data)


def _has_data(sock: socket.socket) -> bool:
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a thread will find out
    return True
