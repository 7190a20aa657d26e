"""The hub: what an app publishes to and streams from.

    hub = Hub(Path(__file__).with_name("events.db"))
    hub.publish("news", {"title": "Hello"})      # in any thread, any process
    return hub.stream(request, "news")           # in a view

There is one hub per log and process; any thread may use it. It starts one thread, with the first stream. It may be
made before a fork (gunicorn's ``preload_app``): each child goes on with its own connections and its own thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from werkzeug.wrappers import Response

from .access.cross_origin import CrossOrigin
from .access.publish_tokens import PublishTokens
from .access.ticket import Secret, Ticket
from .debug.app import DebugApp
from .errors import HubClosed
from .event_requests import EventRequests, Options, names_of
from .fanout.budget import Budget
from .fanout.control_events import CONTROL, disconnect_data, reserved
from .fanout.lifecycle import enrol, is_ending, parking_budget, process_budget, renewal_lock, surroundings
from .fanout.observers import Observers
from .fanout.owners import OwnerLimits
from .fanout.pace import Pace
from .fanout.pump import Pump
from .log import EventLog, Retention, open_log
from .log.retention import MESSAGES
from .log.validation import RESERVED_PREFIX, validate_channel
from .observer import Cause, Observer, Queues
from .overview.answering import Answering
from .overview.asking import DEFAULT_SECONDS, ask
from .overview.looking import look
from .overview.report import DEFAULT_MOST, ProcessReport
from .presence.gossip import Presence
from .presence.times import times_for
from .protocol.event import FINISHED, JSONDefault
from .protocol.json_body import EVENT_BODY_BYTES
from .protocol.request import HasEnviron
from .publisher.app import PublisherApp

if TYPE_CHECKING:
    from .access.tickets import Tickets

# 1,000 events may wait for a client: more than a burst, which a healthy client takes in a moment. All clients
# share the bytes of an event, so this bounds how far behind a client may be rather than the memory.
QUEUE_SIZE = 1000

# Seconds. Proxies commonly cut a connection that is silent for 30 to 60 s. WHATWG HTML 9.2.7 proposes 15.
HEARTBEAT = 15.0

# Seconds. A proxy may keep the connection of a browser that died. Its stream ends after this time.
LEASE = 900.0

# Milliseconds.
RETRY = 5000


def _tickets(secret: Secret) -> Tickets:
    try:
        from .access.tickets import Tickets  # noqa: PLC0415  # itsdangerous may not be installed
    except ImportError:
        raise ValueError("tickets need itsdangerous: pip install 'itsdangerous>=2'") from None
    return Tickets(secret)


class Hub:
    """Publish and subscribe.

    :ivar log: the :class:`EventLog` behind it. ``hub.log.transaction()`` changes rows and appends events in one
        step. ``hub.log.snapshot()`` reads rows and the last event ID that belongs to them. ``hub.log.read()``
        reads events. ``hub.log.append(..., connection=...)`` appends over the app's own connection.
    :ivar url: the log's URL, without a password.

    :param url: the log: ``memory://`` (the default: one process), ``sqlite:///path``, ``sqlite:////path`` or a
        :class:`~pathlib.Path` (one machine), ``redis://host:port/db`` or ``postgresql://host:port/database``
        (several machines; see :func:`open_log`).
    :param retention: how much history the log keeps, default :class:`Retention`.
    :param retry: the reconnection time for clients, in milliseconds, default 5000.
    :param heartbeat: seconds between comments on a stream, default 15; ``None`` for none.
    :param lease: the longest life of a stream in seconds, default 900. Each stream gets 80 to 100 % of it, and its
        client then reconnects. ``None`` for no bound.
    :param max_streams: how many streams may be open at once in this process. A further client gets a reconnection
        time and no stream. 0 allows none, so that clients poll. Default ``None``: the limit comes from the
        threads, which gunicorn's hooks count (:mod:`sse_threaded.gunicorn_hooks`), or from the connections of the
        worker that parks (:mod:`sse_threaded.worker`). Without either there is no bound.
    :param max_streams_per_user: how many streams one user may have in this process; see ``user`` of
        :meth:`stream`. Default ``None``: any number.
    :param max_streams_per_address: the same for one address, ``REMOTE_ADDR`` in the WSGI environ. Behind a proxy
        let Werkzeug's ``ProxyFix`` set it. Default ``None``.
    :param queue_size: how many events may wait for a client before its stream ends as too slow, default 1000.
    :param origins: the origins whose pages may read the streams with their cookies, such as
        ``["https://app.example"]``. Pages of others get 403. Default ``None``: streams say nothing of other
        origins, so only pages of their own origin can read them.
    :param secret: the app's secret, for :meth:`ticket`; of several, the newest first. Default ``None``: no
        tickets. It needs itsdangerous, which Flask installs.
    :param json_default: returns a value that JSON can write in place of one that it cannot, as ``default`` of
        :func:`json.dumps` does. Flask has ``DefaultJSONProvider.default``, and Django has
        ``DjangoJSONEncoder().default``. Default ``None``: an event with such a value is refused.
    :param observers: get the facts of this hub, for metrics and traces: :class:`sse_threaded.metrics.Metrics`,
        :class:`sse_threaded.tracing.Tracing`, or an own :class:`sse_threaded.observer.Observer`. Default: none.
    :raises LogError: the log cannot be opened.
    :raises ValueError: an argument is invalid.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] = "memory://",
        *,
        retention: Retention | None = None,
        retry: int = RETRY,
        heartbeat: float | None = HEARTBEAT,
        lease: float | None = LEASE,
        max_streams: int | None = None,
        max_streams_per_user: int | None = None,
        max_streams_per_address: int | None = None,
        queue_size: int = QUEUE_SIZE,
        origins: Iterable[str] | None = None,
        secret: Secret | None = None,
        json_default: JSONDefault | None = None,
        observers: Iterable[Observer] = (),
    ) -> None:
        for name, value, least in (
            ("retry", retry, 0),
            ("heartbeat", heartbeat, 0.01),
            ("lease", lease, 0.01),
            ("max_streams", max_streams, 0),
            ("max_streams_per_user", max_streams_per_user, 1),
            ("max_streams_per_address", max_streams_per_address, 1),
            ("queue_size", queue_size, 1),
        ):
            if value is None and (name in ("heartbeat", "lease") or name.startswith("max_streams")):
                continue
            kinds = (int,) if isinstance(least, int) else (int, float)
            if not isinstance(value, kinds) or isinstance(value, bool) or not value >= least:
                kind = "whole number" if kinds == (int,) else "number"
                raise ValueError(f"{name} must be a {kind} of at least {least}, not {value!r}")
        if retention is not None and not isinstance(retention, Retention):
            raise ValueError(f"retention must be a Retention(count=..., age=...), not {retention!r}")
        cross_origin = None if origins is None else CrossOrigin(origins)
        self._tickets = None if secret is None else _tickets(secret)
        self._log: EventLog = open_log(url, retention)
        self._log.json_default = json_default
        self._made_in = surroundings()
        self.url = self._log.url
        self._pace = Pace(retry, heartbeat, lease)
        self._budget = process_budget if max_streams is None else Budget(max_streams)
        self._parking_budget = parking_budget if max_streams is None else self._budget
        limits = OwnerLimits(max_streams_per_user, max_streams_per_address)
        budgets = self._budget, self._parking_budget
        self._observers = Observers(observers)
        self._answering = Answering(self._log, lambda most: look(self._pump, self._log.epoch, most))
        self._pump = Pump(
            self._log,
            self._pace,
            *budgets,
            self._process_ends,
            limits=limits,
            listeners={MESSAGES: self._answering.take},
            observers=self._observers,
        )
        self._presence = Presence(self._log, self._pump, times_for(retry))
        self._closed = False
        self._requests = EventRequests(
            self,
            self._pump,
            self._presence,
            pace=self._pace,
            queue_size=queue_size,
            observers=self._observers,
            cross_origin=cross_origin,
            tickets=self._tickets,
        )
        enrol(self)
        self._observers.hub_made(self)

    def __repr__(self) -> str:
        return f"<Hub {self.url} streams={self.streams} position={self._pump.position}>"

    @property
    def log(self) -> EventLog:
        """See the class."""
        self.begin_anew_if_needed()
        return self._log

    @property
    def streams(self) -> int:
        """How many streams and long polls are open in this process."""
        return self._pump.stream_count

    @property
    def own_limit(self) -> int | None:
        """The ``max_streams`` that the hub was made with."""
        return None if self._budget is process_budget else self._budget.limit

    @property
    def max_streams(self) -> int | None:
        """How many streams there may be; ``None`` for no bound."""
        limits = [budget.limit for budget in (self._budget, self._parking_budget) if budget.limit is not None]
        return max(limits, default=None)

    def publish(
        self, channel: str, data: object, event: str | None = None, *, connection: object | None = None
    ) -> str:
        """Append an event to the log, for all subscribers to ``channel``; returns its id.

        :param channel: any text of 1 to 255 characters.
        :param data: text, or anything JSON can write, which is sent as one line of JSON.
        :param event: its type for ``addEventListener``; ``None``, the default, for ``message``.
        :param connection: the app's own connection to the log's database. Then the event is a part of the
            transaction that is open there; see :meth:`EventLog.append`. Call ``hub.log.ring()`` after the commit.
        :raises InvalidEvent: an argument is invalid.
        :raises LogError: the log cannot be written; nothing was published.
        :raises HubClosed: the hub is closed; nothing was published.
        """
        if not self._observers.are_any:
            return self._publish(channel, data, event, connection)
        begun = time.monotonic()
        append = partial(self._publish, channel, data, event, connection)
        event_id = self._observers.publish((channel,), 1, append)
        if connection is None:  # else it is in the log later, at the commit
            self._pump.times.note(int(event_id.rpartition("-")[2]), begun)
        return event_id

    def _publish(self, channel: str, data: object, event: str | None, connection: object | None) -> str:
        if isinstance(channel, str) and channel.startswith(RESERVED_PREFIX):
            raise reserved(channel)
        if self._closed:
            raise HubClosed("the hub is closed; nothing was published")
        self.begin_anew_if_needed()
        return self._log.append(channel, data, event, connection=connection)

    def finish(self, channel: str, data: object = None, *, connection: object | None = None) -> str:
        """Append the last event of ``channel``; returns its id.

        Its type is ``stream-finished``, so that a page can listen for it. A stream ends after it, once all its
        channels are finished. A client that reconnects gets the events that it has missed. If it has all, it gets
        the status 204, and ``EventSource`` stops for good (WHATWG HTML 9.2.3). An event that is published later
        opens the channel again. In ``hub.log.transaction()``, append an event of the type
        :data:`sse_threaded.FINISHED`.

        :param channel: as with :meth:`publish`.
        :param data: as with :meth:`publish`; default ``{}``.
        :param connection: as with :meth:`publish`.
        :raises InvalidEvent: an argument is invalid.
        :raises LogError: the log cannot be written; nothing was published.
        :raises HubClosed: the hub is closed; nothing was published.
        """
        return self.publish(channel, {} if data is None else data, FINISHED, connection=connection)

    def publisher(
        self, *, tokens: Mapping[str, str | Iterable[str]], max_bytes: int = EVENT_BODY_BYTES
    ) -> PublisherApp:
        """Return a WSGI app of one route that publishes what other programs send; mount it where you like.

        They send ``POST`` with ``Authorization: Bearer TOKEN`` (RFC 6750). The body is JSON: an event
        ``{"channel", "data", "event"}``, where ``event`` may be left out, or ``{"channel", "finish": true}``, or a
        list of up to 500 events for one transaction. The answer is 201 with ``{"id"}`` or ``{"ids"}``. A request
        with the header ``Idempotency-Key`` can be sent again, and takes effect once. The key is remembered for the
        ``age`` of the :class:`Retention`: by default for a day.

        :param tokens: maps each token to the channels that it may publish to. ``"sha256:..."`` with the 64
            hexadecimal digits of its SHA-256 stands for a token, so that no secret need be in the configuration. A
            channel is an exact name, or the beginning of names and ``*``: ``"job-*"``; ``"*"`` means all channels.
        :param max_bytes: the longest body, in bytes; default 1,052,672.
        :raises ValueError: an argument is invalid. The message does not show a token.
        """
        if not isinstance(max_bytes, int) or isinstance(max_bytes, bool) or max_bytes < 1:
            raise ValueError(f"max_bytes must be a whole number of at least 1, not {max_bytes!r}")
        return PublisherApp(self._log_to_publish, PublishTokens(tokens), max_bytes, self._observers)

    def _log_to_publish(self) -> EventLog:
        if self._closed:
            raise HubClosed("the hub is closed; nothing was published")
        return self.log

    def disconnect(
        self, *, user: object = None, channel: str | None = None, connection: object | None = None
    ) -> str:
        """End the streams of a user, of a channel, or of a user in a channel, in all processes; for a logout.

        It appends an event to a channel of the package, and returns its id. Each process ends the streams when it
        reads the event, and delivers no later event to them. Their clients reconnect, so the view must refuse them
        by then: end the session first. A stream that a view allows more than a second later stays open. Tickets
        for such streams, which were made before, are refused from now on.

        :param user: as the view named it for :meth:`stream`; ``None``, the default, for all users.
        :param channel: a channel's name; ``None``, the default, for all channels.
        :param connection: as with :meth:`publish`.
        :raises ValueError: neither is given.
        :raises InvalidEvent: the channel's name is invalid.
        :raises LogError: the log cannot be written; no stream ends.
        :raises HubClosed: the hub is closed.
        """
        if user is None and channel is None:
            raise ValueError("name a user, a channel, or both")
        if channel is not None:
            validate_channel(channel)
        if self._closed:
            raise HubClosed("the hub is closed; no stream is left")
        data = disconnect_data(None if user is None else str(user), channel)
        append = partial(self.log.append, CONTROL, data, connection=connection)
        return self._observers.publish((CONTROL,), 1, append)

    def ticket(
        self, channels: str | Iterable[str], *, user: object = None, seconds: float = 60.0, resume: float = 3600.0
    ) -> str:
        """Return a ticket for a client that can send neither cookies nor header fields.

        The client opens ``/events?ticket=...``, and the view calls ``hub.stream(request)`` without channels. A
        ticket is signed and not encrypted: a client can read the names in it.

        :param channels: one channel or several, which it allows.
        :param user: whose streams they are; see :meth:`stream`. Default ``None``: no user.
        :param seconds: for how long a stream may begin with it; default 60.
        :param resume: seconds after that in which a client that has had a stream may resume it; default 3600. It
            shows a last event ID that it can only have from a stream.
        :raises ValueError: the hub has no ``secret``.
        :raises InvalidEvent: a channel's name is invalid.
        :raises LogError: the log cannot be read.
        """
        if self._tickets is None:
            raise ValueError("tickets need a secret: Hub(..., secret=app.secret_key)")
        names = names_of(channels)
        expires = time.time() + seconds
        whose = None if user is None else str(user)
        return self._tickets.make(Ticket(names, whose, expires, expires + resume, self.log.last_event_id()))

    def stream(
        self,
        request: HasEnviron | dict[str, Any],
        channels: str | Iterable[str] | None = None,
        *,
        user: object = None,
        presence: bool | Literal["hidden"] = False,
        from_start: bool = False,
        long_poll: bool = True,
    ) -> Response:
        """The answer to a request for events: a stream, or a long poll for ``Accept: application/json``.

        :param request: Werkzeug's, Flask's or Django's request, or the WSGI environ.
        :param channels: one channel or several; all share one order and one last event ID. ``None``, the default:
            those of the client's :meth:`ticket`, which also says whose stream it is. Without a valid one the
            answer is 403.
        :param user: whose stream it is, such as the user's id in the app's database; ``str(user)`` counts. Default
            ``None``: no user. See :meth:`disconnect` and ``max_streams_per_user``.
        :param presence: whether the client gets events ``stream-presence`` that say which users are on these
            channels, and other such clients get to see this one's user; see :meth:`presence`. ``"hidden"``: it
            sees the others, and they do not see its user. Default ``False``: neither.
        :param from_start: whether a client without a last event ID gets all events that the log has of these
            channels; default ``False``: those from this call on.
        :param long_poll: whether long polls are answered, default ``True``; ``False`` refuses them with 406. A
            view that filters a stream's events should refuse them. A poll's answer is one chunk of JSON with all
            events, so the filter would find no event in it.
        :raises InvalidEvent: a channel's name is invalid.
        :raises ValueError: with ``presence=True``, there is no user, or not one of 1 to 255 characters.
        :raises TypeError: ``request`` is neither a request nor an environ.

        A header ``Last-Event-ID``, or ``?lastEventId=``, resumes after that event. A client whose id cannot be
        resumed gets an event ``reset``. With ``?withChannel=1`` each event has a field ``channel``, whose value is
        the channel's name as JSON. If all channels are finished and the client has all their events, it gets
        204; see :meth:`finish`. Only requests that no ``EventSource`` sends get an HTTP error: 405, 406, and 400
        for an invalid ``?wait=``.
        """
        environ = request if isinstance(request, dict) else getattr(request, "environ", None)
        if not isinstance(environ, dict):
            raise TypeError(f"stream takes a web framework's request, or the WSGI environ, not {request!r}")
        names = None if channels is None else names_of(channels)
        if not (isinstance(presence, bool) or presence == "hidden"):
            raise ValueError(f'presence must be True, False or "hidden", not {presence!r}')
        whose = None if user is None else str(user)
        return self._requests.answer(environ, names, whose, Options(presence, from_start, long_poll))

    def come_back(self, reason: str, *, shutdown: bool = False) -> Response:
        """Answer a request for events that gets no stream now, so that the client asks again later.

        Any status but 200 stops ``EventSource`` for good (WHATWG HTML 9.2.3). So this is a whole stream, which
        holds the event ``stream-unavailable`` with a reconnection time drawn at random. A view returns it when it
        cannot decide now whether the client may have its stream, for example because a database cannot be reached.

        :param reason: a few words for a person who reads the bytes; one line.
        :param shutdown: whether this process ends, so that another process will answer soon; default ``False``.
        """
        self._observers.stream_refused(Cause.APP)
        return self._requests.come_back(reason, shutdown=shutdown)

    def _process_ends(self) -> bool:
        # A method, so that the pump's thread keeps its hub alive: the hub tells that thread of forks and the end.
        return is_ending()

    def presence(self, channel: str) -> list[str]:
        """Return the users on a channel, over all processes: sorted, each once.

        They are those with a stream or a long poll for which a view has said ``presence=True``. A user whose last
        stream has ended stays for three times ``retry``, and for 10 seconds at least, as the client may reconnect.
        The first call in a process waits until the other processes have sent their list. That takes up to two
        seconds, and longer if the log is slow.

        :param channel: the channel's name.
        :raises InvalidEvent: the channel's name is invalid.
        :raises SSEError: the system refuses a thread.
        :raises LogError: the log cannot be read, or not be written.
        :raises HubClosed: the hub is closed.
        """
        validate_channel(channel)
        (name,) = names_of(channel)
        self.begin_anew_if_needed()
        return self._presence.people(name)

    def presence_count(self, channel: str) -> int:
        """Return how many users :meth:`presence` would return, without making the list."""
        validate_channel(channel)
        (name,) = names_of(channel)
        self.begin_anew_if_needed()
        return self._presence.count(name)

    def overview(self, *, seconds: float = DEFAULT_SECONDS, most: int = DEFAULT_MOST) -> list[ProcessReport]:
        """Ask all processes that share the log for their open streams. For operators.

        Each process that has had a stream answers, through the log. One that is stopped or very busy may be
        missing.

        :param seconds: for how long to wait for answers; default 0.5.
        :param most: how many streams each process may describe, 0 to 300, default 100: first those for which most
            events wait, then the oldest.
        :raises ValueError: ``most`` is out of range.
        :raises LogError: the log cannot be used.
        :raises OSError: the system gives no descriptor.
        """
        return ask(self.log, seconds=seconds, most=most)

    def debug_page(self, *, allow: Callable[[dict[str, Any]], bool], publishes: bool = True) -> DebugApp:
        """Return a WSGI app with a page for operators; mount it where you like.

        The page shows events as they come with their ids, a channel's history, and the streams of all processes.
        It can publish by hand.

        :param allow: called with the WSGI environ of each request; returns whether it may see everything. Others
            get the status 403.
        :param publishes: whether the page can publish; default ``True``.
        :raises ValueError: ``allow`` cannot be called.
        """
        return DebugApp(self, allow, publishes=publishes)

    def health(self) -> dict[str, Any]:
        """The state of the log and the number of streams, read now.

        It tries everything that publishing needs, and changes nothing. In SQLite a good result is kept for a
        second.

        :raises LogError: an event could not be published now, or the log cannot be read.
        """
        log = {"url": self.url, "lastEventId": self.log.check()}
        return {"log": log, "streams": self.streams, "maxStreams": self.max_streams}

    def queues(self) -> Queues:
        """How many events wait for clients of this process now."""
        return self._pump.queues()

    def log_end(self) -> int:
        """The number of the log's newest event, read now.

        :raises LogError: the log cannot be read.
        """
        return self.log.last_sequence()

    def report(self) -> None:
        """Give the observers the counts of events that were handed on, now and not in a second."""
        self._pump.sent.report()

    def request_close(self) -> None:
        """Begin the end: every stream gets a farewell. This takes no lock, so a signal handler may call it."""
        self._pump.request_close()

    def look_at_clock(self) -> None:
        """Let the pump see that time has passed; see :class:`sse_threaded.testing.FakeClock`."""
        self._pump.look_at_clock()

    def close(self, timeout: float = 2.0) -> None:
        """End all streams with a farewell, then the thread, then the log; idempotent.

        :param timeout: seconds to wait for the pump's thread, which ends when all streams have ended; default 2.
        """
        ends = time.monotonic() + timeout
        self._pump.request_close()
        self._pump.join(timeout)
        self.report()
        if not self._closed:
            self._closed = True
            self._presence.close(ends - time.monotonic())
            self._log.close()

    def before_fork(self) -> None:
        """Hold every lock; called by :mod:`sse_threaded.fanout.lifecycle`."""
        self._pump.before_fork()
        self._log.before_fork()

    def after_fork(self, in_child: bool) -> None:
        """Continue after a fork. The child has no streams. It gets its own connections and its own thread."""
        if in_child:
            self._budget.after_fork_in_child()
            self._answering.after_fork_in_child()
        self._log.after_fork(in_child)
        self._pump.after_fork(in_child)
        if in_child:
            self._presence.after_fork_in_child()
            self._made_in = surroundings()  # last, as others read it without a lock

    def begin_anew_if_needed(self) -> None:
        """Begin again if the process or its kind of threads has changed without notice. Otherwise this is cheap.

        uWSGI forks without Python's hooks. ``gunicorn -k gevent`` patches :mod:`threading` after a preloaded app
        has made its hub. The old locks would stop all greenlets, or let two into one transaction.
        """
        if surroundings() != self._made_in:
            with renewal_lock():
                if surroundings() != self._made_in:
                    self.after_fork(in_child=True)

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
