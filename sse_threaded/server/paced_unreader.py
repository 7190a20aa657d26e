"""The source from which gunicorn's parser reads: first the bytes that the loop has read, then the socket, for a
limited time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO

from gunicorn.http.unreader import SocketUnreader

from . import deadlines, versions
from .request_body import RequestTooSlow


class PacedUnreader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's unreader, with a bound on the time that a thread waits for the client.

    :param sock: the client's, blocking.

    :ivar has_failed: whether the rest of the request did not come. A parser may take that for the request's end.
    """

    buf: BytesIO
    has_failed = False

    # All of these are of one request.
    _waited = 0.0  # how long a thread has waited for its bytes, in seconds
    _received = 0  # how many bytes the thread has read
    _missing: int | None = None  # how many had not come before that; None where that is not known
    _on_complete: Callable[[], None] | None = None  # called when these have been read
    _is_whole = False  # whether all had come before

    def begin_next(self, is_whole: bool = False) -> None:
        """Begin another request of the connection. The caller writes its first bytes into ``buf``.

        :param is_whole: whether all of it has come, or so much that it is certainly malformed; default ``False``.
        """
        self.buf.seek(0, 2)
        self._waited, self._received, self._missing, self._on_complete = 0.0, 0, None, None
        self._is_whole = is_whole
        self.has_failed = False

    def expect(self, missing: int | None, on_complete: Callable[[], None]) -> None:
        """Call ``on_complete`` when the rest of the request has been read.

        :param missing: how many bytes of it have not come, ``None`` where that is not known.
        """
        self._missing, self._on_complete = missing, on_complete

    def take_unread(self) -> bytes:
        """The bytes that have come and that no request has taken."""
        data: bytes = self.buf.getvalue()
        self.buf = BytesIO()
        return data

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Wait for some bytes.

        :raises RequestTooSlow: none came in time. The app's own time between two reads does not count.
        :raises MalformedRequest: the request is whole, but this parser would wait for more; no thread may.
        """
        if self._is_whole and not versions.REFUSES_AT_ONCE:
            self.has_failed = True
            raise versions.MalformedRequest("Incomplete request")
        left = deadlines.body_seconds(self._received) - self._waited
        before = self.sock.gettimeout()  # set by the parser's own drain, or ``None``
        begun = time.monotonic()
        try:
            if left <= 0.0:
                self.has_failed = True
                raise RequestTooSlow
            self.sock.settimeout(left if before is None else min(left, before))
            data = versions.receive(self, size_hint)
        except TimeoutError:
            if before is not None and before < left:
                raise
            self.has_failed = True
            raise RequestTooSlow from None
        finally:
            self.sock.settimeout(before)
            self._waited += time.monotonic() - begun
        self._received += len(data)
        if self._on_complete is not None and self._missing is not None and self._received >= self._missing:
            self._on_complete()
            self._on_complete = None
        return data
