"""The interface of an observer: it gets the facts of a hub that metrics, traces and an app's own counts need.

    class Openings(Observer):
        def stream_opened(self, stream: Stream) -> None:
            print("opened:", stream.kind, *stream.channels)

    hub = Hub(url, observers=[Openings()])

A subclass writes the methods that it needs; the others do nothing. The hub holds no lock of the package when it
calls one. These are the threads:

- ``hub_made``: the thread that makes the hub.
- ``publishing``, ``published``: the thread that publishes.
- ``opening``, ``opening_ended``, ``stream_refused``, ``stream_opened``: the thread of the request.
- ``stream_caught_up``, ``reset_sent``: the thread of the request, or the pump's thread.
- ``stream_ended``: of a parked stream the pump's thread, of another one its own thread. If no thread iterates it
  any more, the pump's thread.
- ``sent``: the pump's thread, or a thread that calls :meth:`ObservedHub.report`.
- ``handed_out``, ``delivered``, ``second_passed``, ``read_failed``, ``pump_failed``, ``connections_cut``: the
  pump's thread.

All streams wait while a method runs on the pump's thread. So a method must not wait for a network or a disk. If it
raises an exception, the hub logs that once for each method, and goes on. A method may publish, unless it is called
for a publication.

Facts of a stream come in order: it is opened, it has caught up, it has ended. Facts of different streams come from
several threads at the same time.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = [
    "Cause",
    "Ending",
    "Kind",
    "ObservedHub",
    "Observer",
    "Publication",
    "Queues",
    "Stream",
]


# The reason of the end of a long poll that has its answer.
ANSWERED = "answered"


class Kind(str, enum.Enum):
    """The way in which a stream's bytes reach its client."""

    PARKED = "parked"
    """The pump writes to its socket, so it holds no thread."""

    THREAD = "thread"
    """A thread of the server waits for its events."""

    WRAPPED = "wrapped"
    """It is inside an iterable of the app, and holds a thread only while events wait."""

    POLL = "poll"
    """It is a long poll, which ends with its answer."""

    def __str__(self) -> str:
        return str(self.value)


class Cause(str, enum.Enum):
    """Why a request for events got no stream."""

    FULL = "full"
    """All streams of this process are taken."""

    USER = "user"
    """Its user has as many streams as allowed."""

    ADDRESS = "address"
    """Its address has as many streams as allowed."""

    SYSTEM = "system"
    """The system refuses a thread or a descriptor."""

    CLOSING = "closing"
    """The hub is closed, or the process ends."""

    LOG = "log"
    """The log cannot be read."""

    FINISHED = "finished"
    """All channels are finished, and the client has all their events. It gets the status 204."""

    TICKET = "ticket"
    """Its ticket is missing or invalid. It gets the status 403."""

    ORIGIN = "origin"
    """Pages of its origin may not read. It gets the status 403."""

    REQUEST = "request"
    """The request is invalid. It gets the status 400, 405 or 406."""

    SERVER = "server"
    """The server cannot send a stream, or would block other requests (HTTP/2 of gunicorn)."""

    APP = "app"
    """The view has answered with :meth:`sse_threaded.Hub.come_back`."""

    def __str__(self) -> str:
        return str(self.value)


class Stream(NamedTuple):
    """A stream.

    :ivar kind: how its bytes reach its client.
    :ivar channels: its channels, sorted.
    :ivar user: the user that the view has named; ``None`` for none.
    :ivar address: the client's address, as the view's environ had it; ``None`` if there was none.
    """

    kind: Kind
    channels: tuple[str, ...]
    user: str | None
    address: str | None


class Ending(NamedTuple):
    """The end of a stream.

    :ivar stream: the stream.
    :ivar reason: a value of ``sse_threaded.fanout.stream_state.EndReason``, or ``"answered"`` for a long poll that
        has its answer.
    :ivar seconds: how long it was open.
    :ivar events: how many events were handed to the kernel, or to the server.
    :ivar size: bytes of its body that were handed on, without HTTP's framing and without its first notice.
    """

    stream: Stream
    reason: str
    seconds: float
    events: int
    size: int


class Publication(NamedTuple):
    """A call that published events, or failed to.

    :ivar channels: the channels of the events, each once.
    :ivar events: how many events they were; after an error none of them was published.
    :ivar seconds: how long the call took.
    :ivar error: the exception that it raised; ``None`` for none.
    """

    channels: tuple[str, ...]
    events: int
    seconds: float
    error: BaseException | None


