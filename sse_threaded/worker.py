"""gunicorn's gthread worker, with streams parked: an open page holds a connection, and no thread.

    gunicorn -k sse_threaded.worker.ThreadWorker --threads 8 --worker-connections 10000 app:app

A request is handled by gunicorn as ever. When its answer turns out to be a stream of this package, the thread
sends the head and the first bytes, leaves the socket to the pump and takes the next request. When the stream
has ended, a thread writes the access line, calls ``post_request`` and gives the connection back to gunicorn.

What is overridden of gunicorn's (tests/test_worker_points.py knows what it looks like):
``handle_request``, which is where a response is iterated; ``finish_request``, which is where a connection goes
once its thread is done with it; ``load_wsgi``, for the hooks that the plain worker needs in a configuration file.
"""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.workers import gthread

from . import gunicorn_hooks
from .parked import ENVIRON_KEY, Parked, Space
from .stream import EventStream

_log = logging.getLogger(__name__)


class _Exchange:
    """One request and its response, from its first to its last byte."""

    def __init__(self, worker: ThreadWorker, req: Any, conn: Any) -> None:
        self._worker = worker
        self._req = req
        self._conn = conn
        self._start = datetime.now()  # noqa: DTZ005  # gunicorn's access log takes the difference
        self.environ: dict[str, Any] = {}
        self.resp: Any = None
        self.respiter: Any = None
        self.parked: Parked | None = None

    def conclude(self) -> None:
        """The access line, then the iterable's close, in gunicorn's order."""
        try:
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


class ThreadWorker(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's ThreadWorker that parks streams; its settings mean what gunicorn's manual says.

    ``threads`` bounds requests at work, ``worker_connections`` open connections, parked ones included.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alive: bool
        # Connections whose thread has left them to the pump, until the main thread hands them over.
        self._leaving: dict[Any, tuple[EventStream, Parked]] = {}

    def load_wsgi(self) -> None:
        """Load the app, and see to the ends of its streams."""
        super().load_wsgi()
        gunicorn_hooks.post_worker_init(self, parks=True)

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Answer one request, on a thread of the pool; returns whether the connection may be used again."""
        exchange = _Exchange(self, req, conn)
        parked = False
        try:
            self.cfg.pre_request(self, req)
            exchange.resp, exchange.environ = wsgi.create(req, conn.sock, conn.client, conn.server, self.cfg)
            exchange.environ["wsgi.multithread"] = True
            self._count_request(exchange.resp)
            parked = self._respond(exchange, conn)
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

    def _respond(self, exchange: _Exchange, conn: Any) -> bool:
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
                    resp.write(item)
                    if space.stream is not None:
                        parked = self._park(space.stream, item, exchange, conn)
                        if parked:
                            return True
                        space.stream = None
            resp.close()
            return False
        finally:
            if not parked:
                exchange.conclude()

    def _park(self, stream: EventStream, item: bytes, exchange: _Exchange, conn: Any) -> bool:
        resp = exchange.resp
        encoded = any(name.lower() == "content-encoding" for name, _ in resp.headers)
        # The rest is sent past gunicorn and past all middleware, so the bytes must have come through unchanged.
        changed = encoded or item != stream.first or resp.response_length is not None
        if changed or self.cfg.is_ssl or resp._omits_body:
            return False
        parked = stream.park(conn.sock, resp.chunked, partial(self._on_finished, exchange, conn))
        exchange.parked = parked
        self._leaving[conn] = (stream, parked)
        return True

    def finish_request(self, conn: Any, fs: Any) -> None:
        """A thread is done with a connection; on the main thread."""
        leaving = self._leaving.pop(conn, None)
        if leaving is None:
            super().finish_request(conn, fs)
        else:
            stream, parked = leaving
            stream.hand_over(parked)

    def _on_finished(self, exchange: _Exchange, conn: Any) -> None:
        # On the pump's thread, which must not wait for a log file or a hook, nor for the pool's lock.
        self.method_queue.defer(self._conclude, exchange, conn)

    def _conclude(self, exchange: _Exchange, conn: Any) -> None:
        # On the main thread, as for any connection that becomes ready.
        future = self.tpool.submit(self._after_stream, exchange)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def _after_stream(self, exchange: _Exchange) -> bool:
        parked = exchange.parked
        assert parked is not None
        exchange.resp.sent += parked.sent
        try:
            exchange.conclude()
        finally:
            exchange.post_request()
        return bool(parked.complete and parked.ended != "shutdown" and not exchange.resp.should_close())
