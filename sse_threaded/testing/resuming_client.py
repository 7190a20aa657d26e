"""A client that behaves as the browser's ``EventSource`` does: it comes back and resumes by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from ..protocol.decoder import DecodedEvent
from .errors import BadResponse, Fault, StreamEnded, StreamTimeout
from .stream_client import EventStreamClient

# The reconnection time until the stream names one; the standard leaves it to the browser (9.2.2).
_DEFAULT_RETRY_MS = 3000

# How long the thread reads before it looks again whether it is to stop; stop() cuts its connection, so
# this is met only when that cut falls between two connections.
_READ_SECONDS = 1.0


class ResumingClient:
    """A thread that follows one event stream across connections (WHATWG HTML 9.2.3); a context manager.

    When the connection ends, fails or is refused, it waits the reconnection time and comes back with its
    last event ID. As a browser it gives up for good on a status other than 200 and on another content
    type; :attr:`failure` then says why, and every wait raises ``StreamEnded``.

    ::

        with ResumingClient(url, retry_factor=0.01) as client:
            ...  # publish, kill servers, start them again
            client.wait_for(lambda: client.ids[-1:] == published[-1:], timeout=30)
        assert client.ids == published

    :param url: an ``http://`` URL.
    :param last_event_id: what to resume after at first; default ``""``, nothing.
    :param headers: further request header fields.
    :param retry_factor: what every reconnection time is multiplied with, so that tests are fast; default 1.
    :param timeout: seconds for connecting, for the response's head, and for each wait that is given no
        time of its own; default 10.
    """

    def __init__(
        self,
        url: str,
        *,
        last_event_id: str = "",
        headers: dict[str, str] | None = None,
        retry_factor: float = 1.0,
        timeout: float = 10.0,
    ) -> None:
        self.url = url
        self.timeout = timeout
        self._headers = headers
        self._retry_factor = retry_factor
        self._stopping = threading.Event()
        self._changed = threading.Condition()  # guards what follows; notified after each change
        self._events: list[DecodedEvent] = []
        self._last_event_id = last_event_id
        self._retry = _DEFAULT_RETRY_MS
        self._connections = 0
        self._failure: str | None = None
        self._client: EventStreamClient | None = None
        self._thread = threading.Thread(target=self._run, name=f"ResumingClient {url}", daemon=True)

    @property
    def events(self) -> list[DecodedEvent]:
        """Every event so far, resets too, in the order they came."""
        with self._changed:
            return list(self._events)

    @property
    def ids(self) -> list[str]:
        """The ids of the events so far, without the resets; an event that came twice is there twice."""
        with self._changed:
            return [event.last_event_id for event in self._events if event.event != "reset"]

    @property
    def resets(self) -> list[DecodedEvent]:
        """The ``reset`` events so far: how often, and why, the stream could not be resumed."""
        with self._changed:
            return [event for event in self._events if event.event == "reset"]

    @property
    def last_event_id(self) -> str:
        """What the next connection will resume after."""
        with self._changed:
            return self._last_event_id

    @property
    def retry(self) -> int:
        """The reconnection time in milliseconds, as the stream named it; at first 3000."""
        with self._changed:
            return self._retry

    @property
    def connections(self) -> int:
        """How many connections were answered with an event stream so far."""
        with self._changed:
            return self._connections

    @property
    def failure(self) -> str | None:
        """Why it gave up for good, or ``None``."""
        with self._changed:
            return self._failure

    def wait_for(self, condition: Callable[[], bool], timeout: float | None = None, what: str = "it") -> None:
        """Wait until ``condition()`` holds; it is asked after each event, and first of all.

        :param timeout: seconds; default ``None``, the client's.
        :param what: named in the error's text.
        :raises StreamTimeout: when it does not hold in time.
        :raises StreamEnded: when the client has given up.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        with self._changed:
            while not condition():
                seen = f"{len(self._events)} events on {self._connections} connections to {self.url}"
                if self._failure is not None:
                    raise StreamEnded(f"waited for {what}, but after {seen}: {self._failure}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise StreamTimeout(f"{what} did not come in time; {seen}")
                self._changed.wait(left)

    def wait_for_events(self, count: int, timeout: float | None = None) -> list[DecodedEvent]:
        """Wait until ``count`` events have come since the start, and return all; as :meth:`wait_for`."""
        self.wait_for(lambda: len(self._events) >= count, timeout, f"{count} events")
        return self.events

    def wait_for_connections(self, count: int = 1, timeout: float | None = None) -> None:
        """Wait until ``count`` connections were answered with an event stream; as :meth:`wait_for`."""
        self.wait_for(lambda: self._connections >= count, timeout, f"{count} connections")

    def start(self) -> ResumingClient:
        """Start following the stream; return the client."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Leave the stream and end the thread; may be called twice.

        :raises StreamTimeout: when the thread does not end in ``timeout`` seconds.
        """
        self._stopping.set()
        deadline = time.monotonic() + self.timeout
        while self._thread.is_alive():
            with self._changed:
                client = self._client
            if client is not None:
                client.interrupt()
            self._thread.join(0.02)
            if time.monotonic() > deadline:
                raise StreamTimeout(f"the thread that follows {self.url} does not end")

    def __enter__(self) -> ResumingClient:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopping.is_set():
            client = EventStreamClient(
                self.url, last_event_id=self._last_event_id or None, headers=self._headers, timeout=self.timeout
            )
            with self._changed:
                self._client = client
            try:
                self._follow(client)
            except BadResponse as error:
                # A browser would come back; a test should rather be told that the server is broken.
                self._give_up(str(error))
            except (Fault, OSError):
                pass  # ended, cut, silent or refused: come back (9.2.3, reestablish the connection)
            finally:
                client.close()
                with self._changed:
                    self._last_event_id = client.last_event_id
                    self._client = None
            if self._failure is not None or self._stopping.wait(self.retry * self._retry_factor / 1000):
                return

    def _follow(self, client: EventStreamClient) -> None:
        client.open()
        kind = client.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if client.status != 200 or kind != "text/event-stream":
            self._give_up(f"the answer was {client.status} {kind}, which ends an EventSource for good")
            return
        with self._changed:
            self._connections += 1
            self._changed.notify_all()
        while not self._stopping.is_set():
            try:
                client.wait_for(client.has_events, _READ_SECONDS)
            except StreamTimeout:
                continue
            finally:
                # On the way out too: the last bytes of a stream may be a farewell's retry.
                with self._changed:
                    self._events += client.pending()
                    self._last_event_id = client.last_event_id
                    self._retry = self._retry if client.retry is None else client.retry
                    self._changed.notify_all()

    def _give_up(self, reason: str) -> None:
        with self._changed:
            self._failure = reason
            self._changed.notify_all()
