"""The probes: the requests of one check, one after the other, and the facts that they bring."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..protocol.event import RESET
from .errors import CannotCheck
from .exchange import Exchange, HeadCame
from .observations import CrossOrigin, Delivery, Head, HeadAnswer, Listening, Resumption, Seen
from .opener import PROGRESS_SECONDS, Opener, Progress
from .stream_reader import StreamReader
from .target import Target
from .tls import client_context, look

# Seconds for which the check listens if --wait is not given, at most. The usual idle time-outs are 60.
USUAL_WAIT = 65.0

# Without --wait the check has listened long enough after so many heartbeats. A time-out that is shorter than the
# time between them would have cut the stream.
_HEARTBEATS = 2

# Seconds that an answer, a delivery or a replay may take. For the first answer a longer wait counts.
_PATIENCE = 6.0

# Seconds for which the check watches a resumed stream of which it expects no certain event.
_GLANCE = 1.0

# Seconds without a byte after which the beginning of a stream is over, so that an event is published; and the
# longest time until then.
_LULL = 0.3
_LONGEST_BEGINNING = 3.0

# Bytes after which the check stops to listen, because it keeps all events in memory.
_MOST_BYTES = 16 * 1024 * 1024

# In the body of a POST, replaced by letters and digits that no other event has.
STAMP = "{stamp}"

# An origin that no server knows (RFC 2606 2 reserves the top-level domain), and an id.
_FOREIGN_ORIGIN = "https://sse-threaded-check.invalid"
_UNKNOWN_ID = "sse-threaded-check"

# A browser sends these fields, too.
_FIELDS = {
    "Accept": "text/event-stream",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Cache-Control": "no-cache",
    "User-Agent": "sse-threaded-check",
}

# EventSource sends these fields without a preflight, or a page cannot set them.
_NO_PREFLIGHT = {"accept", "accept-language", "cache-control", "cookie", "host", "user-agent"}


@dataclass(frozen=True)
class Post:
    """A request that makes the app publish an event on the stream.

    :ivar target: where to.
    :ivar body: the body, with ``{stamp}`` in it.
    :ivar content_type: its type; default ``application/json``.
    """

    target: Target
    body: str
    content_type: str = "application/json"


@dataclass(frozen=True)
class Settings:
    """The options of a check.

    :ivar fields: further header fields, such as ``Cookie``. They go to the origin of the URL and to ``post`` only.
    :ivar origin: the origin of a page that is to read the stream; default ``None``: pages of the same origin.
    :ivar wait: how long to listen, seconds; default ``None``: until the second heartbeat, at most ``USUAL_WAIT``.
    :ivar post: publishes an event; default ``None``: nothing is published.
    :ivar authorities: a file with certificates to trust beside those of the system; default ``None``: no other.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    origin: str | None = None
    wait: float | None = None
    post: Post | None = None
    authorities: str | None = None


