"""Facts about the program that calls the app: a WSGI server, or a bridge from another protocol.

The environ and the call stack show them. A stream lasts for minutes. So it matters which threads the server has,
whether it answers other requests during this time, and whether the client's socket can be watched. Every function
here runs on the thread that calls the app.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping
from io import BytesIO
from typing import Any, NamedTuple

_log = logging.getLogger("sse_threaded.hub")  # the name that users filter by

_GTHREAD = "gunicorn -k sse_threaded.worker.ThreadWorker --threads 8"


class Bridge(NamedTuple):
    """A program that calls the app in place of a WSGI server, and passes on responses in its own way.

    :ivar fault: the beginning of a sentence, for a log.
    :ivar can_stream: whether it passes on a part of a response before the end of the response.
    """

    fault: str
    can_stream: bool


_HIDES_HANG_UPS = "does not tell that a client has gone, so its stream holds a thread until its lease ends"

# By the module that calls the app.
_BRIDGES = {
    "tornado.wsgi": Bridge("Tornado sends a response when all of it is there, and a stream has no end", False),
    "asgiref.wsgi": Bridge("asgiref's WsgiToAsgi runs one request at a time, and a stream is one", False),
    "a2wsgi.wsgi": Bridge(f"a2wsgi {_HIDES_HANG_UPS}", True),
    "starlette.middleware.wsgi": Bridge(f"Starlette's WSGIMiddleware {_HIDES_HANG_UPS}", True),
}


class Caller(NamedTuple):
    """The program that has called the app for one request.

    :ivar connection: the client's socket, to watch and to cut; ``None`` if it is not known, or if requests share
        it.
    :ivar blocks_connection: whether it answers no other request on the client's connection until this response has
        ended. gunicorn's workers do so in HTTP/2. There the connection may be that of a browser with all its
        pages, or of a proxy with all its clients.
    :ivar bridge: the bridge that has called the app; ``None`` if a server has called it.
    """

    connection: Any
    blocks_connection: bool
    bridge: Bridge | None


def caller_of(environ: Mapping[str, Any]) -> Caller:
    """Return the program that has called the app on this thread.

    :param environ: the request's WSGI environ.
    """
    protocol = str(environ.get("SERVER_PROTOCOL"))
    connection = None
    if protocol.startswith("HTTP/1"):  # in HTTP/2 other requests share it
        # The last is that of gunicorn's gevent_pywsgi.
        for name in ("gunicorn.socket", "werkzeug.socket", "gunicorn.sock"):
            connection = environ.get(name)
            if connection is not None:
                # A socket of gevent has the system's socket inside. To watch or cut that one neither waits nor
                # disturbs the greenlet that sends.
                connection = getattr(connection, "_sock", connection)
                break
    # The environ does not show a bridge, but the call stack does. It is searched only if such a module is loaded.
    bridge = None if _BRIDGES.keys().isdisjoint(sys.modules.keys()) else _calling_bridge()
    return Caller(connection, "gunicorn.socket" in environ and protocol.startswith("HTTP/2"), bridge)


def _calling_bridge() -> Bridge | None:
    frame = sys._getframe()
    while frame is not None:
        bridge = _BRIDGES.get(str(frame.f_globals.get("__name__")))
        if bridge is not None:
            return bridge
        frame = frame.f_back  # type: ignore[assignment]  # None above the first
    return None


def answers_one_at_a_time(environ: Mapping[str, Any]) -> bool:
    """Whether the server answers one request after the other, so that an open stream keeps all others waiting.

    :param environ: the request's WSGI environ.
    """
    if not environ.get("wsgi.multithread", True):
        return not _is_gevent(environ)
    # Django's server says that it has threads, even with --nothreading. If it has them, each request is on a
    # thread whose name comes from socketserver's method.
    is_django = _is_wsgiref(environ) and "wsgi.file_wrapper" in environ
    return is_django and "process_request_thread" not in threading.current_thread().name


def has_thread_for_each_request(environ: Mapping[str, Any]) -> bool:
    """Whether the server starts a thread for each request, so that a stream takes no other request's thread.

    :param environ: the request's WSGI environ.
    """
    # Werkzeug's server, gevent's, and Django's, which is the standard library's.
    if "werkzeug.socket" in environ or _is_gevent(environ):
        return True
    return _is_wsgiref(environ)


def _is_wsgiref(environ: Mapping[str, Any]) -> bool:
    """Whether the server is the standard library's, such as Django's for development."""
    # From Python 3.15 on the name has no version.
    return str(environ.get("SERVER_SOFTWARE")).partition("/")[0] == "WSGIServer"


def is_from_test_client(environ: Mapping[str, Any]) -> bool:
    """Whether a test client made the environ, such as Werkzeug's, Flask's or Django's, and not a server.

    :param environ: the request's WSGI environ.
    """
    # A server says its name or offers to send files, and mostly does both. It reads a body from the connection.
    # Falcon's test client says that it is gunicorn. bjoern, a server, reads the body before it calls the app.
    if "wsgi.file_wrapper" in environ:
        return False
    return "SERVER_SOFTWARE" not in environ or isinstance(environ.get("wsgi.input"), BytesIO)


def _is_gevent(environ: Mapping[str, Any]) -> bool:
    """Whether the server is gevent's without gunicorn, which has a greenlet and no thread for each request."""
    name = str(environ.get("SERVER_SOFTWARE"))
    return name.startswith("gevent/") and "gunicorn" not in name


class ServerWarnings:
    """Warnings of one hub about a server that cannot stream safely; each is logged once.

    :ivar is_server_known: whether :meth:`see_server` may be left out.
    """

    def __init__(self) -> None:
        # Plain attributes: two warnings at the same moment do no harm.
        self.is_server_known = False
        self._has_warned_of_http2 = False

    def see_server(self, environ: Mapping[str, Any], bridge: Bridge | None, *, is_bounded: bool) -> None:
        """Warn of a server by a request from it.

        :param environ: the request's WSGI environ.
        :param bridge: the bridge that has called the app; ``None`` if a server has called it.
        :param is_bounded: whether the number of streams has a limit.
        """
        one_at_a_time = answers_one_at_a_time(environ)
        if bridge is None and one_at_a_time and is_from_test_client(environ):
            return  # a test's request, which says nothing of the server
        self.is_server_known = True
        fields = {"event": "server_unsuitable"}
        if bridge is not None and not bridge.can_stream:
            _log.error("No streams: %s; use %s", bridge.fault, _GTHREAD, extra=fields)
        elif bridge is not None:
            words = "%s; use %s, or Hub(lease=60, max_streams=...) below its threads"
            _log.warning(words, bridge.fault, _GTHREAD, extra=fields)
        elif one_at_a_time:
            words = "This server answers one request at a time, and a stream is one; use %s"
            _log.warning(words, _GTHREAD, extra=fields)
        elif not is_bounded and not has_thread_for_each_request(environ):
            _log.warning(
                "Streams may take every thread of this server. Under gunicorn use -k "
                "sse_threaded.worker.ThreadWorker, or the hooks of sse_threaded.gunicorn_hooks. Under other "
                "servers set Hub(max_streams=...) below their threads",
                extra=fields,
            )

    def warn_of_http2(self) -> None:
        """Warn of a request over gunicorn's own HTTP/2."""
        if not self._has_warned_of_http2:
            self._has_warned_of_http2 = True
            _log.warning(
                "No streams over gunicorn's own HTTP/2, which answers the requests of a connection one after "
                "another. End HTTP/2 in a proxy that speaks HTTP/1.1 to gunicorn, and set http_protocols to h1",
                extra={"event": "http2_unsuitable"},
            )
