"""Long polling: the fallback for clients that cannot stream, over the same log, with the same ids."""

from __future__ import annotations

import logging
import re
import time

from werkzeug.wrappers import Request, Response

from .errors import HubClosed, LogError
from .fanout.budget import Overloaded
from .fanout.cursor import Cursor
from .fanout.owners import DECISION
from .fanout.pump import Pump
from .fanout.stream_facts import stream_of
from .fanout.stream_state import EndReason
from .fanout.thread_subscriber import ThreadSubscriber
from .log import EventLog, Page, Record
from .observer import ANSWERED, Cause, Ending
from .protocol.event import json_line
from .protocol.problem import problem
from .protocol.request import WantedEvents
from .throttled_log import ThrottledLog

_throttled = ThrottledLog(logging.getLogger(__name__))

# Seconds. Proxies and browsers cut requests that stay silent for much longer.
DEFAULT_WAIT = 25.0
LONGEST_WAIT = 60.0

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


def long_poll(
    pump: Pump,
    log: EventLog,
    request: Request,
    subscriber: ThreadSubscriber,
    wanted: WantedEvents,
    *,
    from_start: bool,
    may_wait: bool = True,
) -> Response:
    """Answer with the events that the client wants: at once if there are any, else when one arrives.

    The answer is ``{"events":[{"id","data"}],"lastEventId","reset"}``. An event with a name has ``"event"``, too;
    with ``?withChannel=1`` each has ``"channel"``. After ``?wait=`` seconds (default 25, at most 60) the answer is
    empty. If ``reset`` is true, the client must fetch the state again, and then continue after ``lastEventId``. If
    there is ``"finished": true``, all channels are finished, and the client need not ask again.

    :param wanted: as the client asks.
    :param from_start: see :meth:`.hub.Hub.stream`.
    :param may_wait: whether to wait for an event; default ``True``. It is false if the server would let other
        requests wait, too. Then the answer comes at once.
    """
    begun = time.monotonic()
    try:
        deadline = begun + _wait(request)
    except ValueError:
        pump.observers.stream_refused(Cause.REQUEST)
        return problem(400, f"wait must be a number of seconds from 0 to {LONGEST_WAIT:g}, such as ?wait=25.")
    subscriber.allowed_at = begun - DECISION
    stream = stream_of(subscriber)
    pump.observers.stream_opened(stream)
    reason: str = EndReason.UNAVAILABLE  # unless it gets an answer
    events = size = 0
    headers = {}
    try:
        last_event_id = wanted.last_event_id
        if last_event_id is None and from_start:
            last_event_id = log.event_id(log.trimmed(subscriber.channels))
        cursor = Cursor(log, subscriber.channels, last_event_id)
        page = cursor.read()
        is_over = not page and pump.is_over(cursor)
        ended_by: EndReason | None = None
        if page or cursor.reset or is_over:
            pass  # the answer is known
        elif not may_wait:
            headers["Retry-After"] = "5"
        else:
            try:
                pump.admit(subscriber)
                page = _await(pump, subscriber, cursor, deadline)
            except (Overloaded, HubClosed) as error:
                # No thread is left to wait on. So the answer is empty and says when to ask again.
                headers["Retry-After"] = "5"
                pump.observers.refuse(error)
            finally:
                ended_by = subscriber.end_reason
                pump.end_stream(subscriber)
        is_over = is_over or (cursor.finishes and pump.is_over(cursor))
        text = _body(cursor, page, wanted, is_over)
        reason = ended_by or ANSWERED
        events, size = len(page), len(text)
    except LogError as error:
        return unanswered(error)
    finally:
        pump.observers.stream_ended(Ending(stream, str(reason), time.monotonic() - begun, events, size))
    if events:
        pump.observers.sent(stream.kind, events, size)
    if cursor.reset is not None:
        pump.observers.reset_sent(cursor.reset)
    response = Response(text, content_type="application/json", headers=headers)
    if subscriber.end_reason is EndReason.SHUTDOWN:
        # As a stream does (EventStream.close), so that a server that stops need not wait for the client.
        response.call_on_close(subscriber.shut_down_reading)
    return response


def _body(cursor: Cursor, page: Page, wanted: WantedEvents, is_over: bool) -> bytes:
    body = {
        "events": [_event(cursor.id_of(record.sequence), record, wanted.names_channel) for record in page],
        "lastEventId": cursor.event_id,
        "reset": cursor.reset is not None,
    }
    if is_over:
        body["finished"] = True
    return f"{json_line(body)}\n".encode()


def unanswered(error: LogError) -> Response:
    """Return the answer to a long poll while the log cannot be read."""
    fields = {"event": "poll_unanswered", "reason": str(Cause.LOG), "url": error.url}
    _throttled.warning("poll", "a long poll could not be answered: %s", error, extra=fields)
    return problem(503, "The event log cannot be read at the moment; ask again later.", {"Retry-After": "5"})


def _wait(request: Request) -> float:
    wait = request.args.get("wait")
    if wait is None:
        return DEFAULT_WAIT
    if not _SECONDS.fullmatch(wait) or float(wait) > LONGEST_WAIT:
        raise ValueError
    return float(wait)


def _await(pump: Pump, subscriber: ThreadSubscriber, cursor: Cursor, deadline: float) -> Page:
    upto = pump.attach(subscriber, cursor.after)
    page = cursor.read(upto)
    # The queue only says that an event has arrived. The events are read from the log.
    if not page and not cursor.reset and subscriber.take(deadline):
        page = cursor.read()
    return page


def _event(event_id: str, record: Record, names_channel: bool) -> dict[str, str]:
    event = {"id": event_id, "data": record.data}
    if record.event is not None:
        event["event"] = record.event
    if names_channel:
        event["channel"] = record.channel
    return event
