"""The rules for the bytes of the stream: when they came, how they ended, and the ids and times in them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .finding import Finding, clean, span
from .observations import Arrival, Delivery, End, Listening, Seen

# Seconds. An end after a shorter silence is not the work of an idle time-out.
_LEAST_IDLE = 0.8

# Seconds. The same for an answer that ends regularly: Caddy ends it so after its time-out.
_LEAST_IDLE_BEFORE_END = 5.0

# Seconds. The usual idle time-outs are 60 (nginx, load balancers) and 50 (HAProxy's examples). Heartbeats that
# come less often than this are near them.
_SLOW_HEARTBEAT = 45.0

# Comments in one piece that came after a wait. A server sends heartbeats one at a time, so something has collected
# these.
_LUMP = 3

# Seconds. Earlier pieces are the beginning of the stream, in which comments may fill the buffers of old browsers.
_BEGIN = 1.0

# Seconds. If the first bytes come this late, and the end follows at once, something has collected the stream.
_LATE = 2.0
_AT_ONCE = 0.2

# Seconds that a delivery may take; and those after which it counts as held back.
_QUICK_DELIVERY = 1.0
_LATE_DELIVERY = 5.0

# Seconds from the farewell to the end of the connection.
_QUICK_FAREWELL = 1.0

# Milliseconds. Below the first, clients return to a broken server in a loop. Above the second, a reader waits.
_SHORT_RETRY, _LONG_RETRY = 500, 60_000

# Ids with more digits are times in milliseconds, or random. Such ids do not start again after a restart.
_SHORT_ID = re.compile(r"[0-9]{1,11}")


def flow(seen: Seen) -> Iterator[Finding]:
    """Judge when the bytes came."""
    first = seen.first
    if not first.is_stream:
        return
    if first.is_unavailable:
        yield Finding("unavailable", "The app answers with the event stream-unavailable: it gives no stream now.")
        return
    if seen.delivery is not None:
        yield from _delivery(seen.delivery)
    lump = _lump(first)
    if first.coding and first.is_decoded and first.arrivals and first.is_empty:
        yield Finding("buffered", "Compressed bytes came, but no whole event: the compressor holds events back.")
    elif lump is not None:
        text = f"{lump.comments} comments and {len(lump.events)} events came at once, after {span(lump.at)}."
        yield Finding("buffered", f"{text} A server sends heartbeats one at a time, so something collects them.")
    elif _is_collected(first):
        text = f"The first bytes came after {span(first.arrivals[0].at)}, together with the end."
        yield Finding("buffered", f"{text} Something has collected the stream.")


def _delivery(delivery: Delivery) -> Iterator[Finding]:
    if not delivery.is_published:
        answer = "no answer" if delivery.status is None else f"the status {delivery.status}"
        yield Finding("post", f"The POST of --post got {answer}. So the delivery of an event was not checked.")
    elif delivery.seconds is None:
        text = f"The event that the check published did not come within {span(delivery.waited)}."
        yield Finding("buffered", f"{text} Something holds it back, or --post publishes to another stream.")
    elif delivery.seconds > _LATE_DELIVERY:
        text = f"The event that the check published came after {span(delivery.seconds)}."
        yield Finding("buffered", f"{text} Something holds events back.")
    elif delivery.seconds > _QUICK_DELIVERY:
        yield Finding("slow-delivery", f"The event that the check published came after {span(delivery.seconds)}.")


def _lump(first: Listening) -> Arrival | None:
    late = (arrival for arrival in first.arrivals if arrival.at - first.head_at > _BEGIN)
    return next((arrival for arrival in late if arrival.comments >= _LUMP), None)


def _is_collected(first: Listening) -> bool:
    if not first.arrivals or first.end is End.OPEN:
        return False
    begin = first.arrivals[0]
    blocks = sum(len(arrival.events) + arrival.comments for arrival in first.arrivals)
    return begin.at > _LATE and first.seconds - begin.at < _AT_ONCE and blocks > 1


def silence(seen: Seen) -> Iterator[Finding]:
    """Judge how long the stream was silent while it stayed open."""
    first = seen.first
    if not first.is_stream or first.end is not End.OPEN or first.farewell_at is not None:
        return
    if not first.arrivals:
        # If an event was published and did not come, it is sure that something holds bytes back.
        if seen.delivery is None or not seen.delivery.is_published:
            text = f"After the head no byte came in {span(first.last_silence)}."
            yield Finding("silent", f"{text} Something holds bytes back, or the server sends no heartbeat.")
    elif first.survived_silence > _SLOW_HEARTBEAT:
        yield Finding("slow-heartbeat", f"The stream was silent for {span(first.survived_silence)}.")
    elif not first.is_empty and not first.comments and first.last_silence > seen.wait / 2:
        text = f"No heartbeat came in the {span(seen.wait)} of the check"
        yield Finding("no-heartbeat", f"{text}, and the stream was silent for {span(first.last_silence)}.")


def end(seen: Seen) -> Iterator[Finding]:
    """Judge how the stream ended."""
    first = seen.first
    if not first.is_stream or first.is_unavailable:
        return
    if first.farewell_at is not None:
        yield _after_farewell(first, first.seconds - first.farewell_at)
    elif first.end is End.CUT or _is_end_after_silence(first):
        yield _cut(first)
    elif first.end is End.REGULAR:
        last = first.arrivals[-1] if first.arrivals else None
        if last is not None and last.retry is not None and first.last_silence <= _QUICK_FAREWELL:
            yield Finding("ended", f"The stream ended after {span(first.seconds)}, with a reconnection time.")
        else:
            text = f"The stream ended after {span(first.seconds)}, without a reconnection time at its end."
            yield Finding("no-farewell", f"{text} Clients that lose their streams together return together.")


def _after_farewell(first: Listening, seconds: float) -> Finding:
    if seconds <= _QUICK_FAREWELL:
        return Finding("ended", f"The stream ended after {span(first.seconds)}, with a farewell.")
    ended = "was still open" if first.end is End.OPEN else "ended"
    return Finding("slow-farewell", f"The farewell came, and the connection {ended} {span(seconds)} later.")


def _is_end_after_silence(first: Listening) -> bool:
    return first.end is End.REGULAR and first.last_silence >= max(_LEAST_IDLE_BEFORE_END, first.survived_silence)


def _cut(first: Listening) -> Finding:
    silent = first.last_silence
    if silent >= _LEAST_IDLE and silent > first.survived_silence:
        text = f"The connection was closed after {span(silent)} of silence."
        return Finding("idle-timeout", f"{text} A time-out is shorter than the time between two heartbeats.")
    why = f" ({clean(first.error)})" if first.error else ""
    return Finding("cut", f"The connection was cut after {span(first.seconds)}, inside the stream{why}.")


def content(seen: Seen) -> Iterator[Finding]:
    """Judge the format, the reconnection times and the ids."""
    first = seen.first
    if not first.is_stream or not first.arrivals or not first.is_decoded or first.is_unavailable:
        return
    if first.is_empty:
        size = sum(arrival.size for arrival in first.arrivals)
        if not first.coding:
            yield Finding("format", f"{size} bytes came, but no event and no comment.")
        return
    if not first.retries:
        yield Finding(
            "no-retry", "No reconnection time came. Each browser takes its own, of three to five seconds."
        )
    for retry in first.retries:
        if not _SHORT_RETRY <= retry <= _LONG_RETRY:
            yield Finding("retry-value", f"The reconnection time is {retry} ms.")
    if not first.events:
        yield Finding("no-events", "No event came, so ids and resumption were not checked.")
    elif not first.ids:
        yield Finding("no-ids", "The events have no id. A client that reconnects misses the events in between.")
    elif all(_SHORT_ID.fullmatch(event_id) for event_id in first.ids):
        text = f"The ids are plain numbers, such as {first.ids[-1]}."
        yield Finding(
            "ambiguous-ids", f"{text} If they start again after a restart, an old id means another event."
        )