class Queues(NamedTuple):
    """The events that wait for the clients of a hub, in this process.

    :ivar waiting: events that wait, of all streams together.
    :ivar most: events that wait for the stream with the longest queue.
    """

    waiting: int
    most: int


class ObservedHub(Protocol):
    """The part of a :class:`sse_threaded.Hub` that observers use. Any thread may call it.

    :ivar url: the log's URL, without a password.
    """

    url: str

    @property
    def max_streams(self) -> int | None:
        """How many streams there may be; ``None`` for no bound."""

    def queues(self) -> Queues:
        """How many events wait for clients now."""

    def report(self) -> None:
        """Call :meth:`Observer.sent` now for everything that was handed on and was not reported yet."""

    def log_end(self) -> int:
        """The number of the log's newest event, read now.

        :raises LogError: the log cannot be read.
        """


class Observer:
    """Gets the facts of a hub; see the module for the threads. All methods do nothing."""

    def hub_made(self, hub: ObservedHub) -> None:
        """A hub was made with this observer. Keep only a weak reference to it."""

    def publishing(self, channels: tuple[str, ...], events: int) -> object:
        """Events are about to be published; returns anything, which :meth:`published` gets.

        :param channels: their channels, each once.
        :param events: how many events they are.
        """
        return None

    def published(self, begun: object, publication: Publication) -> None:
        """Events were published, or an exception was raised.

        ``publish``, ``finish``, ``disconnect`` and the publisher's HTTP requests come here. Events that the app
        appends with ``hub.log`` do not.

        :param begun: the result of :meth:`publishing`.
        :param publication: the call.
        """

    def opening(self, channels: tuple[str, ...], resumes: bool) -> object:
        """A request for a stream has come; returns anything, which :meth:`opening_ended` gets.

        :param channels: the channels, sorted.
        :param resumes: whether the client has sent a last event ID.
        """
        return None

    def opening_ended(self, begun: object, cause: Cause | None) -> None:
        """The hub has made the response. The stream itself begins when the server sends it.

        :param begun: the result of :meth:`opening`.
        :param cause: why the client gets no stream; ``None`` if it gets one, for ``HEAD``, and after an exception.
        """

    def stream_refused(self, cause: Cause) -> None:
        """A request for events got no stream."""

    def stream_opened(self, stream: Stream) -> None:
        """A stream has begun, and counts as open."""

    def stream_caught_up(self, kind: Kind, events: int) -> None:
        """A stream has all events up to now. Events that come from now on are handed to it at once.

        :param kind: the stream's.
        :param events: how many events were replayed to it from the log.
        """

    def stream_ended(self, ending: Ending) -> None:
        """A stream has ended, and does not count as open any more."""

    def reset_sent(self, reason: str) -> None:
        """A client gets an event ``reset``.

        :param reason: the ``reason`` of :exc:`sse_threaded.HistoryGone`.
        """

    def sent(self, kind: Kind, events: int, size: int) -> None:
        """Events were handed to the kernel, or for other kinds than parked streams to the server.

        The hub adds up what several streams get, and calls this at the end of each turn of the pump.

        :param kind: the kind of the streams.
        :param events: how many events, counted once for each stream.
        :param size: the bytes of these events, without HTTP's framing.
        """

    def handed_out(self, hub: ObservedHub, position: int, events: int, seconds: float) -> None:
        """The pump has handed out some events from the log to all streams.

        :param hub: the pump's hub.
        :param position: the number of the last of them.
        :param events: how many events there were, also those for which there is no stream.
        :param seconds: how long that took.
        """

    def delivered(self, seconds: Sequence[float]) -> None:
        """Events of this process's calls of ``publish`` were handed to all streams of this process.

        :param seconds: for each event the time from the call.
        """

    def second_passed(self, hub: ObservedHub, position: int) -> None:
        """About a second has passed, while the pump of a hub runs.

        :param hub: the pump's hub.
        :param position: the number of the newest event that it has handed out.
        """

    def read_failed(self) -> None:
        """The pump could not read the log. It tries again."""

    def pump_failed(self) -> None:
        """The pump has failed because of a defect. All streams end, and their clients reconnect."""

    def connections_cut(self, count: int) -> None:
        """The connections of clients that did not take the last bytes of their streams were cut."""
