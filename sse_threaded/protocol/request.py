"""What a request for events asks for, whichever framework it came through."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from .event import CONTENT_TYPE


class HasEnviron(Protocol):
    """A request of Werkzeug, Flask or Django: anything with the WSGI environ."""

    @property
    def environ(self) -> dict[str, Any]:
        """The WSGI environ."""


# Characters of an Accept header whose meaning is kept: browsers' have some 100, and a client can send any.
_KEPT_LENGTH = 256


def best_kind(accept: str) -> str | None:
    """Which of the two kinds an ``Accept`` header wants, ``None`` for neither."""
    return _kept_kind(accept) if len(accept) <= _KEPT_LENGTH else _best_kind(accept)


def _best_kind(accept: str) -> str | None:
    accepted = parse_accept_header(accept, MIMEAccept)
    # Parameters (;charset=utf-8) say nothing here; both forms are UTF-8.
    accepted = MIMEAccept([(kind.partition(";")[0].strip(), quality) for kind, quality in accepted])
    best = accepted.best_match(["text/event-stream", "application/json"]) if accepted else "text/event-stream"
    return CONTENT_TYPE if best == "text/event-stream" else best


_kept_kind = lru_cache(maxsize=256)(_best_kind)


def last_event_id(environ: Mapping[str, Any]) -> str | None:
    """After which event the client wants to go on, ``None`` to begin now.

    The header wins over ``?lastEventId=``: on a reconnection it is newer than what was once written into the URL.
    Of several in the URL the last wins: some clients append theirs to the one that the page was rendered with.
    """
    # An empty one is none (9.2.2: EventSource does not send it).
    header: str = environ.get("HTTP_LAST_EVENT_ID", "")
    if header or "lastEventId" not in environ.get("QUERY_STRING", ""):
        return header or None
    values = [value for name, value in parse_qsl(environ["QUERY_STRING"]) if name == "lastEventId"]
    return values[-1] if values else None


def answers_one_at_a_time(environ: Mapping[str, Any]) -> bool:
    """Whether the server answers one request after the other, so that an open stream keeps all others waiting."""
    if not environ.get("wsgi.multithread", True):
        return not _is_gevents_own(environ)
    # Django's server says that it has threads, with --nothreading too. With them each request is on a thread that
    # has this name from socketserver's method.
    is_djangos = str(environ.get("SERVER_SOFTWARE")).startswith("WSGIServer/") and "wsgi.file_wrapper" in environ
    return is_djangos and "process_request_thread" not in threading.current_thread().name


def _is_gevents_own(environ: Mapping[str, Any]) -> bool:
    """Whether the server is gevent's without gunicorn: a greenlet for each request, which it calls no threads."""
    name = str(environ.get("SERVER_SOFTWARE"))
    return name.startswith("gevent/") and "gunicorn" not in name


def is_made_by_hand(environ: Mapping[str, Any]) -> bool:
    """Whether a test client made the environ, such as Werkzeug's, Flask's or Django's, and not a server."""
    # Servers say who they are or offer to send files, mostly both; and read a body from the connection. Falcon's
    # client says that it is gunicorn; bjoern, a server, has read the body before.
    if "wsgi.file_wrapper" in environ:
        return False
    return "SERVER_SOFTWARE" not in environ or isinstance(environ.get("wsgi.input"), BytesIO)


def connection(environ: Mapping[str, Any]) -> Any:
    """The socket that the request came by, to watch and to cut; ``None`` if it is not known, or not its own."""
    # In HTTP/2 it is shared with other requests.
    if str(environ.get("SERVER_PROTOCOL", "")).startswith("HTTP/1"):
        # gunicorn.sock: of its gevent_pywsgi.
        names = ("gunicorn.socket", "werkzeug.socket", "gunicorn.sock")
        found = next((environ[name] for name in names if environ.get(name) is not None), None)
        # gevent's has the system's inside. Whoever looks at that one, or cuts it, neither waits nor disturbs the
        # greenlet that sends.
        return getattr(found, "_sock", found)
    return None


def holds_up_others(environ: Mapping[str, Any]) -> bool:
    """Whether the server answers nothing else on the client's connection until this response has ended.

    So do gunicorn's workers in HTTP/2, and the connection is that of a browser with all its pages, or of a proxy
    with all its clients.
    """
    return "gunicorn.socket" in environ and str(environ.get("SERVER_PROTOCOL")).startswith("HTTP/2")


class Bridge(NamedTuple):
    """What calls the app in place of a WSGI server, and passes on responses in a way of its own."""

    fault: str  # a sentence's beginning, for a log
    can_stream: bool


_HIDES_HANG_UPS = "does not tell that a client has gone, so that its stream holds a thread until its lease ends"

# By the module that calls the app.
_BRIDGES = {
    "tornado.wsgi": Bridge("Tornado sends a response when all of it is there, and a stream has no end", False),
    "asgiref.wsgi": Bridge("asgiref's WsgiToAsgi runs one request at a time, and a stream is one", False),
    "a2wsgi.wsgi": Bridge(f"a2wsgi {_HIDES_HANG_UPS}", True),
    "starlette.middleware.wsgi": Bridge(f"Starlette's WSGIMiddleware {_HIDES_HANG_UPS}", True),
}


def calling_bridge() -> Bridge | None:
    """The bridge that has called the app on this thread; ``None`` where a server has."""
    # The environ does not tell. So the calls that lead here do, if such a module is loaded at all.
    loaded = _BRIDGES.keys() & sys.modules.keys()
    frame = sys._getframe() if loaded else None
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if name in loaded:
            return _BRIDGES[name]
        frame = frame.f_back
    return None


def has_a_thread_of_its_own(environ: Mapping[str, Any]) -> bool:
    """Whether the server starts a thread for each request, so that a stream takes one from nobody."""
    # Werkzeug's server, gevent's, and Django's, which is the standard library's.
    if "werkzeug.socket" in environ or _is_gevents_own(environ):
        return True
    return str(environ.get("SERVER_SOFTWARE")).startswith("WSGIServer/")
