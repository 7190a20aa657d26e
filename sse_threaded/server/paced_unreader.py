"""Where gunicorn's parser reads from: first what the main thread has read, then the socket, but not without
end."""

from __future__ import annotations

import time
from collections.abc import Callable

from gunicorn.http.unreader import SocketUnreader

from . import deadlines
from .request_body import RequestTooSlow


class PacedUnreader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's unreader, with a bound on the time that a thread waits for the client.

    :param sock: the client's, blocking.
    """

    def begin(self, ahead: bytes, rest: int | None = None, read: Callable[[], None] | None = None) -> None:
        """Begin a request.

        :param ahead: its first bytes.
        :param rest: how many bytes of it have not come; default ``None``, not known.
        :param read: called when these have been read; default ``None``, nobody wants to know.
        """
        self.buf.seek(0, 2)
        self.buf.write(ahead)
        self._rest = rest
        self._read = read
        self._waited = 0.0
        self._received = 0

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Wait for some bytes.

        :raises RequestTooSlow: none came in time. What the app does between two reads does not count.
        """
        left = deadlines.body_seconds(self._received) - self._waited
        before = self.sock.gettimeout()  # what the parser's own drain has set, or None
        begun = time.monotonic()
        try:
            if left <= 0.0:
                raise RequestTooSlow
            self.sock.settimeout(left if before is None else min(left, before))
            data: bytes = super().chunk(size_hint)
        except TimeoutError:
            if before is not None and before < left:
                raise
            raise RequestTooSlow from None
        finally:
            self.sock.settimeout(before)
            self._waited += time.monotonic() - begun
        self._received += len(data)
        if self._read is not None and self._rest is not None and self._received >= self._rest:
            self._read()
            self._read = None
        return data
