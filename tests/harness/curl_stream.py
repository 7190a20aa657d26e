"""An event stream over HTTP/2, read by curl.

with CurlStream(nginx.url + "/boards/board-1/events", nginx.certificate) as stream:
    stream.next_event()
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from sse_threaded.protocol.decoder import DecodedEvent, EventStreamDecoder
from sse_threaded.protocol.event import NOTICES
from tests.support import missing, wait_until

_SECONDS = 30


class CurlStream:
    """One event stream, read by curl over HTTP/2 until the ``with`` is left.

    :param url: where.
    :param trusted: the server's certificate; default ``None``, none is needed.
    :param args: further arguments of curl's.
    :ivar head: the response's head in lower case, ``""`` before it came.
    :ivar raw: the body so far; ``events`` those in it that were not asked for.
    :ivar ended: whether the body has ended, or was cut.
    """

    def __init__(self, url: str, trusted: Path | None = None, *args: str) -> None:
        if shutil.which("curl") is None:
            missing("curl (apt-get install curl)")
        trust = ["--cacert", str(trusted)] if trusted else []
        self._command = ["curl", "-sSNi", "--http2", *trust, "-H", "Accept: text/event-stream", *args, url]
        self._received = b""
        self._decoder = EventStreamDecoder()
        self.events: deque[DecodedEvent] = deque()
        self.head = ""
        self.raw = b""
        self.ended = False

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait until ``condition()`` is true, and show what was received if it does not become so."""
        try:
            wait_until(condition, timeout=_SECONDS, message=what)
        except AssertionError as error:
            raise AssertionError(f"{error}; received: {self._received!r}") from None

    def wait_for_id(self) -> None:
        """Wait for the first bytes of a stream of this package."""
        self.wait_for(lambda: b"\nid: " in self.raw, "the first bytes")

    def wait_for_end(self) -> None:
        """Wait until the body has ended."""
        self.wait_for(lambda: self.ended, "the end")

    def next_event(self) -> DecodedEvent:
        """Wait for the next event."""
        self.wait_for(lambda: self.events, "an event")
        return self.events.popleft()

    def close(self) -> None:
        """Hang up."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> CurlStream:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while piece := os.read(self._process.stdout.fileno(), 65536):
            self._received += piece
            if not self.head:
                head, found, piece = self._received.partition(b"\r\n\r\n")
                if not found:
                    continue
                self.head = head.decode("latin-1").lower()
            self.raw += piece
            self.events += (event for event in self._decoder.feed(piece) if event.event not in NOTICES)
        self.ended = True
