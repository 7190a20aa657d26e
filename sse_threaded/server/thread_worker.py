"""gunicorn's gthread worker, with streams parked: an open page holds a connection, and no thread.

    gunicorn -k sse_threaded.worker.ThreadWorker --threads 8 --worker-connections 10000 app:app

A request is handled by gunicorn as ever. When its answer turns out to be a stream of this package, the thread
sends the head and the first bytes, leaves the socket to the pump and takes the next request. Where the app has
wrapped the stream, a thread goes on with the app's iterable whenever there is something, and then leaves again.
When the stream has ended, a thread writes the access line, calls ``post_request`` and gives the connection back to
gunicorn.

What is overridden of gunicorn's, beside what :mod:`.accepting_worker` has (tests/unit/test_worker_points.py knows
what it looks like):

- ``handle_request``, which is where a response is iterated.
- ``load_wsgi``, for the hooks that the plain worker needs in a configuration file.
- ``init_process``, so that ``worker_exit`` closes the logs at every end.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.config import PostRequest
from gunicorn.glogging import Logger
from gunicorn.http import wsgi

from ..fanout.handover import ENVIRON_KEY
from ..fanout.lifecycle import process_budget
from ..stream import EventStream
from . import hooks
from .accepting_worker import AcceptingWorker
from .app_response import Exchange
from .capacity import stream_limit
from .iteration import Iteration, Progress, is_encoded
from .permits import Turns
from .request_body import ChunkedBody, MalformedBody, RequestTooSlow, check_chunks, is_chunked
from .request_count import RequestCount
from .transparent_wrappers import bare_stream


class _Buffer:
    """Takes the place of a socket, so that a response's head and its first bytes leave in one packet."""

    def __init__(self) -> None:
        self.data = b""

    def sendall(self, data: bytes) -> None:
        self.data += data


