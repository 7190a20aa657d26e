"""gunicorn's gthread worker, with streams parked: an open page holds a connection, and no thread.

    gunicorn -k sse_threaded.worker.ThreadWorker --threads 8 --worker-connections 10000 app:app

A request is handled by gunicorn as ever. When its answer turns out to be a stream of this package, the thread
sends the head and the first bytes, leaves the socket to the pump and takes the next request. When the stream
has ended, a thread writes the access line, calls ``post_request`` and gives the connection back to gunicorn.

What is overridden of gunicorn's, beside what :mod:`.acceptor` has (tests/test_worker_points.py knows what it
looks like): ``handle_request``, which is where a response is iterated; ``load_wsgi``, for the hooks that the plain
worker needs in a configuration file.
"""

from __future__ import annotations

import gc
from datetime import datetime
from functools import partial
from typing import Any

from gunicorn import http, util
from gunicorn.config import PostRequest
from gunicorn.glogging import Logger
from gunicorn.http import wsgi

from . import gunicorn_hooks
from .acceptor import AcceptingWorker, Connection, Outcome
from .parked import ENVIRON_KEY, Parked, Space
from .stream import EventStream


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

    def __init__(self, worker: ThreadWorker, req: Any, conn: Connection) -> None:
        self._worker = worker
        self._req = req
        self.conn = conn
        self._start = datetime.now()  # noqa: DTZ005  # gunicorn's access log takes the difference
        self.environ: Any = {}
        self.resp: Any = None
        self.respiter: Any = None
        self.again = False
        self.parked: Parked | None = None

    @property
    def has_body(self) -> bool:
        """Whether the request has one, or says so."""
        return any(name in ("CONTENT-LENGTH", "TRANSFER-ENCODING") for name, _ in self._req.headers)

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
        again = self.again and parked.complete and parked.ended != "shutdown"
        try:
            self.conn.context.run(self.conclude)
        except (Exception, SystemExit):
            # As where gunicorn iterates: the response is out, so the log is where it can be told.
            self._worker.log.exception("Error handling request")
            again = False
        finally:
            if self._worker.tells_ends:
                self.conn.context.run(self.post_request)
        if again and self.conn.parser is None:
            self.conn.parser = http.get_parser(self._worker.cfg, self.conn.sock, self.conn.client)
            self.conn.parser.req_count = 1  # only a connection's first request may come with a PROXY line
        self._worker.give_back(self.conn, Outcome(again))


class ThreadWorker(AcceptingWorker):
    """gunicorn's ThreadWorker that parks streams; its settings mean what gunicorn's manual says.

    ``threads`` bounds requests at work, ``worker_connections`` open connections, parked ones included.

    :ivar tells_ends: somebody wants to know of a request's end: an access log, a hook.
    """

    tells_ends = True
    _warned_of_encoding = False

    def load_wsgi(self) -> None:
        """Load the app, and see to the ends of its streams."""
        super().load_wsgi()
        # gunicorn finds a setting by way of __getattr__, which is a tenth of the time a request takes. In a worker
        # none changes any more.
        self.cfg.__dict__.update((name, setting.get()) for name, setting in self.cfg.settings.items())
        own_logger = type(self.log).access is not Logger.access
        own_hook = self.cfg.post_request is not PostRequest.default
        self.tells_ends = own_logger or own_hook or self.log.access_log_enabled
        gunicorn_hooks.post_worker_init(self, parks=True)
        gc.freeze()  # the app is here to stay; let collections pass it by

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
        if encoded and not self._warned_of_encoding:
            self._warned_of_encoding = True  # two threads at the same moment warn twice
            self.log.warning("Streams leave with a Content-Encoding: what encodes them may hold events back")
        changed = encoded or item != stream.first or resp.response_length is not None
        return not (changed or self.cfg.is_ssl or resp._omits_body)

    def _park(self, stream: EventStream, item: bytes, exchange: _Exchange) -> None:
        resp, conn = exchange.resp, exchange.conn
        if exchange.has_body:
            resp.force_close()  # nobody will read it, so where a next request would begin is unknown
        resp.sock = begin = _Buffer()
        resp.write(item)
        resp.sock = conn.sock
        exchange.again = not resp.should_close()
        parked = stream.park(conn.sock, resp.chunked, exchange.finished)
        exchange.park(parked)
        conn.take_over = partial(stream.hand_over, parked, begin.data)
