"""gunicorn's gthread worker, with streams parked: an open page holds a connection, and no thread.

    gunicorn -k sse_threaded.worker.ThreadWorker --threads 8 --worker-connections 10000 app:app

A request is handled by gunicorn as ever. When its answer turns out to be a stream of this package, the thread
sends the head and the first bytes, leaves the socket to the pump and takes the next request. Where the app has
wrapped the stream, a thread goes on with the app's iterable whenever there is something, and then leaves again.
When the stream has ended, a thread writes the access line, calls ``post_request`` and gives the connection back to
gunicorn.

What is overridden of gunicorn's, beside what :mod:`.acceptor` has (tests/test_worker_points.py knows what it
looks like): ``handle_request``, which is where a response is iterated; ``load_wsgi``, for the hooks that the plain
worker needs in a configuration file.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

from gunicorn import http, util
from gunicorn.config import PostRequest
from gunicorn.glogging import Logger
from gunicorn.http import wsgi

from . import gunicorn_hooks
from .acceptor import AcceptingWorker
from .parked import Parked
from .process import process_budget
from .server.connection import Connection, Outcome
from .server.passthrough import bare_stream
from .server.request_body import ChunkedBody, MalformedBody, RequestTooSlow, check_chunks, is_chunked
from .server.request_count import RequestCount
from .server.reserves import stream_limit
from .space import ENVIRON_KEY, Space
from .stream import EventStream
from .subscriber import WRITE_BYTES
from .turns import Turn, Turns

# Seconds for which a wrapped stream's bytes may wait for more, while the stream has more at once; and how long its
# wrapper may have taken for the last chunk, as one that is slow may be so again.
_COLLECT_SECONDS = 0.005
_QUICK_SECONDS = 0.001

# Seconds after which a wrapped stream lets others have its thread.
_SLICE_SECONDS = 0.02

# Packages whose wrappers pass on an empty chunk, and are not what a warning should name.
_KNOWN = ("werkzeug",)

# How far the app's iterable was followed: to its end, to where nothing is there or the socket takes no more, or as
# long as one stream may have a thread while others wait for it.
_ENDED, _RESTS, _INTERRUPTED = range(3)


class _Buffer:
    """Takes the place of a socket, so that a response's head and its first bytes leave in one packet."""

    def __init__(self) -> None:
        self.data = b""

    def sendall(self, data: bytes) -> None:
        self.data += data


