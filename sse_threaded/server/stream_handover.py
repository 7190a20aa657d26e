"""The worker's side of :class:`~sse_threaded.fanout.handover.Handover`: what only a server can do.

The steps, and the thread of each, are described there.
"""

from __future__ import annotations

from contextlib import suppress

from gunicorn import http

from ..fanout.handover import Handover
from ..fanout.lifecycle import process_budget
from ..fanout.stream_state import EndReason
from ..fanout.wrapped_subscriber import WrappedSubscriber
from ..stream import EventStream
from .app_response import AppResponse
from .iteration import Progress, advance, askers
from .permits import Permit
from .transparent_wrappers import bare_stream


class _HeadBuffer(bytearray):
    """Takes what gunicorn's response writes, in place of a socket.

    So the head and the stream's first bytes leave in one packet, with the events that the client missed.
    """

    sendall = bytearray.extend


class StreamHandover(Handover):
    """How the worker sends one response. The connection leaves the request's thread only for a stream.

    :param response: the response.
    """

    __slots__ = ("_head", "_permit", "_progress", "_response")

    def __init__(self, response: AppResponse) -> None:
        super().__init__()
        self._response = response
        self._head = b""  # of a bare stream
        self._progress = Progress.ENDED  # of a wrapped one, when it leaves the request's thread
        self._permit: Permit | None = None  # of the thread that is at work

    # The request's thread.

    def send(self) -> bool:
        """Send what the app returned, to its end, or until a stream in it is to leave this thread.

        Returns whether a stream is to leave. Then the caller must call :meth:`begin`.
        """
        response, resp = self._response, self._response.resp
        leaves = False
        try:
            if isinstance(response.respiter, response.environ["wsgi.file_wrapper"]):
                resp.write_file(response.respiter)
                resp.close()
            else:
                stream = bare_stream(response.respiter)
                leaves = self._iterate() if stream is None else self._send_bare(stream)
            return leaves
        finally:
            if not leaves:
                self.cancel()
                if self.wrapped is not None:
                    with suppress(OSError):  # the app may have closed it
                        response.conn.sock.setblocking(True)  # as gunicorn left it
                self.conclude()

    def _send_bare(self, stream: EventStream) -> bool:
        response, resp, sock = self._response, self._response.resp, self._response.conn.sock
        # The pump frames and sends all that follows the head, past gunicorn's response and past TLS.
        has_plain_body = resp.status is not None and resp.response_length is None and not resp._omits_body
        may_park = has_plain_body and not (response.is_encoded or response.worker.cfg.is_ssl)
        first = stream.park(self, sock, resp.chunked) if may_park else None
        if first is None:
            stream.joins = True
            return self._iterate(may_leave=not may_park)
        if self.parked is None:  # there is no room for it
            resp.write(first)
            resp.close()
            return False
        response.expect_stream()
        resp.sock = head = _HeadBuffer()
        resp.write(first)
        resp.sock = sock
        self._head = bytes(head)
        response.shrink()
        return True

    def _iterate(self, may_leave: bool = True) -> bool:
        response = self._response
        self.can_resume = may_leave and not response.worker.cfg.is_ssl
        response.chunks = iter(response.respiter)
        self._progress = advance(response, self)
        if self._progress is not Progress.ENDED:
            return True
        if self.wrapped is not None and self.wrapped.state.is_lost:
            response.resp.force_close()  # its body is not complete
        return False

    def begin(self) -> None:
        """See :class:`Handover`."""
        if self.wrapped is not None:
            self._go_on(self.wrapped, self._progress)
        elif self.pump is not None and self.parked is not None:
            head, self._head = self._head, b""
            self._reservation = None  # the subscriber has the place; and this object is kept for each open page
            self.pump.park(self.parked, head)
        else:
            raise RuntimeError("no stream is to leave this thread")

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

    # The pump's thread.

    def resume(self) -> None:
        """See :class:`Handover`. The app's iterable is asked on a thread that has a permit."""
        self._response.worker.permits.ask(self._go_on_with_permit)

    def take_back(self) -> None:
        """See :class:`Handover`. A thread of the pool ends the response: the pump must not wait for a log file."""
        worker = self._response.worker
        worker.method_queue.defer(worker.enqueue, self._end_bare)

    # The thread that ends the response.

    def _end_bare(self) -> None:
        parked = self.parked
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
        try:
            conn.context.run(self.conclude)
        except (Exception, SystemExit):
            # As where gunicorn iterates: the response is out, so only the log can have the error.
            worker.log.exception("Error handling request")
            again = False
        finally:
            conn.context.run(response.finish)
        if again and conn.parser is None:
            conn.parser = http.get_parser(worker.cfg, conn.sock, conn.client)
            conn.parser.req_count = 1  # only a connection's first request may come with a PROXY line
        worker.give_back(conn, again)

    def conclude(self) -> None:
        """Write the access line, close the app's iterable, and let the subscriber of a wrapped stream go."""
        try:
            self._response.conclude()
        finally:
            self.can_resume = False
            if self.wrapped is not None:
                self.wrapped.end_response()
