"""The debug page as a WSGI app: :meth:`sse_threaded.Hub.debug_page` makes it, and an app mounts it.

Any thread of the server may call it. It keeps nothing between requests. The page asks once in a second or two, so
it holds no thread and no stream. Every error is ``application/problem+json`` (RFC 9457).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound
from werkzeug.wrappers import Request, Response

from ..errors import HubClosed, InvalidEvent, LogError
from ..log import EventLog
from ..log.validation import validate_channel
from ..overview import ProcessReport, to_json
from ..protocol.event import json_line
from ..protocol.json_body import EVENT_BODY_BYTES, read_json
from ..protocol.problem import problem
from ..throttled_log import ThrottledLog
from .events import after, newest, shown

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_log = logging.getLogger(__name__)

_FILES = {
    "": ("page.html", "text/html; charset=utf-8"),
    "debug.css": ("debug.css", "text/css; charset=utf-8"),
    "debug.js": ("debug.js", "text/javascript; charset=utf-8"),
}

# The page may load its own files only, and turns no text into HTML.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)

_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class AnyHub(Protocol):
    """The part of a :class:`sse_threaded.Hub` that the page needs."""

    @property
    def log(self) -> EventLog:
        """The log."""

    def publish(self, channel: str, data: object, event: str | None = None) -> str:
        """Publish an event."""

    def finish(self, channel: str) -> str:
        """Finish a channel."""

    def health(self) -> dict[str, Any]:
        """The state of the log."""

    def overview(self) -> list[ProcessReport]:
        """The streams of all processes."""


class DebugApp:
    """The WSGI app.

    :param hub: the hub.
    :param allow: decides from the WSGI environ whether a request may see the page; called for each request.
    :param publishes: whether the page can publish.
    """

    def __init__(self, hub: AnyHub, allow: Callable[[dict[str, Any]], bool], *, publishes: bool) -> None:
        if not callable(allow):
            raise ValueError(f"allow must be a function of the WSGI environ, such as is_admin, not {allow!r}")
        self._hub = hub
        self._allow = allow
        self._publishes = publishes
        here = files(__package__ or __name__) / "static"
        self._files = {name: ((here / file).read_bytes(), kind) for name, (file, kind) in _FILES.items()}
        self._throttled = ThrottledLog(_log)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        return self.answer(environ)(environ, start_response)

    def answer(self, environ: WSGIEnvironment) -> Response:
        """Return the answer to a request, for an app that has a route for the page.

        :param environ: its WSGI environ, with the page's path in ``SCRIPT_NAME``.
        """
        response = self._answer(environ)
        response.headers.update(_HEADERS)
        return response

    def _answer(self, environ: WSGIEnvironment) -> Response:
        if not self._allow(environ):
            return problem(403, "You may not see this page; ask the operator of the server.")
        request = Request(environ, populate_request=False)  # the environ's request stays the app's
        try:
            return self._on(request)
        except MethodNotAllowed as error:
            allowed = ", ".join(error.valid_methods or ())
            return problem(405, f"{request.method} does nothing here; use {allowed}.", {"Allow": allowed})
        except HTTPException as error:
            return problem(error.code or 500, error.description or "")
        except InvalidEvent as error:
            return problem(400, f"{error}; nothing was published.")
        except (LogError, HubClosed) as error:
            fields = {"event": "debug_page_unanswered", "error": type(error).__name__}
            self._throttled.warning(str(error), "the debug page could not be answered: %s", error, extra=fields)
            return problem(503, f"{error}.", {"Retry-After": "2"})

    def _on(self, request: Request) -> Response:
        path = request.environ.get("PATH_INFO", "")
        if path == "":  # the page's addresses are relative to its folder
            query = request.environ.get("QUERY_STRING", "")
            address = request.environ.get("SCRIPT_NAME", "").rpartition("/")[2]
            return Response(status=308, headers={"Location": f"{address}/{'?' if query else ''}{query}"})
        name = path[1:]
        if name == "publish":
            if request.method != "POST" or not self._publishes:
                raise MethodNotAllowed(["POST"] if self._publishes else [])
            return self._publish(request)
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(["GET", "HEAD"])
        if name in self._files:
            return self._file(request, name)
        answers: Mapping[str, Callable[[Request], object]] = {
            "events": self._events,
            "streams": self._streams,
            "state": self._state,
        }
        if name not in answers:
            raise NotFound("There is nothing at this address; leave out the last part of the path.")
        return _json(answers[name](request))

    def _file(self, request: Request, name: str) -> Response:
        data, kind = self._files[name]
        response = Response(data, content_type=kind)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Content-Security-Policy"] = _POLICY
        response.set_etag(hashlib.sha256(data).hexdigest()[:16])
        return response.make_conditional(request)

    def _events(self, request: Request) -> object:
        channel = request.args.get("channel") or None
        if channel is not None:
            try:
                validate_channel(channel)
            except InvalidEvent as error:
                raise BadRequest(f"{error}.") from None
        log = self._hub.log
        since = request.args.get("after")
        found = newest(log, channel) if since is None else after(log, since, channel)
        return {
            "events": [shown(log, record) for record in found.records],
            "lastEventId": log.event_id(found.last),
            "reset": found.is_reset,
        }

    def _streams(self, request: Request) -> object:
        return {"processes": [to_json(report) for report in self._hub.overview()]}

    def _state(self, request: Request) -> object:
        return {**self._hub.health(), "publishes": self._publishes}

    def _publish(self, request: Request) -> Response:
        # A page of another site cannot send JSON with the user's cookies unless the app allows that. The origin,
        # which browsers name, decides in any case.
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            return problem(403, "Pages of other sites may not publish here.")
        body = read_json(request, EVENT_BODY_BYTES)
        if not isinstance(body, dict) or not set(body) <= {"channel", "data", "event", "finish"}:
            raise BadRequest('The body must be an object: {"channel", "data"}, and "event" or "finish" if wanted.')
        if body.get("finish") is True:
            return _json({"id": self._hub.finish(body.get("channel"))}, 201)  # type: ignore[arg-type]  # it is checked
        if "data" not in body:
            raise BadRequest('The body must have "data", the data of the event.')
        published = self._hub.publish(body.get("channel"), body["data"], body.get("event"))  # type: ignore[arg-type]
        return _json({"id": published}, 201)


def _json(value: object, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(json_line(value) + "\n", status, headers, content_type="application/json")
