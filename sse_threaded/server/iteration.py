"""How the worker asks the app's iterable for chunks and writes them; with a stream in it, step by step."""

from __future__ import annotations

import enum
import sys
import threading
import time

from ..fanout.handover import Handover
from ..fanout.wrapped_subscriber import WrappedSubscriber
from .app_response import AppResponse

# Seconds after which a wrapped stream lets others have its thread.
_SLICE_SECONDS = 0.02

# Packages whose frames a warning should not name: this one, and those whose wrappers pass on an empty chunk.
_KNOWN = (__name__.partition(".")[0], "werkzeug")


class Progress(enum.Enum):
    """How far the app's iterable was followed."""

    ENDED = enum.auto()
    WAITING = enum.auto()  # the stream has nothing, or the socket takes no more
    INTERRUPTED = enum.auto()  # it has had a thread for long, and others wait for one


def advance(response: AppResponse, handover: Handover) -> Progress:
    """Ask the app's iterable for chunks while there are some; returns the progress.

    One thread at a time calls this.

    :param handover: where a stream in the response says that its thread may leave.
    """
    handover.thread = threading.get_ident()
    try:
        return _advance(response, handover)
    except BaseException:
        if handover.wrapped is not None:
            handover.wrapped.flush()  # the chunks before the failure
        raise


def _advance(response: AppResponse, handover: Handover) -> Progress:
    resp, worker = response.resp, response.worker
    begun = time.monotonic()
    for item in response.chunks:
        wrapped = handover.wrapped
        if wrapped is None:
            if handover.has_stream and not resp.headers_sent:
                response.expect_stream()
            resp.write(item)
            continue
        if resp.sock is response.conn:
            _begin_wrapped(response, wrapped)
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
    if not response.has_ended:
        response.has_ended = True
        response.chunks = iter(())  # the app's iterator may fail if it is asked after its end
        resp.close()
    wrapped = handover.wrapped
    is_sent = wrapped is None or wrapped.keeps_thread or wrapped.flush()
    return Progress.ENDED if is_sent else Progress.WAITING


def _begin_wrapped(response: AppResponse, wrapped: WrappedSubscriber) -> None:
    response.expect_stream()
    if not wrapped.keeps_thread:
        response.conn.sock.setblocking(False)
    response.resp.sock = wrapped  # it keeps the bytes that the socket does not take
    if response.resp.is_encoded:
        message = "Streams leave with a Content-Encoding: what encodes them may hold events back"
        response.worker.warn_once("encoding", lambda: message)


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
