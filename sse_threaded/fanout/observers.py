"""Calls the observers of a hub, and keeps their faults away from it.

The threads are those of :mod:`sse_threaded.observer`.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from ..errors import HubClosed, LogError, SSEError
from ..observer import Cause, Ending, Kind, ObservedHub, Observer, Publication, Stream
from .budget import Overloaded

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_NAMES = tuple(name for name in vars(Observer) if not name.startswith("_"))


class Observers:
    """The observers of one hub, as one whose methods never raise.

    :param observers: the observers.
    :raises ValueError: one of them is not an :class:`Observer`.

    :ivar are_any: whether there are any. Callers on hot paths ask this first.
    """

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        try:
            self._observers = tuple(observers)
        except TypeError:
            raise ValueError(f"observers must be a list of observers, not {observers!r}") from None
        for each in self._observers:
            if not isinstance(each, Observer):
                raise ValueError(f"{each!r} is not an observer; make it of a subclass of sse_threaded.Observer")
        self.are_any = bool(self._observers)
        # By the name of a method: the methods to call, without those that do nothing.
        self._calls: dict[str, tuple[Callable[..., Any], ...]] = {
            name: tuple(
                getattr(each, name)
                for each in self._observers
                if getattr(type(each), name) is not vars(Observer)[name]
            )
            for name in _NAMES
        }
        self._faulty: set[str] = set()  # methods whose fault was logged; two threads at once may log it twice
        self._hub: weakref.ref[ObservedHub] | None = None

    def _tell(self, name: str, *arguments: Any) -> None:
        for call in self._calls[name]:
            self._call(call, *arguments)

    def _call(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception:
            name = getattr(call, "__qualname__", repr(call))
            if name not in self._faulty:
                self._faulty.add(name)
                _log.exception(
                    "the observer's method %s failed, and the hub goes on; its later faults are not logged",
                    name,
                    extra={"event": "observer_failed", "method": name},
                )
            return None

    # Two steps, with a value between them for each observer.

    def publish(
        self,
        channels: tuple[str, ...],
        events: int,
        append: Callable[[], _T],
        count: Callable[[_T], int] | None = None,
    ) -> _T:
        """Call a function that publishes events, and tell the observers; returns its result.

        :param channels: the channels of the events, each once.
        :param events: how many they are.
        :param append: publishes them.
        :param count: says by the result how many events were published; default ``None``: all.
        """
        if not self.are_any:
            return append()
        begun = [self._call(each.publishing, channels, events) for each in self._observers]
        start = time.perf_counter()
        error: BaseException | None = None
        try:
            result = append()
            if count is not None:
                events = count(result)
            return result
        except BaseException as raised:
            error = raised
            raise
        finally:
            publication = Publication(channels, events, time.perf_counter() - start, error)
            for each, value in zip(reversed(self._observers), reversed(begun), strict=True):
                self._call(each.published, value, publication)

    def open(self, channels: tuple[str, ...], resumes: bool, answer: Callable[[], tuple[_T, Cause | None]]) -> _T:
        """Call a function that answers a request for a stream, and tell the observers; returns the answer.

        :param channels: see :meth:`opening`.
        :param resumes: see :meth:`opening`.
        :param answer: returns the answer, and why it is no stream.
        """
        if not self.are_any:
            return answer()[0]
        begun = [self._call(each.opening, channels, resumes) for each in self._observers]
        cause: Cause | None = None
        try:
            result, cause = answer()
            if cause is not None:
                self.stream_refused(cause)
            return result
        finally:
            for each, value in zip(reversed(self._observers), reversed(begun), strict=True):
                self._call(each.opening_ended, value, cause)

    def refuse(self, error: SSEError) -> Cause:
        """Tell the observers that an error keeps a client from its stream; returns the cause."""
        cause = cause_of(error)
        self.stream_refused(cause)
        return cause

    # See Observer for the following.

    def hub_made(self, hub: ObservedHub) -> None:
        self._hub = weakref.ref(hub)
        self._tell("hub_made", hub)

    def stream_refused(self, cause: Cause) -> None:
        self._tell("stream_refused", cause)

    def stream_opened(self, stream: Stream) -> None:
        self._tell("stream_opened", stream)

    def stream_caught_up(self, kind: Kind, events: int) -> None:
        self._tell("stream_caught_up", kind, events)

    def stream_ended(self, ending: Ending) -> None:
        self._tell("stream_ended", ending)

    def reset_sent(self, reason: str) -> None:
        self._tell("reset_sent", reason)

    def sent(self, kind: Kind, events: int, size: int) -> None:
        self._tell("sent", kind, events, size)

    def handed_out(self, position: int, events: int, seconds: float) -> None:
        hub = self._hub and self._hub()
        if hub is not None:
            self._tell("handed_out", hub, position, events, seconds)

    def delivered(self, seconds: Sequence[float]) -> None:
        self._tell("delivered", seconds)

    def second_passed(self, position: int) -> None:
        hub = self._hub and self._hub()
        if hub is not None:
            self._tell("second_passed", hub, position)

    def read_failed(self) -> None:
        self._tell("read_failed")

    def pump_failed(self) -> None:
        self._tell("pump_failed")

    def connections_cut(self, count: int) -> None:
        self._tell("connections_cut", count)


NO_OBSERVERS = Observers()


def cause_of(error: SSEError) -> Cause:
    """Why a client gets no stream, by the error that its opening has raised."""
    if isinstance(error, Overloaded):
        return error.cause
    if isinstance(error, HubClosed):
        return Cause.CLOSING
    return Cause.LOG if isinstance(error, LogError) else Cause.FULL
