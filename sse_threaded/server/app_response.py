"""One request and its response, from the first byte to the last, whichever threads have it meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Protocol

from gunicorn import http

from ..fanout.handover import Handover
from ..fanout.socket_subscriber import SocketSubscriber
from ..fanout.stream_state import EndReason
from .client_connection import Connection, Outcome


class Worker(Protocol):
    """What an exchange needs of its worker.

    :ivar tells_ends: somebody wants to know of a request's end: an access log, a hook.
    """

    cfg: Any
    log: Any
    method_queue: Any
    tells_ends: bool

    def enqueue(self, task: Callable[[], None]) -> None:
        """Have a thread run ``task``, or the main thread where the worker ends at once."""

    def give_back(self, conn: Connection, outcome: Outcome) -> None:
        """Wait for the connection's next request, or close it."""


class Exchange:
    """One request and its response.

    :param worker: which answers it.
    :param req: gunicorn's request.
    :param conn: by which it came.

    :ivar again: whether the connection may be used again.
    :ivar chunks: the response's iterator.
    :ivar space: where its stream says how it is sent.
    """

    def __init__(self, worker: Worker, req: Any, conn: Connection) -> None:
        self.worker = worker
        self._req = req
        self.conn = conn
        self._start = datetime.now()  # noqa: DTZ005  # gunicorn's access log takes the difference
        self.environ: Any = {}
        self.resp: Any = None
        self.respiter: Any = None
        self.chunks: Iterator[bytes] = iter(())
        self.space = Handover()
        self.again = False
        self._parked: SocketSubscriber | None = None

    def announce_end(self) -> None:
        """Say in the response's head that the connection will be closed, where a stream's request has a body."""
        has_body = any(name in ("CONTENT-LENGTH", "TRANSFER-ENCODING") for name, _ in self._req.headers)
        if has_body:
            self.resp.force_close()  # nobody will read it, so where a next request would begin is unknown

    def lend_connection(self) -> None:
        """Note what becomes of the connection when the response ends, which outlasts its first thread."""
        self.announce_end()
        self.again = not self.resp.should_close()

    def park(self, parked: SocketSubscriber) -> None:
        """Keep, for as long as the stream is parked, no more than its end will ask for."""
        self._parked = parked
        if not self.conn.parser.unreader.buf.getvalue():
            self.conn.parser = None
        if not self.worker.tells_ends:
            self._req = self.environ = self.resp = None

    def conclude(self) -> None:
        """The access line, then the iterable's close, in gunicorn's order."""
        try:
            if self.resp is not None:
                elapsed = datetime.now() - self._start  # noqa: DTZ005
                self.worker.log.access(self.resp, self._req, self.environ, elapsed)
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
            wrapped.end_response()

    def post_request(self) -> None:
        """gunicorn's server hook."""
        try:
            self.worker.cfg.post_request(self.worker, self._req, self.environ, self.resp)
        except Exception:
            self.worker.log.exception("Exception in post_request hook")

    def finished(self) -> None:
        """The parked stream has ended; on the pump's thread, which must not wait for a log file or a hook."""
        self.worker.method_queue.defer(self.worker.enqueue, self._end_parked)

    def _end_parked(self) -> None:
        parked = self._parked
        assert parked is not None  # this is a parked stream's end
        if self.resp is not None:
            self.resp.sent += parked.sent
        self.end(self.again and parked.is_complete and parked.end_reason is not EndReason.SHUTDOWN)

    def end(self, again: bool) -> None:
        """End a response that is no longer on the thread which began it.

        :param again: whether the connection may be used again.
        """
        try:
            self.conn.context.run(self.conclude)
        except (Exception, SystemExit):
            # As where gunicorn iterates: the response is out, so the log is where it can be told.
            self.worker.log.exception("Error handling request")
            again = False
        finally:
            if self.worker.tells_ends:
                self.conn.context.run(self.post_request)
        if again and self.conn.parser is None:
            self.conn.parser = http.get_parser(self.worker.cfg, self.conn.sock, self.conn.client)
            self.conn.parser.req_count = 1  # only a connection's first request may come with a PROXY line
        self.worker.give_back(self.conn, Outcome(again))
