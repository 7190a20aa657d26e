"""One request and the app's response to it: from the app's call to the access line and gunicorn's last hook.

A response without a stream is sent on the request's thread. A stream may leave that thread; the steps, and the
thread of each, are described at :class:`~sse_threaded.fanout.handover.Handover`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from ..fanout.handover import Handover
from ..fanout.lifecycle import process_budget
from ..fanout.pump import Pump
from ..fanout.socket_subscriber import SocketSubscriber
from ..fanout.stream_state import EndReason
from ..fanout.wrapped_subscriber import WrappedSubscriber
from ..stream import EventStream, Parking
from .connection import Connection
from .iteration import Progress, advance, askers
from .permits import Permit, Permits
from .tls import ParkableTLSSocket
from .transparent_wrappers import bare_stream

_NO_CHUNKS: Iterator[bytes] = iter(())

# The classes of sockets that the pump can write to.
_PARKABLE = (socket.socket, ParkableTLSSocket)


class ExchangeWorker(Protocol):
    """The worker, for one exchange.

    :ivar tells_ends: whether an access log or a hook needs the end of each request.
    :ivar permits: which wrapped streams may have a thread.
    """

    cfg: Any
    log: Any
    wsgi: Any
    tells_ends: bool
    permits: Permits

    @property
    def has_tasks(self) -> bool:
        """Whether tasks wait for a thread."""

    def enqueue(self, task: Callable[[], None]) -> None:
        """Have a thread run ``task``; any thread. This does not wait."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """gunicorn's: answer a request with an error page."""

    def count_request(self, resp: Any, is_stream: bool) -> None:
        """Count a request whose response begins, and say in that response whether the connection will close."""

    def fail(self, error: BaseException) -> None:
        """Have the main thread raise an exception that ends the worker."""

    def give_back(self, conn: Connection, again: bool) -> None:
        """Wait for the connection's next request, or close it."""

    def begin_stream(self, conn: Connection) -> None:
        """Note that a stream has a connection, until :meth:`give_back`."""

    def park(self, conn: Connection) -> None:
        """Watch a connection that the pump has, unless its stream has ended already."""

    def unpark(self, conn: Connection) -> None:
        """The pump has given a connection back."""

    def warn_once(self, kind: str, message: Callable[[], str]) -> None:
        """Log a warning, unless one of its kind was logged in this worker."""


