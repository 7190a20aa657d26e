"""The publisher: a WSGI app of one route, which appends the events that it gets to the log.

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/publish": hub.publisher(tokens={...})})

Any thread of the server may call it. It starts no thread. Every error is ``application/problem+json`` (RFC 9457).
No answer and no line of the log shows a token.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from ..access.publish_tokens import Publisher, PublishTokens
from ..errors import HubClosed, LogError, LogUnavailable
from ..fanout.observers import NO_OBSERVERS, Observers
from ..log import EventLog
from ..log.validation import RESERVED_PREFIX
from ..protocol.json_body import quoted, read_json
from ..protocol.problem import problem
from ..throttled_log import ThrottledLog
from .events import Event, events_in
from .idempotency import KeyReused, append_once, key_in

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_log = logging.getLogger(__name__)

# Seconds after which a client may try again when the log cannot be reached.
_RETRY_AFTER = "2"


_CHALLENGE = 'Bearer realm="publisher"'


class _Refused(Exception):
    """The request gets this answer, and nothing is published."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.response = problem(status, detail, headers)


class PublisherApp:
    """The WSGI app; :meth:`sse_threaded.Hub.publisher` makes it.

    :param log: returns the log; raises :exc:`HubClosed` if the hub is closed.
    :param tokens: the tokens that may publish, and their channels.
    :param max_bytes: the longest body.
    :param observers: the hub's observers; default: none.
    """

    def __init__(
        self,
        log: Callable[[], EventLog],
        tokens: PublishTokens,
        max_bytes: int,
        observers: Observers = NO_OBSERVERS,
    ) -> None:
        self._observers = observers
        self._get_log = log
        self._tokens = tokens
        self._max_bytes = max_bytes
        self._throttled = ThrottledLog(_log)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        return self._answer(environ)(environ, start_response)

    def _answer(self, environ: WSGIEnvironment) -> Response:
        try:
            return self._publish(environ)
        except _Refused as refused:
            return refused.response
        except HTTPException as error:
            return problem(error.code or 500, error.description or "")
        except KeyReused:
            return problem(
                422, "This Idempotency-Key came before with other events; send other events with a new key."
            )
        except (LogError, HubClosed) as error:
            return self._unavailable(error)

    def _publish(self, environ: WSGIEnvironment) -> Response:
        if environ.get("PATH_INFO", "") not in ("", "/"):
            raise _Refused(404, "There is nothing at this address; leave out the last part of the path.")
        if environ["REQUEST_METHOD"] != "POST":
            raise _Refused(405, "Events are published with POST.", {"Allow": "POST"})
        publisher = self._publisher(environ.get("HTTP_AUTHORIZATION"))
        if not environ.get("CONTENT_LENGTH") and not environ.get("wsgi.input_terminated"):
            raise _Refused(411, "Send the header Content-Length with the body.")
        request = Request(environ, populate_request=False)  # the environ's request stays the app's
        body = read_json(request, self._max_bytes)
        events = events_in(body)
        channels = tuple(dict.fromkeys(event.channel for event in events))
        for channel in channels:
            _require_allowed(publisher, channel)
        append = partial(self._append, events, environ.get("HTTP_IDEMPOTENCY_KEY"), publisher)
        ids, _ = self._observers.publish(channels, len(events), append, _new_events)
        return _created({"ids": ids} if isinstance(body, list) else {"id": ids[0]})

    def _publisher(self, authorization: str | None) -> Publisher:
        publisher = self._tokens.find(authorization)
        if publisher is not None:
            return publisher
        if authorization is None:  # RFC 6750, section 3: then there is no error code
            detail = "Publishing needs a token: send the header Authorization: Bearer TOKEN."
            raise _Refused(401, detail, {"WWW-Authenticate": _CHALLENGE})
        detail = "This token is not known here; ask the operator of the server for one."
        raise _Refused(401, detail, {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'})

    def _append(
        self, events: Sequence[Event], key_field: str | None, publisher: Publisher
    ) -> tuple[list[str], bool]:
        key = key_in(key_field, publisher.digest, events)
        log = self._get_log()
        if key is not None:
            return append_once(log, events, key)
        if len(events) == 1:
            return [log.append(*events[0])], True  # which shares a commit with other threads
        with log.transaction() as transaction:
            return [transaction.append(*event) for event in events], True

    def _unavailable(self, error: LogError | HubClosed) -> Response:
        # While this lasts, every request fails in the same way. So one line now and then, without a traceback.
        fields = {"event": "not_published", "error": type(error).__name__}
        kind = f"{type(error).__name__}: {error}"
        self._throttled.warning(kind, "an event was not published: %s", error, extra=fields)
        if isinstance(error, LogUnavailable | HubClosed):
            again = "The log cannot be reached now; try again soon, with the same Idempotency-Key."
            return problem(503, again, {"Retry-After": _RETRY_AFTER})
        return problem(503, "The log cannot be used; tell the operator of the server. Its log says why.")


def _require_allowed(publisher: Publisher, channel: str) -> None:
    if channel.startswith(RESERVED_PREFIX):
        detail = f"Channels that begin with {RESERVED_PREFIX} belong to the server; choose another name."
    elif not publisher.may_publish_to(channel):
        detail = f"This token may not publish to the channel {quoted(channel)}; nothing was published."
    else:
        return
    raise _Refused(403, detail, {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope"'})


def _new_events(appended: tuple[list[str], bool]) -> int:
    ids, is_new = appended
    return len(ids) if is_new else 0


def _created(answer: dict[str, object]) -> Response:
    text = json.dumps(answer) + "\n"
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(text, 201, headers, content_type="application/json")
