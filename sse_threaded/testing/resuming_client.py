"""A client that behaves like the browser's ``EventSource``: it reconnects and resumes by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from ..protocol.decoder import DecodedEvent
from .errors import BadResponse, Fault, StreamEnded, StreamTimeout
from .stream_client import EventStreamClient

# The reconnection time until the stream sends one. The standard leaves it to the browser (WHATWG HTML 9.2.2).
_DEFAULT_RETRY_MS = 3000

# How long the thread reads before it checks again whether it must stop. stop() cuts the connection, so this time
# matters only when the cut falls between two connections.
_READ_SECONDS = 1.0


class ResumingClient:
    """A thread that follows one event stream across connections (WHATWG HTML 9.2.3); a context manager.

    When the connection ends, fails or is refused, the client waits for the reconnection time and reconnects with
    its last event ID. Like a browser it gives up for good on a status other than 200 and on another content type.
    Then
    :attr:`failure` says why, and every wait raises ``StreamEnded``.

    ::

        with ResumingClient(url, retry_factor=0.01) as client:
            ...  # publish, kill servers, start them again
            client.wait_for(lambda: client.ids[-1:] == published[-1:], timeout=30)
        assert client.ids == published

    :param url: an ``http://`` URL.
    :param last_event_id: the id to resume after at first; default ``""``: none.
    :param headers: further request header fields.
    :param retry_factor: the client multiplies every reconnection time by it, so that tests are fast; default 1.
    :param timeout: seconds for connecting, for the head of the response, and for each wait without its own
        timeout; default 10.
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
        self._changed = threading.Condition()  # guards the attributes below; notified after each change
        self._events: list[DecodedEvent] = []
        self._last_event_id = last_event_id
        self._retry = _DEFAULT_RETRY_MS
        self._connections = 0
        self._failure: str | None = None
        self._client: EventStreamClient | None = None
        self._thread = threading.Thread(target=self._run, name=f"ResumingClient {url}", daemon=True)

    @property
    def events(self) -> list[DecodedEvent]:
        """Every event so far, resets too, in the order in which they came."""
        with self._changed:
            return list(self._events)

    @property
    def ids(self) -> list[str]:
        """The ids of the events so far, without the resets; an event that came twice is in it twice."""
        with self._changed:
            return [event.last_event_id for event in self._events if event.event != "reset"]

    @property
    def resets(self) -> list[DecodedEvent]:
        """The ``reset`` events so far; each says why the stream could not be resumed."""
        with self._changed:
            return [event for event in self._events if event.event == "reset"]

    @property
    def last_event_id(self) -> str:
        """The last event ID, which the next connection will send."""
        with self._changed:
            return self._last_event_id

    @property
    def retry(self) -> int:
        """The reconnection time in milliseconds that the stream sent last; at first 3000."""
        with self._changed:
            return self._retry

    @property
    def connections(self) -> int:
        """How many connections so far were answered with an event stream."""
        with self._changed:
            return self._connections

    @property
    def failure(self) -> str | None:
        """Why the client gave up for good, or ``None``."""
        with self._changed:
            return self._failure

    def wait_for(self, condition: Callable[[], bool], timeout: float | None = None, what: str = "it") -> None:
        """Wait until ``condition()`` is true. It is called at once, and again after each event.

        :param timeout: seconds; default ``None``: the timeout of the client.
        :param what: a name of the condition, for the text of the error.
        :raises StreamTimeout: it does not become true in time.
        :raises StreamEnded: the client has given up.
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
        """Wait until ``count`` events have come since the start; return all of them; see :meth:`wait_for`."""
        self.wait_for(lambda: len(self._events) >= count, timeout, f"{count} events")
        return self.events

    def wait_for_connections(self, count: int = 1, timeout: float | None = None) -> None:
        """Wait until ``count`` connections were answered with an event stream; see :meth:`wait_for`."""
        self.wait_for(lambda: self._connections >= count, timeout, f"{count} connections")

    def start(self) -> ResumingClient:
        """Start following the stream; return the client."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the stream and end the thread; may be called twice.

        :raises StreamTimeout: the thread does not end within ``timeout`` seconds.
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
                # A browser would reconnect; a test needs to know that the server is broken.
                self._give_up(str(error))
            except (Fault, OSError):
                pass  # ended, cut, silent or refused: reconnect (WHATWG HTML 9.2.3)
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
                # Also at the end of the stream: its last bytes may be a farewell with a retry field.
                with self._changed:
                    self._events += client.pending()
                    self._last_event_id = client.last_event_id
                    self._retry = self._retry if client.retry is None else client.retry
                    self._changed.notify_all()

    def _give_up(self, reason: str) -> None:
        with self._changed:
            self._failure = reason
            self._changed.notify_all()
