"""The answer of a view to a request for events, which holds no connection of Django's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse

from ..hub import Hub
from .hubs import hub as own_hub


def stream(
    request: HttpRequest,
    channels: str | Iterable[str] | None = None,
    *,
    hub: Hub | None = None,
    user: object = None,
    presence: bool | Literal["hidden"] = False,
    from_start: bool = False,
    long_poll: bool = True,
) -> EventStreamResponse:
    """Return the answer to a request for events: a stream, or a long poll for ``Accept: application/json``.

    A stream needs no database. So Django's connections are closed before it begins, after all middleware, as they
    are at the end of a request: those that are older than ``CONN_MAX_AGE``.

    :param request: Django's. Its ``Accept-Encoding`` is removed, as ``GZipMiddleware`` would hold events back.
    :param channels: one channel or several, default ``None``: those of the client's ticket; see
        :meth:`sse_threaded.Hub.stream`.
    :param hub: any hub. Default ``None``: that of Django's own database (:func:`sse_threaded.django.hub`).
    :param user: whose stream it is, default ``None``; see there.
    :param presence: whether the client sees the users on its channels, and they its user, default ``False``; see
        there.
    :param from_start: whether a new client gets all events that the log has, default ``False``; see there.
    :param long_poll: whether long polls are answered, default ``True``; see there.
    :raises InvalidEvent: a channel's name is invalid.
    :raises LogUnusable: the log needs a person's help, or there is no ``hub`` and Django's database is neither
        PostgreSQL nor a file of SQLite.
    :raises TypeError: ``hub`` is not a hub, or the request did not come over WSGI.
    """
    if hub is not None and not isinstance(hub, Hub):
        raise TypeError(f"hub must be a sse_threaded.Hub, not {hub!r}")
    request.META.pop("HTTP_ACCEPT_ENCODING", None)
    used = own_hub() if hub is None else hub
    response = used.stream(
        request, channels, user=user, presence=presence, from_start=from_start, long_poll=long_poll
    )
    return EventStreamResponse(response.response, status=response.status_code, headers=dict(response.headers))


class EventStreamResponse(StreamingHttpResponse):  # type: ignore[misc]  # Django has no types
    """Django's response around a stream; it closes the connections of the thread that begins to send it.

    Middleware may use the database after the view, for example to save the session. So the view is too early.
    """

    def __iter__(self) -> Iterator[bytes]:
        """See Django. The server calls it on the thread of the request, after all middleware."""
        release_connections()
        chunks: Iterator[bytes] = super().__iter__()
        return chunks

    def bare_iterator(self) -> Any:
        """Return the iterator inside, for a server that takes it out in place of iterating the response.

        Returns ``None`` if the app has given this response another function for its bytes.
        """
        release_connections()
        return None if "make_bytes" in vars(self) else self._iterator


def release_connections() -> None:
    """Close this thread's connections of Django's that are older than ``CONN_MAX_AGE``."""
    for connection in connections.all(initialized_only=True):
        # In a TestCase this may be inside of the test's transaction. Django would close such a connection.
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
