"""Answers requests for events: with a stream, with a long poll, or with the reason for neither.

A hub has one object for this. Any thread of the server calls it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from werkzeug.wrappers import Request, Response

from .access.cross_origin import CrossOrigin
from .access.ticket import Ticket, TicketRefused, ticket_in
from .errors import HubClosed, InvalidEvent, LogError
from .fanout.budget import Overloaded
from .fanout.control_events import reserved, was_disconnected
from .fanout.extras import NO_EXTRAS, Extras
from .fanout.handover import ENVIRON_KEY
from .fanout.observers import Observers, cause_of
from .fanout.pace import Pace
from .fanout.pump import Pump
from .fanout.stream_state import EndReason
from .fanout.thread_subscriber import PollSubscriber
from .log import EventLog
from .log.validation import RESERVED_PREFIX, validate_channel, validate_user
from .longpoll import long_poll, unanswered
from .observer import Cause
from .presence.gossip import Presence
from .protocol.event import CONTENT_TYPE
from .protocol.problem import problem
from .protocol.request import WantedEvents, wanted_events
from .protocol.stream_response import HEADERS, STREAM_HEADERS, StreamResponse
from .stream import EventStream, refusal, refusal_for
from .wsgi_server import Caller, ServerWarnings, caller_of

if TYPE_CHECKING:
    from .access.tickets import Tickets

_NO_MORE_HEADERS = (("Cache-Control", "no-store"), *HEADERS)
_POLL_HEADERS = (("Cache-Control", "no-cache"), *HEADERS)


def _refused(body: bytes) -> Response:
    # A generator, as it can be closed like every stream. An app's wrapper may rely on that.
    return Response((part for part in [body]), headers=STREAM_HEADERS)


def _sorted(channels: Iterable[str]) -> tuple[str, ...]:
    """The names of channels, sorted, each once.

    :raises InvalidEvent: there is no name, or one is invalid.
    """
    names = tuple(channels)
    if not names:
        raise InvalidEvent("channel", "name at least one to subscribe to")
    for name in names:
        validate_channel(name)
        if name.startswith(RESERVED_PREFIX):
            raise reserved(name)
    return tuple(sorted(set(names)))


# Kept, so that all streams of a channel have one tuple and one name.
@lru_cache(maxsize=256)
def _only(channel: str) -> tuple[str, ...]:
    """The tuple of one name; raises as above."""
    return _sorted((channel,))


def names_of(channels: str | Iterable[str]) -> tuple[str, ...]:
    """The names of one channel or several, sorted, each once.

    :raises InvalidEvent: there is no name, or one is invalid.
    """
    return _only(channels) if isinstance(channels, str) else _sorted(channels)


class Options(NamedTuple):
    """The arguments of a view; see :meth:`Hub.stream`."""

    presence: bool | Literal["hidden"]
    from_start: bool
    long_poll: bool


class _Asked(NamedTuple):
    """A request for events.

    :ivar channels: sorted, each once.
    :ivar wanted: as the client asks.
    :ivar user: as the view says, as text.
    :ivar options: as the view says.
    """

    channels: tuple[str, ...]
    wanted: WantedEvents
    user: str | None
    options: Options


class RequestedHub(Protocol):
    """The part of a :class:`sse_threaded.Hub` that its answers need."""

    @property
    def log(self) -> EventLog:
        """The log."""

    @property
    def max_streams(self) -> int | None:
        """How many streams there may be; ``None`` for no bound."""

    def begin_anew_if_needed(self) -> None:
        """Begin again after a fork that Python did not announce."""


class EventRequests:
    """Answers the requests for events of one hub.

    :param hub: the hub.
    :param pump: hands out its events.
    :param presence: knows the people of its channels.
    :param pace: the times of its streams.
    :param queue_size: how many events may wait for a client.
    :param observers: get the facts.
    :param cross_origin: the origins whose pages may read; ``None`` for no others.
    :param tickets: checks tickets; ``None`` if the hub has no secret.
    """

    def __init__(
        self,
        hub: RequestedHub,
        pump: Pump,
        presence: Presence,
        *,
        pace: Pace,
        queue_size: int,
        observers: Observers,
        cross_origin: CrossOrigin | None,
        tickets: Tickets | None,
    ) -> None:
        self._hub = hub
        self._pump = pump
        self._presence = presence
        self._pace = pace
        self._queue_size = queue_size
        self._observers = observers
        self._cross_origin = cross_origin
        self._tickets = tickets
        self._warnings = ServerWarnings()

    def answer(
        self, environ: dict[str, Any], names: tuple[str, ...] | None, user: str | None, options: Options
    ) -> Response:
        """Answer a request.

        :param environ: its WSGI environ.
        :param names: the channels, sorted, each once; ``None`` for those of its ticket.
        :param user: the user that the view has named; ``None`` for none, or for that of the ticket.
        :param options: the view's other arguments.
        """
        if self._cross_origin is None:
            return self._answer(environ, names, user, options)
        response = self._cross_origin.answer(environ)
        if response is not None and response.status_code == 403:
            self._observers.stream_refused(Cause.ORIGIN)
        if response is None:
            response = self._answer(environ, names, user, options)
            self._cross_origin.mark(response, environ)
        return response

    def _answer(
        self, environ: dict[str, Any], names: tuple[str, ...] | None, user: str | None, options: Options
    ) -> Response:
        method = environ.get("REQUEST_METHOD", "GET")
        if method not in ("GET", "HEAD"):
            self._observers.stream_refused(Cause.REQUEST)
            return problem(405, "Events are read with GET.", {"Allow": "GET, HEAD"})
        wanted = wanted_events(environ)
        if wanted.kind is None or not (options.long_poll or wanted.kind == CONTENT_TYPE):
            self._observers.stream_refused(Cause.REQUEST)
            other = ", or as application/json by long polling" if options.long_poll else " only"
            return problem(406, f"Events come as text/event-stream{other}; ask for that in Accept.")
        if names is None:
            try:
                names, user, *_ = self._ticket_of(environ, wanted)
            except TicketRefused as error:
                self._observers.stream_refused(Cause.TICKET)
                return problem(403, error.detail)
            except LogError as error:
                self._observers.refuse(error)
                is_stream = wanted.kind == CONTENT_TYPE
                return _refused(refusal_for(self._pace, error)) if is_stream else unanswered(error)
        if options.presence is True:
            validate_user(user)
        caller = caller_of(environ)
        if not self._warnings.is_server_known:
            self._warnings.see_server(environ, caller.bridge, is_bounded=self._hub.max_streams is not None)
        asked = _Asked(names, wanted, user, options)
        if wanted.kind == CONTENT_TYPE:
            return self._stream(environ, asked, caller)
        return self._long_poll(environ, asked, caller)

    def _ticket_of(self, environ: dict[str, Any], wanted: WantedEvents) -> Ticket:
        if self._tickets is None:
            raise ValueError("name the channels, or make the hub with a secret and the client a ticket")
        text = ticket_in(environ.get("QUERY_STRING", ""))
        ticket = self._tickets.check(text, wanted.last_event_id, time.time())
        if was_disconnected(self._hub.log, ticket.last_event_id, ticket.user, ticket.channels):
            raise TicketRefused("This ticket was taken back. Ask the app for a new one.")
        return ticket

    def come_back(self, reason: str, *, shutdown: bool = False) -> Response:
        """See :meth:`sse_threaded.Hub.come_back`."""
        return _refused(refusal(self._pace, reason, shutdown=shutdown))

    def _stream(self, environ: dict[str, Any], asked: _Asked, caller: Caller) -> Response:
        if not self._observers.are_any:
            return self._begin(environ, asked, caller)[0]
        resumes = asked.wanted.last_event_id is not None
        begin = partial(self._begin, environ, asked, caller)
        return self._observers.open(asked.channels, resumes, begin)

    def _begin(self, environ: dict[str, Any], asked: _Asked, caller: Caller) -> tuple[Response, Cause | None]:
        if caller.bridge is not None and not caller.bridge.can_stream:
            return self.come_back(caller.bridge.fault), Cause.SERVER
        if environ.get("REQUEST_METHOD") == "HEAD":
            # An iterator, so that no length is announced: a GET would not have one either.
            return StreamResponse(iter(())), None
        if caller.blocks_connection:
            self._warnings.warn_of_http2()
            why = "a stream would block other requests on this HTTP/2 connection"
            return self.come_back(why), Cause.SERVER
        handover = environ.get(ENVIRON_KEY)
        if handover is None:  # the worker that parks forks as Python does, so its hubs know
            self._hub.begin_anew_if_needed()
        options = asked.options
        try:
            extras = NO_EXTRAS
            if options.presence or asked.wanted.names_channel:
                extras = Extras(channel=asked.wanted.names_channel, presence=bool(options.presence))
            if options.presence:
                self._presence.start()
            cursor = self._pump.open_cursor(
                asked.channels,
                asked.wanted.last_event_id,
                from_start=options.from_start,
                user=asked.user,
                address=environ.get("REMOTE_ADDR"),
                is_present=options.presence is True,
                extras=extras,
            )
        except (Overloaded, HubClosed, LogError) as error:
            return _refused(refusal_for(self._pace, error)), cause_of(error)
        if cursor.is_over:
            return Response(status=204, headers=_NO_MORE_HEADERS), Cause.FINISHED
        stream = EventStream(self._pump, cursor, self._queue_size, caller.connection, handover)
        return StreamResponse(stream), None

    def _long_poll(self, environ: dict[str, Any], asked: _Asked, caller: Caller) -> Response:
        if environ.get("REQUEST_METHOD") == "HEAD":
            response = Response(iter(()), content_type=asked.wanted.kind)
        else:
            if caller.blocks_connection:
                self._warnings.warn_of_http2()
            self._hub.begin_anew_if_needed()  # before its pump is asked for anything
            web = Request(environ, populate_request=False)  # the environ's request stays the app's
            subscriber = PollSubscriber(asked.channels, self._queue_size, caller.connection, has_heartbeats=False)
            subscriber.address = environ.get("REMOTE_ADDR")
            may_wait = not caller.blocks_connection
            try:
                subscriber.owner = self._pump.owner(asked.user, environ.get("REMOTE_ADDR"))
            except Overloaded as error:
                may_wait = False
                self._observers.refuse(error)
            with self._attending(asked, subscriber):
                response = long_poll(
                    self._pump,
                    self._hub.log,
                    web,
                    subscriber,
                    asked.wanted,
                    from_start=asked.options.from_start,
                    may_wait=may_wait,
                )
        # An error has a Cache-Control of its own.
        response.headers.extend(_POLL_HEADERS if response.status_code == 200 else HEADERS)
        return response

    @contextmanager
    def _attending(self, asked: _Asked, subscriber: PollSubscriber) -> Iterator[None]:
        """Count the user of a long poll, until its answer. A poll that finds events is over before it waits."""
        if asked.options.presence is not True or asked.user is None:
            yield
            return
        with suppress(Overloaded, HubClosed, LogError):  # the answer does not depend on it
            self._presence.start()
        attendance = self._pump.presence.attendance
        attendance.enter(asked.user, asked.channels)
        try:
            yield
        finally:
            was_removed = subscriber.end_reason is EndReason.DISCONNECTED
            attendance.leave(asked.user, asked.channels, was_removed=was_removed)