class _Exchange:
    """One request and its response, from its first to its last byte.

    :ivar again: whether the connection may be used again.
    :ivar chunks: the response's iterator.
    :ivar space: where its stream says how it is sent.
    :ivar iterated: the response is complete, but for what the socket has not taken yet.

    It is the :class:`~sse_threaded.wrapped.Server` of a wrapped stream.
    """

    def __init__(self, worker: ThreadWorker, req: Any, conn: Connection) -> None:
        self._worker = worker
        self._req = req
        self.conn = conn
        self._start = datetime.now()  # noqa: DTZ005  # gunicorn's access log takes the difference
        self.environ: Any = {}
        self.resp: Any = None
        self.respiter: Any = None
        self.chunks: Iterator[bytes] = iter(())
        self.space = Space()
        self.iterated = False
        self.again = False
        self._turn: Turn | None = None  # of the thread that is at work
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
            try:
                if hasattr(self.respiter, "close"):
                    self.respiter.close()
            finally:
                self._let_go()

    def _let_go(self) -> None:
        # Of the stream, whatever still holds it; and of what refers to this, so that no circle keeps the iterable.
        wrapped, self.space.server = self.space.wrapped, None
        self.chunks = iter(())
        self.respiter = None
        if wrapped is not None:
            wrapped.release()

    # A wrapped stream's.

    def resume(self) -> None:
        """Have a thread go on with the response; the pump's thread."""
        self._worker.turns.ask(self._go_on_in_turn)

    def _go_on_in_turn(self, turn: Turn) -> None:
        self._turn = turn
        self.go_on(_RESTS, turn)

    def keep_thread(self) -> None:
        """Take note that the calling thread, which is at work, stays: it is counted elsewhere."""
        if self._turn is not None:
            self._turn.end()
        self._worker.warn_of_thread(self.respiter)

    def go_on(self, state: int, turn: Turn | None = None) -> None:
        """Go on with the response, for as long as there is something; a thread of the pool.

        :param state: how far it has come.
        :param turn: the thread's; ``None``, the default, for the one that began the response.
        """
        wrapped = self.space.wrapped
        assert wrapped is not None
        again = self.again
        try:
            while state != _ENDED:
                if state == _INTERRUPTED:
                    wrapped.interrupt()
                    self.resume()
                    return
                if wrapped.leave():
                    return  # and another thread may be here already
                if wrapped.lost:
                    break
                state = self.conn.context.run(self._worker.iterate, self)
        except OSError as error:
            self._worker.log.debug("The client of a stream has gone: %s", error)
            again = False
        except (Exception, SystemExit):
            self._worker.log.exception("Error handling request")
            again = False
        if turn is not None:
            turn.end()  # the end may wait for the client
        self.end(again and not wrapped.lost and wrapped.ended != "shutdown")

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
        self.end(self.again and parked.complete and parked.ended != "shutdown")

    def end(self, again: bool) -> None:
        """The end of a response that is not on the thread which began it."""
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
    _warned_of_thread = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.turns = Turns(self._turns_limit, self.enqueue_soon)

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
                gunicorn_hooks.worker_exit(server, worker)

        self.cfg.set("worker_exit", worker_exit)  # gunicorn calls it at every end of this process
        super().init_process()

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
        no_room = len(self.keepalived_conns) >= self.max_keepalived
        if not self.alive or not self.cfg.keepalive or no_room:
            resp.force_close()

    def _respond(self, exchange: _Exchange) -> bool:
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
            if isinstance(exchange.respiter, environ["wsgi.file_wrapper"]):
                resp.write_file(exchange.respiter)
                resp.close()
                return False
            exchange.chunks = iter(exchange.respiter)
            stream = bare_stream(exchange.respiter)
            if stream is not None:
                stream.joins = True
            if stream is not None and self._may_park(resp):
                parked = self._iterate_bare(stream, exchange)
                return parked
            if not self.cfg.is_ssl:
                space.server = exchange
            state = self.iterate(exchange)
            parked = state != _ENDED
            if parked:
                exchange.conn.take_over = partial(exchange.go_on, state)
            return parked
        finally:
            if not parked:
                if space.wrapped is not None:
                    exchange.conn.sock.setblocking(True)  # as gunicorn left it
                exchange.conclude()

    def _may_park(self, resp: Any) -> bool:
        # The rest is sent past gunicorn.
        if self.cfg.is_ssl or resp.status is None or resp.response_length is not None or resp._omits_body:
            return False
        return not _is_encoded(resp)

    def _iterate_bare(self, stream: EventStream, exchange: _Exchange) -> bool:
        for item in exchange.chunks:
            if stream.can_park:
                self._park(stream, item, exchange)
                return True
            exchange.resp.write(item)
        exchange.resp.close()
        return False

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

    def iterate(self, exchange: _Exchange) -> int:
        """Go on with the app's iterable; returns how far it came."""
        exchange.space.thread = threading.get_ident()
        try:
            return self._iterate(exchange)
        except BaseException:
            wrapped = exchange.space.wrapped
            if wrapped is not None:
                wrapped.flush()  # what came before the failure
            raise

    def _iterate(self, exchange: _Exchange) -> int:
        resp, space = exchange.resp, exchange.space
        begun = collects = asked = time.monotonic()
        is_quick = False
        for item in exchange.chunks:
            wrapped = space.wrapped
            if wrapped is None:
                resp.write(item)
                continue
            if resp.sock is exchange.conn.sock:
                self._begin_wrapped(exchange)
            resp.write(item)
            if wrapped.keeps_thread:
                continue
            now = time.monotonic()
            was_quick, is_quick = is_quick, now < asked + _QUICK_SECONDS
            asked = now
            is_idle = wrapped.is_idle(bool(item))
            may_wait = (
                was_quick and is_quick and wrapped.unsent < WRITE_BYTES and now < collects + _COLLECT_SECONDS
            )
            if may_wait and wrapped.more and not is_idle:
                continue
            if not wrapped.flush() or is_idle:
                return _RESTS  # until its socket takes more, or something comes
            if wrapped.lost:
                return _ENDED
            collects = asked = time.monotonic()
            if asked > begun + _SLICE_SECONDS and (self.turns.waiting or self.has_tasks):
                return _INTERRUPTED
        if not exchange.iterated:
            exchange.iterated = True
            exchange.chunks = iter(())  # it may not like to be asked behind its end
            resp.close()
        wrapped = space.wrapped
        return _ENDED if wrapped is None or wrapped.keeps_thread or wrapped.flush() else _RESTS

    def _begin_wrapped(self, exchange: _Exchange) -> None:
        resp, wrapped = exchange.resp, exchange.space.wrapped
        if exchange.has_body:
            resp.force_close()
        exchange.again = not resp.should_close()
        exchange.conn.sock.setblocking(False)
        resp.sock = wrapped
        if _is_encoded(resp) and not self._warned_of_encoding:
            self._warned_of_encoding = True  # two threads at the same moment warn twice
            self.log.warning("Streams leave with a Content-Encoding: what encodes them may hold events back")

    def warn_of_thread(self, respiter: Any) -> None:
        """Say once what makes a stream keep its thread; called from inside that stream."""
        if self._warned_of_thread:
            return
        self._warned_of_thread = True
        self.log.warning(
            "A stream keeps its thread: what wraps it (%s) does not pass on an empty chunk (b''), so that no "
            "thread can leave it; %s such streams may be open",
            _askers() or f"{type(respiter).__module__}.{type(respiter).__qualname__}",
            process_budget.limit,
        )


def _askers() -> str:
    """Who has asked the stream for a chunk, in which the calling thread is: the nearest first."""
    found: list[str] = []
    frame = sys._getframe()
    package, server = __name__.partition(".")[0], ThreadWorker._iterate.__code__
    while frame is not None and frame.f_code is not server:
        module = str(frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in (package, *_KNOWN):
            found.append(f"{module}.{frame.f_code.co_name}, line {frame.f_lineno} of {frame.f_code.co_filename}")
        frame = frame.f_back  # type: ignore[assignment]  # None above the first
    return "; ".join(found)


def _is_encoded(resp: Any) -> bool:
    return any(name.lower() == "content-encoding" for name, _ in resp.headers)
