"""Reads from a request for events which kind and which events it wants, in any framework."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from .event import CONTENT_TYPE


class HasEnviron(Protocol):
    """A request of Werkzeug, Flask or Django: any object with the WSGI environ."""

    @property
    def environ(self) -> dict[str, Any]:
        """The WSGI environ."""


class WantedEvents(NamedTuple):
    """The events that a client asks for.

    :ivar kind: the content type that its ``Accept`` header prefers (RFC 9110, section 12.5.1): that of an event
        stream or ``application/json``; ``None`` if the header accepts neither. Without a header it is that of an
        event stream.
    :ivar names_channel: whether each event shall name its channel: the URL has ``withChannel=1``.
    :ivar last_event_id: the id of the event after which the client wants to go on; ``None``: begin now (WHATWG
        HTML 9.2.4).
    """

    kind: str | None
    last_event_id: str | None
    names_channel: bool = False


# Results for Accept headers up to this length, in characters, are kept. Browsers send about 100 characters, and a
# client can send any number.
_KEPT_LENGTH = 256


def wanted_events(environ: Mapping[str, Any]) -> WantedEvents:
    """Return the events that a request asks for.

    The header ``Last-Event-ID`` wins over ``?lastEventId=``: on a reconnection it is newer than the value in the
    URL. If the URL has several, the last one wins: some clients append theirs to the one that the page was
    rendered with.

    :param environ: the request's WSGI environ.
    """
    accept = environ.get("HTTP_ACCEPT", "")
    kind = _kept_kind(accept) if len(accept) <= _KEPT_LENGTH else _best_kind(accept)
    # An empty one counts as missing; EventSource does not send it (9.2.2).
    last_event_id = environ.get("HTTP_LAST_EVENT_ID") or None
    query = environ.get("QUERY_STRING", "")
    if last_event_id is None and "lastEventId" in query:
        values = [value for name, value in parse_qsl(query) if name == "lastEventId"]
        last_event_id = values[-1] if values else None
    names_channel = "withChannel" in query and ("withChannel", "1") in parse_qsl(query)
    return WantedEvents(kind, last_event_id, names_channel)


def _best_kind(accept: str) -> str | None:
    accepted = parse_accept_header(accept, MIMEAccept)
    # Parameters (;charset=utf-8) do not matter here; both types are UTF-8.
    accepted = MIMEAccept([(kind.partition(";")[0].strip(), quality) for kind, quality in accepted])
    best = accepted.best_match(["text/event-stream", "application/json"]) if accepted else "text/event-stream"
    return CONTENT_TYPE if best == "text/event-stream" else best


_kept_kind = lru_cache(maxsize=256)(_best_kind)
