"""The worker's side of :class:`~sse_threaded.fanout.handover.Handover`: what only a server can do.

The steps, and the thread of each, are described there.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from ..fanout.handover import Handover
from ..fanout.lifecycle import process_budget
from ..fanout.pump import Pump
from ..fanout.socket_subscriber import SocketSubscriber
from ..fanout.stream_state import EndReason
from ..fanout.wrapped_subscriber import WrappedSubscriber
from ..stream import EventStream, Parking
from .app_response import AppResponse
from .iteration import Progress, advance, askers
from .permits import Permit
from .tls import ParkableTLSSocket
from .transparent_wrappers import bare_stream

# The classes of sockets that the pump can write to.
_PARKABLE = (socket.socket, ParkableTLSSocket)


@dataclass(eq=False, repr=False, slots=True)
class StreamHandover(Handover):
    """How the worker sends one response. The connection leaves the request's thread only for a stream.

    :param response: the response.
    """

    hears_hang_ups = True

    _response: AppResponse
    has_stream: bool = False
    can_resume: bool = False
    thread: int = 0
    wrapped: WrappedSubscriber | None = None
    _parked: SocketSubscriber | None = None  # the subscriber of a bare stream
    _pump: Pump | None = None
    _permit: Permit | None = None  # of the thread that is at work

    # The request's thread.

    def send(self) -> Callable[[], None] | None:
        """Send what the app returned, to its end, or until a stream in it is to leave this thread.

        Returns ``None`` at its end. If a stream is to leave, it returns a function. The caller must call that when
        its own code is done with the connection, and must not use the connection after that.
        """
        response, resp = self._response, self._response.resp
        leave = None
        try:
            if isinstance(response.respiter, response.environ["wsgi.file_wrapper"]):
                resp.write_file(response.respiter)
                resp.close()
            else:
                stream = bare_stream(response.respiter)
                leave = self._iterate() if stream is None else self._send_bare(stream)
            return leave
        finally:
            if leave is None:
                if self.wrapped is not None:
                    with suppress(OSError):  # the app may have closed it
                        response.conn.sock.setblocking(True)  # as gunicorn left it
                self.conclude()

    def _send_bare(self, stream: EventStream) -> Callable[[], None] | None:
        response, resp, sock = self._response, self._response.resp, self._response.conn.sock
        # The pump frames and sends all that follows the head, past gunicorn's response.
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
            response.expect_stream()
            head = resp.frame(parking.first)
            self._parked, self._pump = parking.subscriber, parking.pump
            # The end does not need the following references, and each open page keeps these objects.
            parser = response.conn.parser
            if parser is not None and not parser.unreader.buf.getvalue():
                response.conn.parser = None
            if not response.worker.tells_ends:
                response.req = response.environ = response.resp = None
            return partial(self._park, parking, head)
        except BaseException:
            parking.cancel()
            raise

    def _park(self, parking: Parking, head: bytes) -> None:
        conn = self._response.conn
        conn.parked = self
        parking.pump.park(parking.subscriber, head)
        if parking.subscriber.server_hears_hang_ups:
            self._response.worker.park(conn)

    def _iterate(self, may_leave: bool = True) -> Callable[[], None] | None:
        response = self._response
        self.can_resume = may_leave and not response.worker.cfg.is_ssl
        response.chunks = iter(response.respiter)
        progress = advance(response, self)
        if self.wrapped is None:
            return None
        if progress is not Progress.ENDED:
            return partial(self._go_on, self.wrapped, progress)
        if self.wrapped.state.is_lost:
            response.resp.force_close()  # its body is not complete
        return None

    # The thread that asks a wrapped stream for chunks.

    def _go_on(self, wrapped: WrappedSubscriber, progress: Progress) -> None:
        """Go on with the response while there is something.

        :param progress: how far it has come.
        """
        response = self._response
        again = response.may_reuse
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
                progress = response.conn.context.run(advance, response, self)
        except OSError as error:
            response.worker.log.debug("The client of a stream has gone: %s", error)
            again = False
        except (Exception, SystemExit):
            response.worker.log.exception("Error handling request")
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
        self._response.conn.end_upload()  # no thread reads the body while the stream lasts
        self._response.worker.warn_once("thread", self._names_who_swallows)

    def _names_who_swallows(self) -> str:
        respiter = self._response.respiter
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
        self._response.worker.permits.ask(self._go_on_with_permit)

    def take_back(self) -> None:
        """See :class:`Handover`. A thread of the pool ends the response: the pump must not wait for a log file."""
        self._response.worker.enqueue(self._end_bare)

    # The thread that ends the response.

    def _end_bare(self) -> None:
        parked = self._parked
        if parked is None:
            raise RuntimeError("no stream was parked on this connection")
        if self._response.resp is not None:
            self._response.resp.sent += parked.sent
        self._end(self._response.may_reuse and parked.is_complete and parked.end_reason is not EndReason.SHUTDOWN)

    def _end(self, again: bool) -> None:
        """End a response that has left the thread of its request.

        :param again: whether the connection may be used again.
        """
        response, conn, worker = self._response, self._response.conn, self._response.worker
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
                conn.context.run(response.finish)
        except BaseException as error:  # such as sys.exit() in a hook
            worker.fail(error)
            again = False
        worker.give_back(conn, again)

    def conclude(self) -> None:
        """Write the access line, close the app's iterable, and let the subscriber of a wrapped stream go."""
        try:
            self._response.conclude()
        finally:
            self.can_resume = False
            if self.wrapped is not None:
                self.wrapped.end_response()