class ThreadWorker(AcceptingWorker):
    """gunicorn's ThreadWorker that parks streams; its settings mean what gunicorn's manual says.

    ``threads`` bounds requests at work, ``worker_connections`` open connections, parked ones included.

    :ivar tells_ends: somebody wants to know of a request's end: an access log, a hook.
    """

    tells_ends = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._warned: set[str] = set()
        self.turns = Turns(self._turns_limit, self.enqueue_soon, self.enqueue_next)

    def _turns_limit(self) -> int:
        # Those that keep their thread are as many less.
        return max(1, stream_limit(self.cfg.threads) - process_budget.taken)

    def init_process(self) -> None:
        """A worker's whole life; however it ends, streams are told and logs are closed."""
        own_hook = self.cfg.worker_exit

        def worker_exit(server: Any, worker: Any) -> None:
            try:
                own_hook(server, worker)  # which may publish still
            finally:
                hooks.worker_exit(server, worker)

        self.cfg.set("worker_exit", worker_exit)  # gunicorn calls it at every end of this process
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the app, and see to the ends of its streams."""
        super().load_wsgi()
        hooks.post_worker_init(self, parks=True)
        gc.freeze()  # the app is here to stay; let collections pass it by

    def prepare(self) -> None:
        """Take the settings as they are."""
        super().prepare()
        # After post_worker_init: no setting changes from here on. gunicorn finds a setting by way of __getattr__,
        # which is a tenth of the time a request takes.
        self.cfg.__dict__.update((name, setting.get()) for name, setting in self.cfg.settings.items())
        own_logger = type(self.log).access is not Logger.access
        own_hook = self.cfg.post_request is not PostRequest.default
        self.tells_ends = own_logger or own_hook or self.log.access_log_enabled

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Answer one request, on a thread of the pool; returns whether the connection may be used again."""
        exchange = Exchange(self, req, conn)
        parked = False
        try:
            self.cfg.pre_request(self, req)
            chunked = is_chunked(req)
            if chunked and conn.whole:
                check_chunks(req)
            exchange.resp, environ = wsgi.create(req, conn.sock, conn.client, conn.server, self.cfg)
            environ["wsgi.multithread"] = True
            if chunked:
                environ["wsgi.input"] = ChunkedBody(req.body)
            exchange.environ = environ
            parked = self._respond(exchange)
            return not parked and not exchange.resp.should_close()
        except (MalformedBody, RequestTooSlow) as fault:  # the app let it through
            if exchange.resp is None or not exchange.resp.headers_sent:
                if isinstance(fault, MalformedBody):
                    raise fault.fault from None  # gunicorn answers it with 400
                with suppress(OSError):  # the client may have gone
                    util.write_error(conn.sock, 408, "Request Timeout", "")
            raise StopIteration() from None
        except OSError:
            raise
        except (Exception, SystemExit):
            if exchange.resp is not None and exchange.resp.headers_sent:
                # The response has begun, so an error page would only corrupt it.
                self.log.exception("Error handling request")
                raise StopIteration() from None
            raise
        finally:
            if not parked:
                exchange.post_request()

    def _begin_response(self, resp: Any, counts: bool) -> None:
        if counts:
            self.nr += 1
        if self.nr >= self.max_requests:
            if self.alive:
                self.log.info("Autorestarting worker after current request.")
                self.alive = False
            resp.force_close()
        # Those that streams have wait, too, and free no place for a new connection soon.
        no_room = len(self.keepalived_conns) + len(self._lent) >= self.max_keepalived
        if not self.alive or not self.cfg.keepalive or no_room:
            resp.force_close()

    def _respond(self, exchange: Exchange) -> bool:
        """Send the response, to its end or until it is parked; returns which."""
        resp, environ, space = exchange.resp, exchange.environ, exchange.space
        environ[ENVIRON_KEY] = space
        parked = False
        space.thread = threading.get_ident()
        count = RequestCount(resp.start_response, partial(self._begin_response, resp))
        try:
            exchange.respiter = self.wsgi(environ, count.start_response)
        except BaseException:
            count.finish()
            raise
        try:
            parked = self._send(exchange)
            return parked
        finally:
            if not parked:
                if space.wrapped is not None:
                    with suppress(OSError):  # the app may have closed it
                        exchange.conn.sock.setblocking(True)  # as gunicorn left it
                exchange.conclude()

    def _send(self, exchange: Exchange) -> bool:
        resp = exchange.resp
        if isinstance(exchange.respiter, exchange.environ["wsgi.file_wrapper"]):
            resp.write_file(exchange.respiter)
            resp.close()
            return False
        exchange.chunks = iter(exchange.respiter)
        stream = bare_stream(exchange.respiter)
        if stream is not None:
            stream.joins = True
            if self._may_park(resp):
                return self._send_bare(stream, exchange)
        iteration = Iteration(self, exchange)
        if not self.cfg.is_ssl:
            exchange.space.server = iteration
        progress = iteration.advance()
        if progress is Progress.ENDED:
            wrapped = exchange.space.wrapped
            if wrapped is not None and wrapped.state.is_lost:
                resp.force_close()  # its body is not complete
            return False
        exchange.conn.take_over = partial(iteration.go_on, progress)
        return True

    def _may_park(self, resp: Any) -> bool:
        # The rest is sent past gunicorn.
        if self.cfg.is_ssl or resp.status is None or resp.response_length is not None or resp._omits_body:
            return False
        return not is_encoded(resp)

    def _send_bare(self, stream: EventStream, exchange: Exchange) -> bool:
        for item in exchange.chunks:
            if stream.can_park:
                self._park(stream, item, exchange)
                return True
            exchange.resp.write(item)
        exchange.resp.close()
        return False

    def _park(self, stream: EventStream, item: bytes, exchange: Exchange) -> None:
        resp, conn = exchange.resp, exchange.conn
        exchange.lend_connection()
        resp.sock = begin = _Buffer()
        resp.write(item)
        resp.sock = conn.sock
        parked, hand_over = stream.park(conn.sock, resp.chunked, exchange.finished)
        exchange.park(parked)
        conn.take_over = partial(hand_over, begin.data)

    def warn_once(self, kind: str, message: Callable[[], str]) -> None:
        """See :class:`.iteration.Worker`."""
        if kind not in self._warned:
            self._warned.add(kind)  # two threads at the same moment warn twice
            self.log.warning("%s", message())
