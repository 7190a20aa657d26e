"""The answer of a view to a request for events, which holds no connection of Django's."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from django.db import connections, transaction
from django.http import HttpRequest, StreamingHttpResponse

from .hubs import hub


def stream(
    request: HttpRequest, channels: str | Iterable[str], *, long_poll: bool = True
) -> StreamingHttpResponse:
    """Return the answer to a request for events: a stream, or a long poll for ``Accept: application/json``.

    A stream needs no database. So Django's connections are closed here as they are at the end of a request: those
    that are older than ``CONN_MAX_AGE``. With ``ATOMIC_REQUESTS`` that happens after the commit.

    :param request: Django's. Its ``Accept-Encoding`` is removed, as ``GZipMiddleware`` would hold events back.
    :param channels: one channel or several; see :meth:`sse_threaded.Hub.stream`.
    :param long_poll: whether long polls are answered, default ``True``; see there.
    :raises InvalidEvent: a channel's name is invalid.
    :raises LogUnusable: the log needs a person's help.
    """
    request.META.pop("HTTP_ACCEPT_ENCODING", None)
    response = hub().stream(request, channels, long_poll=long_poll)
    _release_connections()
    # Not a subclass: the worker parks a stream in this class only.
    return StreamingHttpResponse(response.response, status=response.status_code, headers=dict(response.headers))


def _release_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            transaction.on_commit(partial(_release, connection), using=connection.alias)
        else:
            _release(connection)


def _release(connection: Any) -> None:
    # In a TestCase callbacks may run before the end of the transaction. Django would close such a connection.
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()
