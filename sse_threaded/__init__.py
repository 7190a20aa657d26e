"""Server-Sent Events from synchronous WSGI apps: threads, no asyncio, nothing lost.

from pathlib import Path
from sse_threaded import Hub

hub = Hub(Path(__file__).with_name("events.db"))
hub.publish("news", {"title": "Hello"})
response = hub.stream(request, "news")
"""

from .errors import HistoryGone, HubClosed, InvalidEvent, LogError, LogUnavailable, LogUnusable, SSEError
from .hub import Hub
from .log import EventLog, Retention, open_log
from .observer import Observer
from .protocol.event import FINISHED, ServerSentEvent, comment

__all__ = [
    "FINISHED",
    "EventLog",
    "HistoryGone",
    "Hub",
    "HubClosed",
    "InvalidEvent",
    "LogError",
    "LogUnavailable",
    "LogUnusable",
    "Observer",
    "Retention",
    "SSEError",
    "ServerSentEvent",
    "comment",
    "open_log",
]

__version__ = "0.1.0"
