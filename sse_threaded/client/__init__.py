"""A client of event streams for Python programs. It needs the extra ``client``, which installs requests.

The thread that iterates does the reading. For each connection a second, short thread waits for the head of the
answer, so that ``close`` of another thread ends every wait at once::

    from sse_threaded.client import EventSource

    for event in EventSource("http://localhost:3000/boards/board-1/events"):
        print(event.last_event_id, event.data)
"""

from __future__ import annotations

try:
    import requests as _requests  # noqa: F401
except ImportError:
    _HOW = "pip install 'requests>=2.32' 'urllib3>=2.6'"
    raise ImportError(f"sse_threaded.client needs requests: {_HOW}") from None

from ..protocol.decoder import DecodedEvent
from .errors import EventTooLarge, StreamError, StreamLost, StreamRefused
from .event_source import EventSource

__all__ = ["DecodedEvent", "EventSource", "EventTooLarge", "StreamError", "StreamLost", "StreamRefused"]
