"""Reads the stream in the response of a framework's own test client, which would read an endless one for ever."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from ..protocol.decoder import DecodedEvent, EventStreamDecoder
from ..protocol.event import NOTICES
from .errors import StreamEnded, StreamTimeout

_DEFAULT_SECONDS = 10.0


class StreamedResponse:
    """The events of one response. A thread reads it, and every wait has a deadline. A context manager.

    ::

        with StreamedResponse(client.get("/orders/events")) as stream:
            client.post("/orders", data={"item": "tea"})
            assert stream.next_event().data == '{"item":"tea"}'

    The stream has begun when this object exists, so that it gets each event that is published then. Use it only
    where the test client and the app are in one process.

    :param response: that of Flask's, Werkzeug's or Django's test client, without ``buffered=True``.
    :param timeout: seconds for each wait without its own timeout; default 10.
    :raises StreamTimeout: the response gives no bytes in time.
    :raises TypeError: it is no such response.
    """

    def __init__(self, response: Any, timeout: float = _DEFAULT_SECONDS) -> None:
        body = getattr(response, "streaming_content", None)  # Django's
        if body is None:
            body = getattr(response, "response", None)
        if body is None or not callable(getattr(response, "close", None)):
            raise TypeError(f"StreamedResponse takes the response of a test client, not {response!r}")
        self._response = response
        self._timeout = timeout
        self._chunks: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
        self._decoder = EventStreamDecoder()
        self._events: list[DecodedEvent] = []
        self._ended = False
        self.raw = b""
        thread = threading.Thread(target=self._read, args=(body,), name="sse_threaded test response", daemon=True)
        thread.start()
        try:
            self._wait(lambda: bool(self.raw), None, "the first bytes")
        except StreamEnded:
            pass  # an empty body, such as that of a 204

    def _read(self, body: Iterable[bytes]) -> None:
        try:
            for chunk in body:
                if chunk:
                    self._chunks.put(bytes(chunk))
        except BaseException as error:
            self._chunks.put(error)
        finally:
            self._chunks.put(None)

    @property
    def last_event_id(self) -> str:
        """The last event ID of the stream so far; ``""`` before the first."""
        return self._decoder.last_event_id

    @property
    def ended(self) -> bool:
        """Whether the stream was read to its end."""
        return self._ended

    def next_event(self, timeout: float | None = None) -> DecodedEvent:
        """Wait for the next event of the app and return it.

        :param timeout: seconds; default ``None``: the timeout of this object.
        :raises StreamTimeout: no event comes in time.
        :raises StreamEnded: the stream ends first.
        """
        return self.events(1, timeout)[0]

    def events(self, count: int, timeout: float | None = None) -> list[DecodedEvent]:
        """Wait for the next ``count`` events; see :meth:`next_event`."""
        self._wait(lambda: len(self._events) >= count, timeout, f"{count} events")
        found, self._events = self._events[:count], self._events[count:]
        return found

    def pending(self) -> list[DecodedEvent]:
        """Return the events that have come and were not returned yet, without waiting."""
        while not self._chunks.empty():
            self._take(0.0)
        found, self._events = self._events, []
        return found

    def wait_for_end(self, timeout: float | None = None) -> None:
        """Read to the end of the stream.

        :raises StreamTimeout: it does not end in time.
        """
        self._wait(lambda: self._ended, timeout, "the end of the stream")

    def close(self) -> None:
        """End the stream, as a client does that closes its connection; idempotent."""
        self._response.close()

    def _wait(self, condition: Any, timeout: float | None, what: str) -> None:
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        while not condition():
            if self._ended:
                raise StreamEnded(
                    f"waited for {what}, but the stream has ended; its last bytes: {self.raw[-300:]!r}"
                )
            left = deadline - time.monotonic()
            if left <= 0 or not self._take(left):
                raise StreamTimeout(f"{what} did not come in time; the last bytes: {self.raw[-300:]!r}")

    def _take(self, seconds: float) -> bool:
        """Take in the next chunk; returns whether there was one in time.

        :raises Exception: the error of the app's own iterable.
        """
        try:
            chunk = self._chunks.get(timeout=seconds)
        except queue.Empty:
            return False
        if chunk is None:
            self._ended = True
        elif isinstance(chunk, BaseException):
            raise chunk
        else:
            self.raw += chunk
            self._events += [event for event in self._decoder.feed(chunk) if event.event not in NOTICES]
        return True

    def __enter__(self) -> StreamedResponse:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
