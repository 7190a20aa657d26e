"""``EventSource``: the events of a stream, as an iterator that reconnects by itself."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from types import TracebackType

import requests
from requests.auth import AuthBase

from ..protocol.address import check_url, shown
from ..protocol.decoder import DecodedEvent, EventStreamDecoder
from ..protocol.event import NOTICES
from .connection import READ_BYTES, Connection, Failure, Interrupted, NoContent, Settings
from .errors import EventTooLarge, StreamError, StreamLost
from .reconnection import Reconnection
from .waiting import wait_for

_log = logging.getLogger(__name__)

# The reconnection time until the stream sends one, milliseconds. The standard asks for a few seconds (9.2.2).
RETRY = 3000

# Overload and restarts: faults that pass. A browser gives up on each of them (9.2.3), and a person can reload its
# page. A program has no such person.
RETRY_STATUSES = frozenset((429, 500, 502, 503, 504))

# Seconds. The standard advises servers to send a comment every 15 seconds (9.2.7), and this package's hub does. So
# four of them are missing before a connection counts as dead.
READ_TIMEOUT = 60.0

# Bytes: more than any event of this package has, which is four bytes for each of a million characters.
MAX_EVENT_BYTES = 16 * 1024 * 1024


class EventSource:
    """An event stream as an iterator over its events, across connections (WHATWG HTML 9.2); a context manager.

    When the connection ends, breaks or stays silent, the iterator waits, connects again and sends its last event
    ID. A break in the middle of an event drops this event, and the server sends it again. The iteration ends after
    the answer 204, and after ``close``. One thread iterates; any thread may close. After a ``break``, a second
    ``for`` goes on with the next event. The events ``reset`` and ``stream-finished`` are given like others.

    ::

        with EventSource("https://app.example/orders/events", auth=("user", "password")) as source:
            for event in source:
                print(event.event, event.data)

    :param url: an ``http://`` or ``https://`` URL.
    :param last_event_id: the stream resumes after this event; default ``""``: where the server begins.
    :param headers: header fields of each request; default ``None``. They override those of this client.
    :param auth: an authentication object of requests, or a pair of user name and password. It is called for each
        request, so it can renew a token. Default ``None``.
    :param session: a session of requests, with its own proxies, certificates, cookies and adapters. ``close``
        leaves it open. Default ``None``: a new one, which follows the environment (``HTTPS_PROXY``, ``.netrc``).
    :param notices: whether the events are given that a stream sends about itself: ``stream-start``, ``stream-end``
        and ``stream-unavailable``. Default ``False``; their ids and reconnection times count anyway.
    :param retry: milliseconds from the end of a connection to the next, until the stream sends another time;
        default 3000.
    :param max_backoff: seconds that failures add to this time at most. The first adds at most 1 second, and each
        further one in a row doubles that. Default 60.
    :param max_failures: how many attempts in a row may fail; default ``None``: any number.
    :param retry_statuses: statuses after which the client tries again, and waits at least for ``Retry-After``;
        by default these are 429, 500, 502, 503 and 504. A browser gives up on these.
    :param connect_timeout: seconds until the connection exists; default 10.
    :param read_timeout: seconds without a byte after which the connection counts as dead, before the head of the
        answer too. Default 60, which is four heartbeats of a usual server. Set it to at least twice the time
        between two heartbeats of the server. ``None``: no limit, for a server without heartbeats. The client then
        does not notice a dead connection.
    :param max_event_bytes: bytes of an event, and of a line, at most. The client checks them with each read, which
        returns up to 64 KiB. Default 16 MiB, at least 64 KiB.
    :param on_open: called on the thread that iterates, each time when a stream begins; default ``None``.
    :param on_retry: called on this thread before each wait, with the reason and the seconds; default ``None``.
    :raises ValueError: an argument is invalid.
    :ivar url: as given.
    :ivar last_event_id: the last event ID after the event that the iterator gave last. A program that stores it
        and passes it to a new ``EventSource`` misses no event.
    """

    def __init__(
        self,
        url: str,
        *,
        last_event_id: str = "",
        headers: Mapping[str, str] | None = None,
        auth: AuthBase | tuple[str, str] | None = None,
        session: requests.Session | None = None,
        notices: bool = False,
        retry: int = RETRY,
        max_backoff: float = 60.0,
        max_failures: int | None = None,
        retry_statuses: Collection[int] = RETRY_STATUSES,
        connect_timeout: float = 10.0,
        read_timeout: float | None = READ_TIMEOUT,
        max_event_bytes: int = MAX_EVENT_BYTES,
        on_open: Callable[[], None] | None = None,
        on_retry: Callable[[str, float], None] | None = None,
    ) -> None:
        check_url(url)
        _check_id(last_event_id)
        _check_number("retry", retry, int, 0)
        _check_number("max_backoff", max_backoff, float, 0)
        _check_number("connect_timeout", connect_timeout, float, _LEAST_SECONDS)
        _check_number("max_event_bytes", max_event_bytes, int, READ_BYTES)
        if read_timeout is not None:
            _check_number("read_timeout", read_timeout, float, _LEAST_SECONDS)
        if max_failures is not None:
            _check_number("max_failures", max_failures, int, 1)
        if any(name.lower() == "last-event-id" for name in headers or {}):
            raise ValueError("give the last event ID as last_event_id=, not as a header field")
        self.url = url
        self.last_event_id = last_event_id
        self._settings = Settings(dict(headers or {}), auth, connect_timeout, read_timeout, retry_statuses)
        self._session = session if session is not None else requests.Session()
        self._owns_session = session is None
        self._hidden = frozenset[str]() if notices else NOTICES
        self._max_failures = max_failures
        self._max_event_bytes = max_event_bytes
        self._on_open = on_open
        self._on_retry = on_retry

        # Only the thread that holds _iterating uses these.
        self._iterating = threading.Lock()
        self._current_url = url
        self._decoder = EventStreamDecoder(last_event_id, retry)
        self._reconnection = Reconnection(max_backoff)
        self._events: deque[DecodedEvent] = deque()  # decoded, and not yet given
        self._opened = False  # the connection is an event stream
        self._has_bytes = False  # it has brought some

        # Guards the two below. A signal handler on the thread that iterates may call close(), so the lock of this
        # condition is one that a thread may take twice.
        self._changed = threading.Condition()
        self._connection: Connection | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the iteration has ended for good."""
        return self._closed

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<EventSource {shown(self.url)} {state} last_event_id={self.last_event_id!r}>"

    def __iter__(self) -> EventSource:
        return self

    def __next__(self) -> DecodedEvent:
        """Return the next event; wait for it, and reconnect, if necessary.

        :raises StopIteration: the server answered 204, or the client is closed.
        :raises StreamRefused: the answer is not an event stream, such as after 401 or with another content type.
        :raises StreamLost: ``max_failures`` attempts in a row have failed.
        :raises EventTooLarge: an event is larger than ``max_event_bytes``.
        :raises RuntimeError: another thread is iterating.
        """
        if not self._iterating.acquire(blocking=False):
            raise RuntimeError("another thread iterates over this EventSource; make one for each thread")
        try:
            event = self._next_event()
        except StreamError:
            self._closed = True
            raise
        except (NoContent, Interrupted):
            self._closed = True
            raise StopIteration from None
        except BaseException:  # of an authentication object or a callback, or Ctrl-C
            # The next call connects again, after the event that was given last: Ctrl-C may have come anywhere.
            self._disconnect()
            self._events.clear()
            self._decoder = EventStreamDecoder(self.last_event_id, self._decoder.retry)
            raise
        finally:
            self._iterating.release()
            if self.closed:
                self._clean_up()
        return event

    def close(self) -> None:
        """End the iteration, also one that waits on another thread; may be called twice.

        A signal handler may call it too.
        """
        with self._changed:
            self._closed = True
            connection = self._connection
            self._changed.notify_all()
        if connection is not None:
            connection.interrupt()
        self._clean_up()

    def __enter__(self) -> EventSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _clean_up(self) -> None:
        # A thread that iterates does this when it leaves. So the connection is closed by the thread that reads.
        if not self._iterating.acquire(blocking=False):
            return
        try:
            self._disconnect()
            self._events.clear()
            if self._owns_session:
                self._session.close()
        finally:
            self._iterating.release()

    def _next_event(self) -> DecodedEvent:
        while True:
            if self.closed:
                raise Interrupted
            if self._events:
                event = self._events.popleft()
                self.last_event_id = event.last_event_id
                if event.event not in self._hidden:
                    return event
                continue
            self.last_event_id = self._decoder.last_event_id  # an id may come without an event
            try:
                self._receive(self._opened_connection())
            except Failure as failure:
                if self.closed:
                    raise Interrupted from None
                self._disconnect()
                self._reconnection.failures += 1
                self._wait(failure.reason, failure.retry_after)

    def _opened_connection(self) -> Connection:
        with self._changed:
            if self.closed:
                raise Interrupted
            if self._connection is None:
                self._connection = Connection(
                    self._session, self._current_url, self._decoder.last_event_id, self._settings
                )
            connection = self._connection
        if not self._opened:
            connection.open()
            self._opened = True
            self._current_url = connection.lasting_url()
            # The bytes of an unfinished event belong to the connection that has ended.
            self._decoder = EventStreamDecoder(self._decoder.last_event_id, self._decoder.retry)
            self._has_bytes = False
            if self._on_open is not None:
                self._on_open()
        return connection

    def _receive(self, connection: Connection) -> None:
        data = connection.read()
        if data:
            self._has_bytes = True
            self._reconnection.failures = 0
            self._events.extend(self._decoder.feed(data))
            # A read has at most as many bytes as the least limit. So no event of this read is lost by the error.
            if self._decoder.unfinished_bytes > self._max_event_bytes:
                raise EventTooLarge(shown(self.url), self._max_event_bytes)
        elif self.closed:
            raise Interrupted
        elif not self._has_bytes:
            raise Failure("the stream ended before its first byte")
        else:
            self._disconnect()
            self._wait("the stream ended")

    def _wait(self, reason: str, retry_after: float = 0.0) -> None:
        failures = self._reconnection.failures
        if self._max_failures is not None and failures >= self._max_failures:
            raise StreamLost(shown(self.url), reason, failures)
        retry = self._decoder.retry
        seconds = self._reconnection.wait(RETRY if retry is None else retry, retry_after)
        url = shown(self.url)
        fields = {"event": "client_reconnects", "url": url, "reason": reason, "seconds": round(seconds, 3)}
        _log.info("%s: %s; next attempt in %.3g s", url, reason, seconds, extra=fields)
        if self._on_retry is not None:
            self._on_retry(reason, seconds)
        with self._changed:
            wait_for(self._changed, lambda: self._closed, seconds)

    def _disconnect(self) -> None:
        with self._changed:
            connection, self._connection = self._connection, None
        self._opened = False
        if connection is not None:
            connection.close()


# Seconds, the least for a time-out: a shorter one would end every connection.
_LEAST_SECONDS = 0.001


def _check_number(name: str, value: object, kind: type[int] | type[float], least: float) -> None:
    numbers = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, numbers) or not least <= value < float("inf"):
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} must be {what} of at least {least}, not {value!r}")


def _check_id(value: object) -> None:
    if not isinstance(value, str) or any(character in value for character in "\r\n\0"):
        raise ValueError(f"last_event_id must be text without CR, LF and NUL, not {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"last_event_id must have a UTF-8 form, and {value!r} has none") from None
