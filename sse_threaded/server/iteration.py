"""How the worker iterates a response chunk by chunk; with a stream in it, on threads that come and go."""

from __future__ import annotations

import enum
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from ..fanout.lifecycle import process_budget
from ..fanout.stream_state import EndReason
from ..fanout.wrapped_subscriber import WrappedSubscriber
from .app_response import Exchange
from .permits import Turn, Turns

# Seconds after which a wrapped stream lets others have its thread.
_SLICE_SECONDS = 0.02

# Packages whose frames a warning should not name: this one, and those whose wrappers pass on an empty chunk.
_KNOWN = (__name__.partition(".")[0], "werkzeug")


class Progress(enum.Enum):
    """How far the app's iterable was followed."""

    ENDED = enum.auto()
    RESTS = enum.auto()  # nothing is there, or the socket takes no more
    INTERRUPTED = enum.auto()  # it has had a thread for long, and others wait for one


class Worker(Protocol):
    """What an iteration needs of its worker.

    :ivar turns: which wrapped streams may have a thread.
    """

    log: Any
    turns: Turns

    @property
    def has_tasks(self) -> bool:
        """Whether tasks wait for a thread."""

    def warn_once(self, kind: str, message: Callable[[], str]) -> None:
        """Log a warning, unless one of its kind was logged in this worker."""


class Iteration:
    """One response's. It is the :class:`~sse_threaded.fanout.wrapped_subscriber.Server` of the stream in
    it, if there is one.

    :param worker: whose threads it takes.
    :param exchange: which request and response it is of.
    """

    def __init__(self, worker: Worker, exchange: Exchange) -> None:
        self._worker = worker
        self._exchange = exchange
        self._turn: Turn | None = None  # of the thread that is at work
        self._is_complete = False  # but for what the socket has not taken yet

    # The thread that is at work.

    def advance(self) -> Progress:
        """Go on with the app's iterable; returns how far it came."""
        self._exchange.space.thread = threading.get_ident()
        try:
            return self._advance()
        except BaseException:
            wrapped = self._exchange.space.wrapped
            if wrapped is not None:
                wrapped.flush()  # what came before the failure
            raise

    def _advance(self) -> Progress:
        exchange, resp, space = self._exchange, self._exchange.resp, self._exchange.space
        begun = time.monotonic()
        for item in exchange.chunks:
            wrapped = space.wrapped
            if wrapped is None:
                if space.has_stream and not resp.headers_sent:
                    exchange.announce_end()
                resp.write(item)
                continue
            if resp.sock is exchange.conn.sock:
                self._begin_wrapped(wrapped)
            resp.write(item)
            if wrapped.keeps_thread:
                continue
            # Each chunk at once, as nobody knows for what the wrapper waits before it gives the next one.
            if not wrapped.flush() or wrapped.is_idle(bool(item)):
                return Progress.RESTS
            if wrapped.state.is_lost:
                return Progress.ENDED
            others_wait = self._worker.turns.waiting or self._worker.has_tasks
            if others_wait and time.monotonic() > begun + _SLICE_SECONDS:
                return Progress.INTERRUPTED
        if not self._is_complete:
            self._is_complete = True
            exchange.chunks = iter(())  # it may not like to be asked behind its end
            resp.close()
        wrapped = space.wrapped
        is_sent = wrapped is None or wrapped.keeps_thread or wrapped.flush()
        return Progress.ENDED if is_sent else Progress.RESTS

    def _begin_wrapped(self, wrapped: WrappedSubscriber) -> None:
        resp, conn = self._exchange.resp, self._exchange.conn
        self._exchange.lend_connection()
        if not wrapped.keeps_thread:
            conn.sock.setblocking(False)
        resp.sock = wrapped
        if is_encoded(resp):
            message = "Streams leave with a Content-Encoding: what encodes them may hold events back"
            self._worker.warn_once("encoding", lambda: message)

    def go_on(self, progress: Progress, turn: Turn | None = None) -> None:
        """Go on with the response for as long as there is something.

        :param progress: how far it has come.
        :param turn: the thread's; ``None``, the default, for the one that began the response.
        """
        exchange, wrapped = self._exchange, self._exchange.space.wrapped
        assert wrapped is not None  # only a wrapped stream leaves its thread
        again = exchange.again
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
                progress = exchange.conn.context.run(self.advance)
        except OSError as error:
            self._worker.log.debug("The client of a stream has gone: %s", error)
            again = False
        except (Exception, SystemExit):
            self._worker.log.exception("Error handling request")
            again = False
        if turn is not None:
            turn.end()  # the end may wait for the client
        is_complete = not wrapped.state.is_lost
        if wrapped.end_reason is EndReason.SHUTDOWN:
            # As a stream does that the server closes itself: no thread may wait for the client to close.
            wrapped.shut_down()
        exchange.end(again and is_complete and wrapped.end_reason is not EndReason.SHUTDOWN)

    def _go_on_in_turn(self, turn: Turn) -> None:
        self._turn = turn
        self.go_on(Progress.RESTS, turn)

    # From inside the stream.

    def keep_thread(self) -> None:
        """Take note that the calling thread, which is at work, stays: it is counted elsewhere."""
        if self._turn is not None:
            self._turn.end()
        self._exchange.conn.give_place_back()  # nobody reads the body for as long as the stream lasts
        self._worker.warn_once("thread", self._names_who_swallows)

    def _names_who_swallows(self) -> str:
        respiter = self._exchange.respiter
        who = _askers() or f"{type(respiter).__module__}.{type(respiter).__qualname__}"
        return (
            f"A stream keeps its thread: what wraps it ({who}) does not pass on an empty chunk (b''), so that no "
            f"thread can leave it; {process_budget.limit} such streams may be open"
        )

    # The pump's thread.

    def resume(self) -> None:
        """Have a thread go on with the response."""
        self._worker.turns.ask(self._go_on_in_turn)


def is_encoded(resp: Any) -> bool:
    """Whether a response says that its body was encoded on the way."""
    return any(name.lower() == "content-encoding" for name, _ in resp.headers)


def _askers() -> str:
    """Who has asked the stream for a chunk, in which the calling thread is: the nearest first."""
    found: list[str] = []
    frame = sys._getframe()
    server = Iteration._advance.__code__
    while frame is not None and frame.f_code is not server:
        module = str(frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in _KNOWN:
            found.append(f"{module}.{frame.f_code.co_name}, line {frame.f_lineno} of {frame.f_code.co_filename}")
        frame = frame.f_back  # type: ignore[assignment]  # None above the first
    return "; ".join(found)
