"""``sse-threaded listen URL``: prints the events of a stream as they come."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from ..errors import SSEError
from ..protocol.decoder import DecodedEvent
from ..protocol.event import encode_event
from .event_source import EventSource

# Seconds between two renewals of the line that shows the progress.
_PROGRESS_SECONDS = 0.2


class _Progress:
    # A line on standard error that shows how much has come. A person sees it if the events go to a file or a pipe.
    def __init__(self, terminal: TextIO | None) -> None:
        self._terminal = terminal
        self._events = 0
        self._bytes = 0
        self._shown_at = float("-inf")
        self._width = 0

    def count(self, data: bytes, event: DecodedEvent) -> None:
        self._events += 1
        self._bytes += len(data)
        if time.monotonic() >= self._shown_at + _PROGRESS_SECONDS:
            self._shown_at = time.monotonic()
            last = f", last id {event.last_event_id}" if event.last_event_id else ""
            self.show(f"{self._amount()}, at {time.strftime('%H:%M:%S')}{last}")

    def show(self, text: str) -> None:
        if self._terminal is not None:
            # One line of the terminal. The server chooses the id, so control characters are left out.
            columns = shutil.get_terminal_size().columns - 1
            line = "".join(filter(str.isprintable, f"sse-threaded: {text}"))[:columns]
            self._terminal.write("\r" + line.ljust(self._width))
            self._terminal.flush()
            self._width = len(line)

    def end(self) -> None:
        if self._terminal is not None:
            self.show(self._amount())
            self._terminal.write("\n")

    def _amount(self) -> str:
        return f"events: {self._events:,}, bytes: {self._bytes:,}"


def listen(url: str, since: str | None, headers: Sequence[str]) -> int:
    """Print the events of a stream until it ends for good; return the exit status 0.

    Standard error reports a fault that may pass, once until the stream is open again. If standard error is a
    terminal and standard output is not, standard error also shows how much has come.

    :param url: the URL of the stream.
    :param since: begin after this event; ``None``: where the server begins.
    :param headers: header fields of the request, each as ``Name: value``.
    :raises SSEError: the stream cannot be read, or an argument is invalid.
    """
    is_counted = sys.stderr.isatty() and not sys.stdout.isatty()
    progress = _Progress(sys.stderr if is_counted else None)
    has_warned = False

    def opened() -> None:
        nonlocal has_warned
        has_warned = False
        progress.show("connected")

    def waiting(reason: str, seconds: float) -> None:
        nonlocal has_warned
        if is_counted:
            progress.show(f"waiting: {reason}; next attempt in {seconds:.1f} s")
        elif not has_warned and reason != "the stream ended":
            print(f"sse-threaded: waiting: {reason}", file=sys.stderr)  # noqa: T201
            has_warned = True

    try:
        source = EventSource(
            url, last_event_id=since or "", headers=_fields(headers), on_open=opened, on_retry=waiting
        )
    except ValueError as error:
        raise SSEError(str(error)) from None
    with source:
        try:
            for event in source:
                name = None if event.event == "message" else event.event
                data = encode_event(event.data, name, event.last_event_id or None)
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
                progress.count(data, event)
        finally:
            progress.end()
    return 0


def _fields(headers: Sequence[str]) -> Mapping[str, str]:
    fields = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise ValueError("a header field has no name; write --header 'Name: value'")
        fields[name.strip()] = value.strip()
    return fields
