"""Publishes over Django's own connection: an event is a part of the transaction that is open there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connections, transaction

from ..hub import Hub
from .hubs import hub
from .settings import log_settings


def publish(channel: str, data: object, event: str | None = None) -> str:
    """Publish an event if, and only if, the open transaction commits; call it inside or outside of ``atomic``.

    Inside ``atomic`` the event is a row of Django's transaction. If the transaction is rolled back, no client gets
    the event. If only a savepoint is rolled back, the events that were published since are gone with it. Clients
    get the event after the commit of the outermost block. PostgreSQL does not know its id before, and this returns
    ``""``.

    Outside of ``atomic`` this is a transaction of its own. It returns the event's id.

    The transaction must be on the log's database: ``atomic(using=...)`` of another one does not count.

    :param channel: any text of 1 to 255 characters.
    :param data: text, or anything that JSON or Django's own encoder can write, sent as one line of JSON.
    :param event: its type for ``addEventListener``; ``None``, the default, for ``message``.
    :raises InvalidEvent: an argument is invalid.
    :raises LogError: the event was not written. Inside ``atomic``, leave the block by this error.
    :raises HubClosed: the hub is closed; nothing was published.
    """
    return _in_transaction(Hub.publish, channel, data, event)


def finish(channel: str, data: object = None) -> str:
    """Append the last event of a channel, if the open transaction commits; see :meth:`sse_threaded.Hub.finish`.

    The transaction, the result and the errors are those of :func:`publish`.

    :param channel: as with :func:`publish`.
    :param data: as with :func:`publish`; default ``{}``.
    """
    return _in_transaction(Hub.finish, channel, data)


def disconnect(*, user: object = None, channel: str | None = None) -> str:
    """End streams, if the open transaction commits; see :meth:`sse_threaded.Hub.disconnect`.

    The transaction, the result and the errors are those of :func:`publish`.

    :param user: as the view named it for :func:`sse_threaded.django.stream`; default ``None`` for all users.
    :param channel: a channel's name; default ``None`` for all channels.
    :raises ValueError: neither is given.
    """
    return _in_transaction(Hub.disconnect, user=user, channel=channel)


def _in_transaction(append: Callable[..., str], *arguments: object, **named: object) -> str:
    connection = connections[log_settings().database]
    # This connects. So in a SimpleTestCase, Django refuses it as it refuses queries.
    if connection.get_autocommit():
        return append(hub(), *arguments, **named)
    connection.validate_no_broken_transaction()  # as before each of Django's own queries
    event_id = append(hub(), *arguments, **named, connection=connection)
    if connection.in_atomic_block:
        # One callback for each event, as Django drops those of a savepoint that is rolled back. The first one that
        # runs rings for all.
        connection.has_unrung_events = True
        transaction.on_commit(lambda: _ring(connection), using=connection.alias, robust=True)
    # Else the app manages its transactions itself, and Django has no callbacks. The doorbells ring a moment later.
    return event_id


def _ring(connection: Any) -> None:
    if connection.has_unrung_events:
        connection.has_unrung_events = False
        hub().log.ring()
