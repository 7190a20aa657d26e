"""A client's connection, and what becomes of a request on it."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from typing import Any

from gunicorn.workers import gthread

from . import deadlines
from .paced_unreader import PacedUnreader
from .partial_request import Arrival


class Connection(gthread.TConn):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's connection.

    :ivar arrival: the request that is arriving; the main thread's. ``None`` once a thread has it.
    :ivar ahead: what has arrived of the request that a thread has.
    :ivar whole: a thread need not wait for more of it.
    :ivar rest: how many bytes of its body a thread has to read, ``None`` where that is not known.
    :ivar place: gives back its place among the requests whose rest a thread reads; ``None`` where it has none.
    :ivar handshake_ends: when the TLS handshake must be over (monotonic), while there is one.
    :ivar take_over: what takes it over, once its thread is done with it; ``None`` for gunicorn.
    :ivar context: in which its request is answered.
    """

    arrival: Arrival | None = None
    ahead = b""
    whole = False
    rest: int | None = None
    place: Callable[[], None] | None = None
    handshake_ends: float | None = None
    take_over: Callable[[], None] | None = None
    context: contextvars.Context

    def init(self) -> None:
        """Make it ready for a request; on a thread of the pool."""
        if self.cfg.is_ssl and not self.initialized:
            self.handshake_ends = time.monotonic() + deadlines.HEAD_SECONDS
        try:
            super().init()
        finally:
            self.handshake_ends = None
        if self.is_http2:
            return
        parser: Any = self.parser
        if type(parser.unreader) is not PacedUnreader:
            read = parser.unreader.take_buffered()
            parser.unreader = PacedUnreader(self.sock)
            parser.unreader.buf.write(read)
        ahead, self.ahead = self.ahead, b""
        if self.place is None:
            parser.unreader.begin(ahead)
        else:
            parser.unreader.begin(ahead, self.rest, self.give_place_back)

    def give_place_back(self) -> None:
        """Let the next request be read whose rest a thread must read; its own thread calls it, once or more."""
        place, self.place = self.place, None
        if place is not None:
            place()


class Outcome:
    """What became of a request, as gunicorn's ``finish_request`` asks for it."""

    def __init__(self, again: Any = False, error: BaseException | None = None) -> None:
        self.again = again
        self.error = error

    def cancelled(self) -> bool:
        """Never."""
        return False

    def result(self) -> Any:
        """Whether the connection may be used again; or the error is raised."""
        if self.error is not None:
            raise self.error
        return self.again
