"""The board as a WSGI app without a framework: Werkzeug's routes, one method for each route.

Any thread of the server may call the app. The threads share the hub, the store and the files, which are all
thread-safe. Every error is ``application/problem+json`` (RFC 9457), or a page that says the same, for a person in
a browser.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import Map, RequestRedirect, Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from ..browser import asked_channels
from ..errors import HubClosed, LogError, LogUnavailable
from ..hub import Hub
from ..protocol.event import CONTENT_TYPE, json_line
from ..protocol.problem import problem
from ..protocol.request import wanted_events
from ..throttled_log import ThrottledLog
from .allowed_hosts import AllowedHosts
from .assets import Assets
from .model import Unknown, number_of
from .operators import Operators
from .request_body import checked_title, read_object
from .settings import (
    DEBUG,
    METRICS,
    SettingError,
    hub_settings,
    log_url,
    operator_networks,
    proxy_count,
    trusted_hosts,
)
from .store import open_store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .metrics_page import MetricsPage

_log = logging.getLogger(__name__)

# Seconds after which a client may try again when the log is locked or unreachable. That lasts about this time.
_RETRY_AFTER = "2"

# Characters of a name that a person chooses in the page.
_LONGEST_NAME = 40

# Of each response but a stream.
_FOR_BROWSERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}

# Of each response with JSON, apart from problems.
_JSON_FIELDS = {"Content-Type": "application/json", "Cache-Control": "no-store", **_FOR_BROWSERS}.items()

_ROUTES = Map(
    [
        Rule("/", endpoint="home", methods=["GET"]),
        Rule("/healthz", endpoint="health", methods=["GET"]),
        Rule("/metrics", endpoint="metrics", methods=["GET"]),
        Rule("/debug", endpoint="debug", methods=["GET"], strict_slashes=False),
        Rule("/debug/<path:rest>", endpoint="debug", methods=["GET", "POST"]),
        Rule("/static/<name>", endpoint="asset", methods=["GET"]),
        Rule("/boards", endpoint="boards", methods=["GET"]),
        Rule("/boards", endpoint="create_board", methods=["POST"]),
        Rule("/boards/<board>", endpoint="board", methods=["GET"]),
        Rule("/boards/<board>/", redirect_to="/boards/<board>", methods=["GET"]),
        Rule("/boards/<board>/events", endpoint="events", methods=["GET"]),
        Rule("/events", endpoint="live_events", methods=["GET"]),
        Rule("/boards/<board>/tasks", endpoint="create_task", methods=["POST"]),
        Rule("/boards/<board>/tasks/<task>", endpoint="task", methods=["GET"]),
        Rule("/boards/<board>/tasks/<task>", endpoint="change_task", methods=["PATCH"]),
        Rule("/boards/<board>/tasks/<task>", endpoint="delete_task", methods=["DELETE"]),
    ],
    merge_slashes=False,
)


def create_app(url: str | None = None, **settings: Any) -> BoardApp:
    """Create the live task board as a WSGI app, with its own hub.

    :param url: the URL of the log; default: ``SSE_THREADED_URL``, else ``sqlite:///sse_threaded.db``.
    :param settings: further arguments of :class:`~sse_threaded.Hub`; they override the environment
        (see :mod:`sse_threaded.board.settings`).
    :raises SettingError: the value of an environment variable is invalid.
    :raises LogUnusable: the log cannot be used until a person repairs it.
    """
    proxies, hosts = proxy_count(os.environ), trusted_hosts(os.environ)
    page = _metrics_page(proxies)
    if page is not None:
        settings = {"observers": [page.metrics], **settings}
    hub = Hub(url or log_url(os.environ), **{**hub_settings(os.environ), **settings})
    networks = operator_networks(os.environ, DEBUG)
    operators = Operators(networks, trusts_proxy=proxies > 0) if networks else None
    return BoardApp(hub, proxies=proxies, hosts=hosts, metrics_page=page, operators=operators)


def _metrics_page(proxies: int) -> MetricsPage | None:
    networks = operator_networks(os.environ, METRICS)
    if not networks:
        return None
    try:
        from .metrics_page import MetricsPage  # noqa: PLC0415  # prometheus_client may not be installed
    except ImportError:
        value = os.environ[METRICS]
        raise SettingError(METRICS, value, "install prometheus_client for it, the extra 'metrics'") from None
    return MetricsPage(Operators(networks, trusts_proxy=proxies > 0))


class BoardApp:
    """The WSGI app.

    :param hub: publishes and streams events; its log also keeps the boards.
    :param proxies: how many proxies are in front of the app. Their ``X-Forwarded-For`` and ``X-Forwarded-Proto``
        describe the client; default 0: these fields are ignored.
    :param hosts: host names that it serves beside localhost; see
        :class:`~sse_threaded.board.allowed_hosts.AllowedHosts`.
    :param metrics_page: answers ``/metrics``; default ``None``: there is no such page.
    :param operators: may use ``/debug``; default ``None``: there is no such page.
    :ivar hub: the hub; the server that runs the app must close it.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        proxies: int = 0,
        hosts: Iterable[str] = (),
        metrics_page: MetricsPage | None = None,
        operators: Operators | None = None,
    ) -> None:
        self.hub = hub
        self._debug_page = None if operators is None else hub.debug_page(allow=operators.include)
        self._metrics_page = metrics_page
        self._allowed_hosts = AllowedHosts(hosts)
        self._wsgi: WSGIApplication = self._respond
        if proxies:
            self._wsgi = ProxyFix(self._respond, x_for=proxies, x_proto=proxies)
        self._throttled = ThrottledLog(_log)
        self._store = open_store(hub.log)
        self._assets = Assets()
        try:
            self._store.prepare()
        except (LogError, sqlite3.Error) as error:
            # Do not raise: if one worker cannot start, gunicorn stops the whole server.
            _log.warning("starting without the board's tables; each request tries again to create them: %s", error)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        return self._wsgi(environ, start_response)

    def _respond(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        response = self._answer(request)
        # The library alone decides every byte of a stream.
        if not isinstance(response, _JSONResponse) and response.mimetype != "text/event-stream":
            response.headers.update(_FOR_BROWSERS)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        refusal = self._allowed_hosts.refusal(request.environ)
        if refusal is not None:
            return self._for_people(request, refusal)
        try:
            endpoint, values = _match(request)
            response: Response = getattr(self, f"_on_{endpoint}")(request, **values)
        except Unknown as error:
            response = _unknown(error)
        except RequestRedirect as error:
            response = redirect(urlsplit(error.new_url).path, 308)
        except MethodNotAllowed as error:
            allowed = ", ".join(sorted(error.valid_methods or ()))
            response = problem(405, f"{request.method} does nothing here; use {allowed}.", {"Allow": allowed})
        except HTTPException as error:
            response = problem(error.code or 500, error.description or "")
        except (LogError, HubClosed) as error:
            # While this lasts, every request fails in the same way. So one line now and then, without a traceback.
            self._throttled.warning(_kind_of(error), "%s %r: %s", request.method, request.path, error)
            response = _unavailable(error)
        except Exception:
            _log.exception("%s %r failed", request.method, request.path)
            response = problem(
                500, "The server failed and has logged why; if it happens again, tell its operator."
            )
        return response if isinstance(response, _JSONResponse) else self._for_people(request, response)

    def _for_people(self, request: Request, response: Response) -> Response:
        # A browser that opens an address asks for text/html by name; programs do not.
        wants_page = request.method in ("GET", "HEAD") and request.accept_mimetypes["text/html"] == 1
        is_problem = response.mimetype == "application/problem+json"
        if not is_problem or not wants_page or "text/html" not in request.headers["Accept"]:
            return response
        self._assets.for_people(response)
        response.vary.add("Accept")
        return response

    def _on_home(self, request: Request) -> Response:
        return redirect("/boards/board-1")

    def _on_health(self, request: Request) -> Response:
        try:
            return _json(self.hub.health())
        except LogError as error:
            self._throttled.warning(f"unhealthy: {error}", "unhealthy: %s", error)
            return problem(503, f"The log cannot be used now: {error.reason}.", {"Retry-After": _RETRY_AFTER})

    def _on_metrics(self, request: Request) -> Response:
        if self._metrics_page is None:
            raise NotFound(f"There are no metrics here; {METRICS}=1 adds them.")
        return self._metrics_page.answer(request.environ)

    def _on_debug(self, request: Request, rest: str | None = None) -> Response:
        if self._debug_page is None:
            raise NotFound(f"There is no debug page here; {DEBUG}=1 adds it.")
        path = request.environ["PATH_INFO"].removeprefix("/debug")
        script = request.environ.get("SCRIPT_NAME", "") + "/debug"
        return self._debug_page.answer({**request.environ, "SCRIPT_NAME": script, "PATH_INFO": path})

    def _on_asset(self, request: Request, name: str) -> Response:
        return self._assets.answer(request, name)

    def _on_boards(self, request: Request) -> Response:
        try:
            boards, more = self._store.boards(request.args.get("before"))
        except Unknown:
            raise BadRequest("before must be the id of a board, such as ?before=board-101.") from None
        older = f"/boards?before={boards[-1]['id']}" if more else None
        return _json({"boards": boards, "next": older})

    def _on_create_board(self, request: Request) -> Response:
        body = read_object(request, required=["title"])
        board = self._store.create_board(checked_title(body["title"]))
        return _json(board, 201, location=f"/boards/{board['id']}")

    def _on_board(self, request: Request, board: str) -> Response:
        kinds = ["text/html", "application/json"]
        if request.accept_mimetypes.best_match(kinds, default="text/html") == "application/json":
            response = _json(self._store.snapshot(board))
        else:
            response = self._assets.page(request, self._store.snapshot(board))
        response.vary.add("Accept")
        return response

    def _on_events(self, request: Request, board: str) -> Response:
        try:
            self._store.require_board(board)
        except LogError as error:
            # It is unknown whether the board exists, and its channel may belong to another app, so no stream is
            # opened. EventSource reconnects after this answer; a 503 would end it for good (WHATWG HTML 9.2.3).
            if wanted_events(request.environ).kind != CONTENT_TYPE:
                raise
            self._throttled.warning(_kind_of(error), "%s %r: %s", request.method, request.path, error)
            return self.hub.come_back("the log cannot be read")
        return self.hub.stream(request, board)

    def _on_live_events(self, request: Request) -> Response:
        """Answer live.js of the page, which asks for the boards of all tabs on one connection."""
        name = request.args.get("name", "").strip()
        if len(name) > _LONGEST_NAME:
            raise BadRequest(f"name must have {_LONGEST_NAME} characters at most.")
        channels, refusal = asked_channels(request, self._is_board, 404)
        if refusal is not None:
            return refusal
        # A person without a name sees the others, and is not shown.
        return self.hub.stream(request, channels, user=name or None, presence=True if name else "hidden")

    def _is_board(self, name: str) -> bool:
        try:
            self._store.require_board(name)
        except Unknown:
            return False
        return True

    def _on_create_task(self, request: Request, board: str) -> Response:
        body = read_object(request, required=["title"], optional=["listId"])
        task, event_id = self._store.create_task(board, checked_title(body["title"]), body.get("listId"))
        return _json(task, 201, event_id, location=f"/boards/{board}/tasks/{task['id']}")

    def _on_task(self, request: Request, board: str, task: str) -> Response:
        return _json(self._store.task(board, task))

    def _on_change_task(self, request: Request, board: str, task: str) -> Response:
        body = read_object(request, optional=["title", "listId"])
        title = checked_title(body["title"]) if "title" in body else None
        changed, event_id = self._store.change_task(board, task, title=title, list_id=body.get("listId"))
        return _json(changed, 200, event_id)

    def _on_delete_task(self, request: Request, board: str, task: str) -> Response:
        response = Response(status=204)
        del response.headers["Content-Type"]
        return _with_event_id(response, self._store.delete_task(board, task))


# The values that decide about a route.
_ROUTED_BY = (
    *("REQUEST_METHOD", "PATH_INFO", "SCRIPT_NAME", "wsgi.url_scheme"),
    *("HTTP_HOST", "SERVER_NAME", "SERVER_PORT", "HTTP_CONNECTION", "HTTP_UPGRADE"),
)


@lru_cache(maxsize=128)
def _route(*values: str | None) -> tuple[str, Mapping[str, str]]:
    """Find a route; :data:`_ROUTED_BY` names the values. Most requests ask for a few addresses."""
    environ = {name: value for name, value in zip(_ROUTED_BY, values, strict=True) if value is not None}
    return _ROUTES.bind_to_environ(environ).match()


def _match(request: Request) -> tuple[str, dict[str, str]]:
    try:
        endpoint, values = _route(*map(request.environ.get, _ROUTED_BY))
    except NotFound:
        raise NotFound("There is nothing at this address; the board is at /boards/board-1.") from None
    if "board" in values:
        # Check the id before the store is asked, as the log may be unreachable. A name of another form is no
        # board, but it may be the channel of another app.
        number_of("board", values["board"])
    return endpoint, dict(values)


class _JSONResponse(Response):
    """A response whose header fields are complete. Werkzeug would look for a missing length and other faults."""

    default_mimetype = None  # it is one of the fields that all have

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(self.status, [*_JSON_FIELDS, *self.headers])
        return () if environ["REQUEST_METHOD"] == "HEAD" else self.response  # type: ignore[return-value]  # bytes


def _json(value: object, status: int = 200, event_id: str | None = None, location: str | None = None) -> Response:
    body = f"{json_line(value)}\n".encode()
    response = _JSONResponse([body], status)
    response.headers.add("Content-Length", str(len(body)))
    if location is not None:
        response.headers.add("Location", location)
    return _with_event_id(response, event_id)


def _with_event_id(response: Response, event_id: str | None) -> Response:
    # The id of the event of the change: a client whose stream has reached this event has seen the change.
    if event_id is not None:
        response.headers["Last-Event-ID"] = event_id
    return response


def _kind_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _unavailable(error: LogError | HubClosed) -> Response:
    if isinstance(error, LogUnavailable | HubClosed):
        again = {"Retry-After": _RETRY_AFTER}
        return problem(503, "The board's store cannot be reached now; try again soon.", again)
    return problem(503, "The board's store cannot be used; tell its operator. Its log says why.")


def _unknown(error: Unknown) -> Response:
    if error.kind == "list":
        return problem(422, f'"listId" is not a list of this board; its lists are {", ".join(error.choices)}.')
    if error.kind == "task":
        return problem(404, "There is no such task on this board; it may have been deleted.")
    return problem(404, "There is no such board; /boards/board-1 is always there.")
