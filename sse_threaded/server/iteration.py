"""How the worker asks the app's iterable for chunks and writes them; with a stream in it, step by step."""

from __future__ import annotations

import enum
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

from ..fanout.wrapped_subscriber import WrappedSubscriber

# Seconds after which a wrapped stream lets others have its thread.
_SLICE_SECONDS = 0.02

# Packages whose frames a warning should not name: this one, and those whose wrappers pass on an empty chunk.
_KNOWN = (__name__.partition(".")[0], "werkzeug")


class Progress(enum.Enum):
    """How far the app's iterable was followed."""

    ENDED = enum.auto()
    WAITING = enum.auto()  # the stream has nothing, or the socket takes no more
    INTERRUPTED = enum.auto()  # it has had a thread for long, and others wait for one


class Iterated(Protocol):
    """The part of an :class:`.exchange.Exchange` that is used here; the attributes are described there."""

    chunks: Iterator[bytes]
    conn: Any
    has_ended: bool
    has_stream: bool
    resp: Any
    thread: int
    worker: Any
    wrapped: WrappedSubscriber | None

    def expect_stream(self) -> None:
        """Decide what becomes of the connection after a stream."""


def advance(exchange: Iterated) -> Progress:
    """Ask the app's iterable for chunks while there are some; returns the progress.

    One thread at a time calls this.
    """
    exchange.thread = threading.get_ident()
    try:
        return _advance(exchange)
    except BaseException:
        if exchange.wrapped is not None:
            exchange.wrapped.flush()  # the chunks before the failure
        raise


def _advance(exchange: Iterated) -> Progress:
    resp, worker = exchange.resp, exchange.worker
    begun = time.monotonic()
    for item in exchange.chunks:
        wrapped = exchange.wrapped
        if wrapped is None:
            if exchange.has_stream and not resp.headers_sent:
                exchange.expect_stream()
            resp.write(item)
            continue
        if resp.sock is exchange.conn:
            _begin_wrapped(exchange, wrapped)
        resp.write(item)
        if wrapped.keeps_thread:
            continue
        # Each chunk at once, as the wrapper may wait for something before it gives the next one.
        if not wrapped.flush() or wrapped.is_idle(bool(item)):
            return Progress.WAITING
        if wrapped.state.is_lost:
            return Progress.ENDED
        others_wait = worker.permits.waiting or worker.has_tasks
        if others_wait and time.monotonic() > begun + _SLICE_SECONDS:
            return Progress.INTERRUPTED
    if not exchange.has_ended:
        exchange.has_ended = True
        exchange.chunks = iter(())  # the app's iterator may fail if it is asked after its end
        resp.close()
    wrapped = exchange.wrapped
    is_sent = wrapped is None or wrapped.keeps_thread or wrapped.flush()
    return Progress.ENDED if is_sent else Progress.WAITING


def _begin_wrapped(exchange: Iterated, wrapped: WrappedSubscriber) -> None:
    exchange.expect_stream()
    if not wrapped.keeps_thread:
        exchange.conn.sock.setblocking(False)
    exchange.resp.sock = wrapped  # it keeps the bytes that the socket does not take
    if exchange.resp.is_encoded:
        message = "Streams leave with a Content-Encoding: what encodes them may hold events back"
        exchange.worker.warn_once("encoding", lambda: message)


def askers() -> str:
    """The functions between the server and the stream, in which the calling thread is: the nearest first."""
    found: list[str] = []
    frame = sys._getframe()
    while frame is not None and frame.f_code is not _advance.__code__:
        module = str(frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in _KNOWN:
            found.append(f"{module}.{frame.f_code.co_name}, line {frame.f_lineno} of {frame.f_code.co_filename}")
        frame = frame.f_back  # type: ignore[assignment]  # None above the first
    return "; ".join(found)