@dataclass(eq=False, repr=False, slots=True)
class Exchange(Handover):
    """One request, and the app's response to it. One thread at a time has it.

    :param worker: gives the self.
    :param req: gunicorn's request.
    :param conn: the connection on which it came. It leaves the request's thread only for a stream.

    :ivar chunks: the iterator of the app's self.
    :ivar environ: the WSGI environ.
    :ivar has_ended: the app's iterable has given its last chunk.
    :ivar may_reuse: whether the connection may be used again after a stream.
    :ivar resp: gunicorn's response, which frames and sends; ``None`` before it is made.
    :ivar respiter: the iterable that the app returned.
    """

    hears_hang_ups = True

    worker: ExchangeWorker
    req: Any
    conn: Connection
    has_ended: bool = False
    may_reuse: bool = False
    environ: Any = None
    resp: Any = None
    respiter: Any = None
    chunks: Iterator[bytes] = _NO_CHUNKS
    has_stream: bool = False
    can_resume: bool = False
    thread: int = 0
    wrapped: WrappedSubscriber | None = None
    _is_counted: bool = False
    _start: datetime | None = None
    _parked: SocketSubscriber | None = None  # the subscriber of a bare stream
    _pump: Pump | None = None
    _permit: Permit | None = None  # of the thread that is at work

    def __post_init__(self) -> None:
        if self.worker.tells_ends:
            self._start = datetime.now()  # noqa: DTZ005  # gunicorn's access log takes the difference

    @property
    def has_head(self) -> bool:
        """Whether the response's head was sent."""
        return self.resp is not None and self.resp.headers_sent

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """PEP 3333's, for the app. It counts the request once."""
        write = self.resp.start_response(status, headers, exc_info)
        if not self._is_counted:
            self._is_counted = True
            self.worker.count_request(self.resp, is_stream=self.resp.is_stream)
        return write

    def expect_stream(self) -> None:
        """Decide what becomes of the connection after a stream; before the response's head is made."""
        for name, _ in self.req.headers:
            if name in ("CONTENT-LENGTH", "TRANSFER-ENCODING"):
                # No thread will read that body, so the place where a next request would begin is unknown.
                self.resp.force_close()
        self.may_reuse = not self.resp.should_close()

    # The request's thread.

    def send(self) -> Callable[[], None] | None:
        """Send what the app returned, to its end, or until a stream in it is to leave this thread.

        Returns ``None`` at its end. If a stream is to leave, it returns a function. The caller must call that when
        its own code is done with the connection, and must not use the connection after that.
        """
        resp = self.resp
        leave = None
        try:
            if isinstance(self.respiter, self.environ["wsgi.file_wrapper"]):
                resp.write_file(self.respiter)
                resp.close()
            else:
                stream = bare_stream(self.respiter)
                leave = self._iterate() if stream is None else self._send_bare(stream)
            return leave
        finally:
            if leave is None:
                if self.wrapped is not None:
                    with suppress(OSError):  # the app may have closed it
                        self.conn.sock.setblocking(True)  # as gunicorn left it
                self.conclude()

    def _send_bare(self, stream: EventStream) -> Callable[[], None] | None:
        resp, sock = self.resp, self.conn.sock
        # The pump frames and sends all that follows the head, past gunicorn's self.
        has_plain_body = resp.status is not None and resp.response_length is None and not resp._omits_body
        may_park = has_plain_body and not resp.is_encoded and type(sock) in _PARKABLE
        parking = stream.park(self, sock, resp.chunked) if may_park else None
        if parking is None:
            # A stream that park() refuses has begun already, or is of another request. So it stays here.
            stream.joins = True
            return self._iterate(may_leave=not may_park)
        if isinstance(parking, bytes):  # there is no room for it
            resp.write(parking)
            resp.close()
            return None
        try:
            if type(sock) is not socket.socket:
                resp.force_close()  # the pump reads from it
            self.expect_stream()
            head = resp.frame(parking.first)
            self._parked, self._pump = parking.subscriber, parking.pump
            # The end does not need the following references, and each open page keeps these objects.
            parser = self.conn.parser
            if parser is not None and not parser.unreader.buf.getvalue():
                self.conn.parser = None
            if not self.worker.tells_ends:
                self.req = self.environ = self.resp = None
            return partial(self._park, parking, head)
        except BaseException:
            parking.cancel()
            raise

    def _park(self, parking: Parking, head: bytes) -> None:
        conn = self.conn
        conn.parked = self
        parking.pump.park(parking.subscriber, head)
        if parking.subscriber.server_hears_hang_ups:
            self.worker.park(conn)

    def _iterate(self, may_leave: bool = True) -> Callable[[], None] | None:
        self.can_resume = may_leave and not self.worker.cfg.is_ssl
        self.chunks = iter(self.respiter)
        progress = advance(self)
        if self.wrapped is None:
            return None
        if progress is not Progress.ENDED:
            return partial(self._go_on, self.wrapped, progress)
        if self.wrapped.state.is_lost:
            self.resp.force_close()  # its body is not complete
        return None

    # The thread that asks a wrapped stream for chunks.

    def _go_on(self, wrapped: WrappedSubscriber, progress: Progress) -> None:
        """Go on with the response while there is something.

        :param progress: how far it has come.
        """
        again = self.may_reuse
        try:
            while progress is not Progress.ENDED:
                if progress is Progress.INTERRUPTED:
                    wrapped.interrupt()
                    self.resume()
                    return
                if wrapped.leave():
                    return  # and another thread may be here already
                if wrapped.state.is_lost:
                    break
                progress = self.conn.context.run(advance, self)
        except OSError as error:
            self.worker.log.debug("The client of a stream has gone: %s", error)
            again = False
        except (Exception, SystemExit):
            self.worker.log.exception("Error handling request")
            again = False
        if self._permit is not None:
            self._permit.give_back()  # the end may wait for the client
        is_complete = not wrapped.state.is_lost
        if wrapped.end_reason is EndReason.SHUTDOWN:
            # As a stream does that the server closes itself: no thread may wait for the client to close.
            wrapped.shut_down()
        self._end(again and is_complete and wrapped.end_reason is not EndReason.SHUTDOWN)

    def _go_on_with_permit(self, permit: Permit) -> None:
        self._permit = permit
        if self.wrapped is None:
            raise RuntimeError("no wrapped stream has this connection")
        self._go_on(self.wrapped, Progress.WAITING)

    def keep_thread(self) -> None:
        """See :class:`Handover`."""
        if self._permit is not None:
            self._permit.give_back()  # the pump counts this thread elsewhere
        self.conn.end_upload()  # no thread reads the body while the stream lasts
        self.worker.warn_once("thread", self._names_who_swallows)

    def _names_who_swallows(self) -> str:
        respiter = self.respiter
        who = askers() or f"{type(respiter).__module__}.{type(respiter).__qualname__}"
        return (
            f"A stream keeps its thread: its wrapper ({who}) does not pass on an empty chunk (b''), so no thread "
            f"can leave it. {process_budget.limit} such streams may be open"
        )

    # The thread that leads.

    def hear(self) -> bool:
        """See :class:`.connection.Hearer`."""
        return self._pump is not None and self._parked is not None and self._pump.hear(self._parked)

    # The pump's thread.

    def resume(self) -> None:
        """See :class:`Handover`. The app's iterable is asked on a thread that has a permit."""
        self.worker.permits.ask(self._go_on_with_permit)

    def take_back(self) -> None:
        """See :class:`Handover`. A thread of the pool ends the response: the pump must not wait for a log file."""
        self.worker.enqueue(self._end_bare)

    # The thread that ends the self.

    def _end_bare(self) -> None:
        parked = self._parked
        if parked is None:
            raise RuntimeError("no stream was parked on this connection")
        if self.resp is not None:
            self.resp.sent += parked.sent
        self._end(self.may_reuse and parked.is_complete and parked.end_reason is not EndReason.SHUTDOWN)

    def _end(self, again: bool) -> None:
        """End a response that has left the thread of its request.

        :param again: whether the connection may be used again.
        """
        conn, worker = self.conn, self.worker
        worker.unpark(conn)
        with suppress(OSError):  # the app may have closed it
            conn.sock.setblocking(True)
        try:
            try:
                conn.context.run(self.conclude)
            except (Exception, SystemExit):
                # As where gunicorn iterates: the response is out, so only the log can have the error.
                worker.log.exception("Error handling request")
                again = False
            finally:
                conn.context.run(self.finish)
        except BaseException as error:  # such as sys.exit() in a hook
            worker.fail(error)
            again = False
        worker.give_back(conn, again)

    def conclude(self) -> None:
        """Write the access line, then close the app's iterable: gunicorn's order. Then its place is free."""
        try:
            if self.resp is not None and self._start is not None:
                elapsed = datetime.now() - self._start  # noqa: DTZ005
                self.worker.log.access(self.resp, self.req, self.environ, elapsed)
        finally:
            try:
                if hasattr(self.respiter, "close"):
                    self.respiter.close()
            finally:
                # Others may hold this object for longer. They must not keep the app's iterable.
                self.chunks = _NO_CHUNKS
                self.respiter = None
                self.can_resume = False
                if self.wrapped is not None:
                    self.wrapped.end_response()

    def finish(self) -> None:
        """Call gunicorn's hook ``post_request``. This is the last use of the object."""
        if not self._is_counted and self.resp is not None:  # the app failed before its response began
            self._is_counted = True
            self.worker.count_request(self.resp, is_stream=False)
        if self.worker.tells_ends:
            try:
                self.worker.cfg.post_request(self.worker, self.req, self.environ or {}, self.resp)
            except Exception:
                self.worker.log.exception("Exception in post_request hook")
        # The environ holds this object, and a timer may hold it until it is over.
        self.environ = self.req = self.resp = None
