"""A client's connection, and the worker's state of it beside gunicorn's own."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from typing import Any

from gunicorn.workers import gthread

from . import deadlines
from .paced_unreader import PacedUnreader
from .partial_request import PartialRequest


class ClientConnection(gthread.TConn):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's connection.

    :ivar partial_request: the request that is arriving; the main thread's. ``None`` once a thread has it.
    :ivar received: the bytes that have arrived of the request that a thread has.
    :ivar is_whole: whether all of that request has arrived, so that its thread need not wait for the client.
    :ivar missing: how many bytes of its body the thread has to read, ``None`` where that is not known.
    :ivar upload_ended: called when the thread need not read any more of a long request; ``None`` for other
        requests.
    :ivar handshake_ends: when the TLS handshake must be over (monotonic), while there is one.
    :ivar context: the context in which the request is answered.
    """

    partial_request: PartialRequest | None = None
    received = b""
    is_whole = False
    missing: int | None = None
    upload_ended: Callable[[], None] | None = None
    handshake_ends: float | None = None
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
        unreader = parser.unreader
        if type(unreader) is PacedUnreader:
            unreader.begin_next()
        else:
            read = unreader.take_buffered()
            unreader = parser.unreader = PacedUnreader(self.sock)
            unreader.buf.write(read)
        unreader.buf.write(self.received)
        self.received = b""
        if self.upload_ended is not None:
            unreader.expect(self.missing, self.end_upload)

    def end_upload(self) -> None:
        """Let another thread read a long request. The request's own thread calls this, once or more often."""
        ended, self.upload_ended = self.upload_ended, None
        if ended is not None:
            ended()

    @property
    def address(self) -> str:
        """The client's, for a log."""
        return str(self.client[0]) if isinstance(self.client, tuple) else "a Unix socket"