class Check:
    """One check of a deployment. One thread uses it, once.

    :param target: the URL of the stream.
    :param settings: all other details.
    :param progress: called several times a second while the check waits; default: nothing is shown.
    :raises CannotCheck: the file of ``settings.authorities`` cannot be used.
    """

    def __init__(self, target: Target, settings: Settings, progress: Progress = lambda *_: None) -> None:
        self._target = target
        self._settings = settings
        self._progress = progress
        self._context = client_context(settings.authorities, "http/1.1")
        self._opener = Opener(target, settings.fields.keys(), self._context, progress)
        self._wait = USUAL_WAIT if settings.wait is None else settings.wait

    def run(self) -> Seen:
        """Send all requests; return the facts.

        :raises CannotCheck: no connection to the server is possible.
        """
        target = self._target
        is_https = target.scheme == "https"
        seen = Seen(str(target), is_https, target.is_loopback, self._wait)
        if is_https:
            tls = look(target, self._settings.authorities)
            seen = replace(seen, tls=tls)
            if tls.fault:
                return seen  # a browser stops here, too, and no secret may reach a server without a certificate
        reader, cross_origin = self._open_first()
        seen = replace(seen, cross_origin=cross_origin)
        if not reader.is_stream:
            return replace(seen, first=reader.close())
        first, delivery = self._listen(reader)
        seen = replace(seen, first=first, delivery=delivery)
        if first.is_unavailable:
            return seen
        return replace(
            seen,
            resumption=self._resume(first, delivery),
            unknown_id=self._answer_to_unknown_id(),
            head_answer=self._answer_to_head(),
            cross_origin=self._ask_further(cross_origin),
        )

    def _fields(self, **more: str) -> dict[str, str]:
        # The user's own fields take the place of a browser's.
        given = {name.lower() for name in self._settings.fields}
        usual = {name: value for name, value in _FIELDS.items() if name.lower() not in given}
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return {**usual, **self._settings.fields, **named}

    def _open_first(self) -> tuple[StreamReader, CrossOrigin | None]:
        origin = self._settings.origin
        patience = max(self._wait, _PATIENCE)
        reader = self._opener.open(self._fields(Origin=origin) if origin else self._fields(), patience)
        if reader.refusal:
            raise CannotCheck(f"{reader.exchange.target}: no connection ({reader.refusal})")
        if origin is None:
            return reader, None
        names = {name.lower() for name in self._settings.fields}
        asked = CrossOrigin(
            origin, "cookie" in names, reader.head, custom_fields=tuple(sorted(names - _NO_PREFLIGHT))
        )
        if reader.is_stream or reader.head is None:
            return reader, asked
        # Perhaps the server refuses only the origin. Then the other probes go on without it.
        other = self._opener.open(self._fields(), patience)
        if other.is_stream:
            reader.close()
            return other, asked
        other.close()
        return reader, None

    def _listen(self, reader: StreamReader) -> tuple[Listening, Delivery | None]:
        begin = reader.exchange.started + reader.seen().head_at
        deadline = begin + self._wait
        stamp, status, published_at = "", None, 0.0
        if self._settings.post is not None:
            self._read_beginning(reader)
            stamp, published_at = _new_stamp(), time.monotonic()
            status = self._publish(self._settings.post, stamp)
            deadline = max(deadline, published_at + _PATIENCE)
        while not reader.is_over and not self._has_heard_enough(reader, stamp):
            now = time.monotonic()
            if now >= deadline:
                break
            words = f"listening, heartbeats so far: {reader.heartbeats}"
            self._progress(words, now - begin, deadline - begin)
            reader.step(min(PROGRESS_SECONDS, deadline - now))
        first = reader.close()
        if not stamp:
            return first, None
        sent = published_at - reader.exchange.started
        found = first.find(stamp)
        if found is None:
            return first, Delivery(status, None, first.seconds - sent)
        at, event = found
        return first, Delivery(status, at - sent, at - sent, event.last_event_id)

    def _has_heard_enough(self, reader: StreamReader, stamp: str) -> bool:
        if reader.size > _MOST_BYTES:
            return True
        if self._settings.wait is not None or reader.heartbeats < _HEARTBEATS:
            return False
        return not stamp or reader.seen().find(stamp) is not None

    def _read_beginning(self, reader: StreamReader) -> None:
        limit = time.monotonic() + _LONGEST_BEGINNING
        while not reader.is_over and time.monotonic() < limit:
            if not reader.step(_LULL):
                return

    def _publish(self, post: Post, stamp: str) -> int | None:
        fields = {**self._settings.fields, "Content-Type": post.content_type, "User-Agent": _FIELDS["User-Agent"]}
        head = self._head("POST", post.target, fields, post.body.replace(STAMP, stamp).encode())
        return None if head is None else head.status

    def _resume(self, first: Listening, delivery: Delivery | None) -> Resumption | None:
        stamp, expected = "", ""
        known = [event.last_event_id for event in first.identified_events]
        if delivery is not None and delivery.event_id and self._settings.post is not None:
            stamp, sent = _new_stamp(), delivery.event_id
            status = self._publish(self._settings.post, stamp)
            if not Delivery(status).is_published:
                return None
        elif known:
            sent, expected = known[0], known[1] if len(known) > 1 else ""
        elif first.ids:
            sent = first.ids[-1]
        else:
            return None
        reader = self._opener.open(self._fields(Last_Event_ID=sent), _PATIENCE)
        asked = Resumption(sent, reader.seen(), (sent,), expected, stamp)
        patience = _PATIENCE if stamp or expected else _GLANCE
        deadline = time.monotonic() + patience
        while not reader.is_over and not _is_decided(asked) and time.monotonic() < deadline:
            self._progress("resuming", patience - (deadline - time.monotonic()), patience)
            reader.step(PROGRESS_SECONDS)
            asked = replace(asked, listening=reader.seen())
        return replace(asked, listening=reader.close())

    def _answer_to_unknown_id(self) -> Head | None:
        reader = self._opener.open(self._fields(Last_Event_ID=_UNKNOWN_ID), _PATIENCE)
        return reader.close().head

    def _answer_to_head(self) -> HeadAnswer:
        began = time.monotonic()
        head = self._head("HEAD", self._target, self._fields())
        return HeadAnswer(head, time.monotonic() - began)

    def _ask_further(self, asked: CrossOrigin | None) -> CrossOrigin | None:
        if asked is None:
            return None
        reader = self._opener.open(self._fields(Origin=_FOREIGN_ORIGIN), _PATIENCE)
        asked = replace(asked, foreign_origin=_FOREIGN_ORIGIN, foreign_head=reader.close().head)
        if not asked.custom_fields:
            return asked
        question = {
            **_FIELDS,  # a browser sends no credentials with it
            "Accept": "*/*",
            "Origin": asked.origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": ",".join(asked.custom_fields),
        }
        return replace(asked, preflight=self._head("OPTIONS", self._target, question))

    def _head(
        self, method: str, target: Target, fields: Mapping[str, str], body: bytes | None = None
    ) -> Head | None:
        """Return the head of the answer to a request, without redirects; ``None`` if none comes in time."""
        self._progress(f"asking with {method}", 0.0, _PATIENCE)
        with Exchange(method, target, fields, body, self._context) as exchange:
            news = exchange.next(_PATIENCE)
            return news.head if isinstance(news, HeadCame) else None


def _is_decided(asked: Resumption) -> bool:
    again = asked.listening
    if not again.is_stream or any(event.event == RESET for event in again.events):
        return True
    if asked.stamp:
        return again.find(asked.stamp) is not None
    ids = [event.last_event_id for event in again.identified_events]
    is_expected = bool(asked.expected_id) and asked.expected_id in ids
    return is_expected or any(event_id in asked.seen_ids for event_id in ids[:1])


def _new_stamp() -> str:
    return f"check{secrets.token_hex(8)}"
