"""The facts that the probes have noted, as values. They compute a few further facts; nothing here does I/O.

All times are seconds since the request began, unless the name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

from ..protocol.decoder import DecodedEvent
from ..protocol.event import END, NOTICES, UNAVAILABLE

_STREAM = "text/event-stream"


@dataclass(frozen=True)
class Head:
    """The status and the header fields of an answer.

    :ivar version: 10 or 11, the HTTP version.
    :ivar fields: name and value of each field, in order; a name may occur several times.
    """

    status: int
    reason: str = ""
    version: int = 11
    fields: tuple[tuple[str, str], ...] = ()

    def values(self, name: str) -> list[str]:
        """Return the value of each field with this name, without white space at the ends."""
        return [value.strip() for known, value in self.fields if known.lower() == name.lower()]

    def value(self, name: str) -> str:
        """Return the values of the fields with this name, joined by commas (RFC 9110 5.3); ``""`` for no field."""
        return ", ".join(self.values(name))

    @property
    def media_type(self) -> str:
        """The content type in lower case, without parameters; ``""`` if it is missing."""
        return self.value("Content-Type").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        """The parameter ``charset`` of the content type, in lower case; ``""`` if it is missing."""
        for parameter in self.value("Content-Type").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip('"').lower()
        return ""

    @property
    def directives(self) -> dict[str, str]:
        """The directives of ``Cache-Control`` (RFC 9111 5.2), in lower case, with their arguments."""
        pairs = (each.partition("=") for each in self.value("Cache-Control").lower().split(",") if each.strip())
        return {name.strip(): argument.strip().strip('"') for name, _, argument in pairs}

    @property
    def is_stream(self) -> bool:
        """Whether ``EventSource`` accepts the answer (WHATWG HTML 9.2.3)."""
        return self.status == 200 and self.media_type == _STREAM

    def __str__(self) -> str:
        """The status and its phrase, without control characters."""
        return "".join(filter(str.isprintable, f"{self.status} {self.reason}")).rstrip()


class Arrival(NamedTuple):
    """Bytes that came at one time.

    :ivar at: when they came.
    :ivar size: how many bytes.
    :ivar events: the events that they complete.
    :ivar comments: how many comment lines they complete; heartbeats are comments.
    :ivar retry: the reconnection time in them, milliseconds; ``None`` if they have none.
    """

    at: float
    size: int = 0
    events: tuple[DecodedEvent, ...] = ()
    comments: int = 0
    retry: int | None = None


class End(Enum):
    """How an answer ended.

    ``OPEN``: it did not, and the client left. ``REGULAR``: its last chunk or its last byte came, or the server
    closed a connection whose end is the only mark. ``CUT``: the connection broke before that.
    """

    OPEN = "open"
    REGULAR = "regular"
    CUT = "cut"


@dataclass(frozen=True)
class Listening:
    """One request for a stream, and everything that came.

    :ivar head: the head of the answer; ``None`` if none came.
    :ivar head_at: when it came.
    :ivar clock: the time on this machine when it came, seconds since 1970.
    :ivar arrivals: the pieces of the body, in order.
    :ivar end: how the answer ended.
    :ivar seconds: when it ended, or when the client left.
    :ivar redirects: the addresses to which the server redirected, in order, without the values of their queries.
    :ivar loops: whether there were more redirects than a browser follows.
    :ivar coding: the content coding that a browser gets; ``""`` for none.
    :ivar error: the error with which the connection broke; ``""`` for none.
    :ivar is_decoded: whether the content coding could be undone, so that events were found.
    """

    head: Head | None = None
    head_at: float = 0.0
    clock: float = 0.0
    arrivals: tuple[Arrival, ...] = ()
    end: End = End.OPEN
    seconds: float = 0.0
    redirects: tuple[str, ...] = ()
    loops: bool = False
    coding: str = ""
    error: str = ""
    is_decoded: bool = True

    @property
    def is_stream(self) -> bool:
        """Whether ``EventSource`` accepts the answer."""
        return self.head is not None and self.head.is_stream

    @property
    def events(self) -> list[DecodedEvent]:
        """All events, in order."""
        return [event for arrival in self.arrivals for event in arrival.events]

    @property
    def ordinary_events(self) -> list[DecodedEvent]:
        """The events without those that a stream of this package sends about itself."""
        return [event for event in self.events if event.event not in NOTICES]

    @property
    def identified_events(self) -> list[DecodedEvent]:
        """The ordinary events with an id of their own, not that of an earlier event."""
        before = ["", *(event.last_event_id for event in self.events)]
        pairs = zip(before, self.events, strict=False)
        own = [event for last_id, event in pairs if event.last_event_id not in ("", last_id)]
        return [event for event in own if event.event not in NOTICES]

    @property
    def is_empty(self) -> bool:
        """Whether the bytes so far have neither an event nor a comment nor a reconnection time."""
        return not self.events and not self.comments and not self.retries

    @property
    def is_unavailable(self) -> bool:
        """Whether an app of this package says that it gives no stream now."""
        return not self.ordinary_events and any(event.event == UNAVAILABLE for event in self.events)

    @property
    def comments(self) -> int:
        """How many comment lines came."""
        return sum(arrival.comments for arrival in self.arrivals)

    @property
    def retries(self) -> list[int]:
        """The reconnection times, in order."""
        return [arrival.retry for arrival in self.arrivals if arrival.retry is not None]

    @property
    def ids(self) -> list[str]:
        """The last event IDs, in order, each once."""
        found = [event.last_event_id for event in self.events if event.last_event_id]
        return list(dict.fromkeys(found))

    @property
    def last_byte_at(self) -> float:
        """When the last byte came; those of the head count."""
        return self.arrivals[-1].at if self.arrivals else self.head_at

    @property
    def last_silence(self) -> float:
        """Seconds from the last byte to the end."""
        return self.seconds - self.last_byte_at

    @property
    def survived_silence(self) -> float:
        """The longest time between two pieces, seconds. No time-out on the way is shorter."""
        times = [self.head_at, *(arrival.at for arrival in self.arrivals)]
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)

    @property
    def heartbeat_gaps(self) -> list[float]:
        """The seconds between two pieces that each have a comment."""
        times = [arrival.at for arrival in self.arrivals if arrival.comments]
        return [later - earlier for earlier, later in pairwise(times)]

    @property
    def farewell_at(self) -> float | None:
        """When this package's farewell came; ``None`` if none came."""
        for arrival in self.arrivals:
            if any(event.event == END for event in arrival.events):
                return arrival.at
        return None

    def find(self, text: str) -> tuple[float, DecodedEvent] | None:
        """Return the first event that contains ``text``, and when it came; ``None`` if no event does."""
        for arrival in self.arrivals:
            for event in arrival.events:
                if text in event.data:
                    return arrival.at, event
        return None


@dataclass(frozen=True)
class TLS:
    """A TLS handshake.

    :ivar alpn: the protocol that the server chose, such as ``h2``; ``None`` if it chose none.
    :ivar fault: the code of the finding, if the handshake failed; ``""`` if it did not.
    :ivar detail: the words of OpenSSL about the fault.
    :ivar not_before: the beginning of the certificate's validity, seconds since 1970.
    :ivar not_after: its end.
    :ivar now: the time on this machine.
    """

    alpn: str | None = None
    fault: str = ""
    detail: str = ""
    not_before: float = 0.0
    not_after: float = 0.0
    now: float = 0.0


@dataclass(frozen=True)
class Delivery:
    """An event that the check itself has published.

    :ivar status: the status of the answer to the POST; ``None`` if no answer came.
    :ivar seconds: from the POST until the event came; ``None`` if it did not come.
    :ivar waited: how long the check waited for it, seconds.
    :ivar event_id: the last event ID after it; ``""`` for none.
    """

    status: int | None
    seconds: float | None = None
    waited: float = 0.0
    event_id: str = ""

    @property
    def is_published(self) -> bool:
        """Whether the server has accepted the POST."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True)
class Resumption:
    """A second request, with the id of an event that the first stream has sent.

    :ivar sent_id: its ``Last-Event-ID``.
    :ivar seen_ids: the ids that the first stream sent up to this one.
    :ivar expected_id: the id of the event that must come first; ``""`` if it is not known.
    :ivar stamp: the text in an event that was published between both streams; ``""`` for none.
    :ivar listening: the answer.
    """

    sent_id: str
    listening: Listening
    seen_ids: tuple[str, ...] = ()
    expected_id: str = ""
    stamp: str = ""


@dataclass(frozen=True)
class HeadAnswer:
    """The answer to a HEAD request.

    :ivar head: ``None`` if none came.
    :ivar seconds: how long it took, or how long the check waited.
    """

    head: Head | None
    seconds: float


@dataclass(frozen=True)
class CrossOrigin:
    """The rights of pages of other origins (WHATWG Fetch 3.3).

    :ivar origin: the origin of ``--origin``.
    :ivar has_cookie: whether the request has a cookie, so that the page needs credentials.
    :ivar head: the answer to a request with this origin; ``None`` if none came.
    :ivar foreign_origin: an origin that no server can know.
    :ivar foreign_head: the answer to a request with it.
    :ivar custom_fields: names of fields in lower case, which make the browser ask first (a preflight).
    :ivar preflight: the answer to this question; ``None`` if none came, or if the browser does not ask.
    """

    origin: str
    has_cookie: bool
    head: Head | None
    foreign_origin: str = ""
    foreign_head: Head | None = None
    custom_fields: tuple[str, ...] = ()
    preflight: Head | None = None


@dataclass(frozen=True)
class Seen:
    """Everything that the probes have noted. ``None`` stands for a probe that was not made.

    :ivar url: the URL, without the values of its query.
    :ivar is_https: whether it begins with https://.
    :ivar is_loopback: whether the host is this machine.
    :ivar wait: how long the check was to listen, seconds.
    :ivar first: the stream on which it listened.
    :ivar unknown_id: the answer to a request with an id that no server knows.
    """

    url: str
    is_https: bool = False
    is_loopback: bool = False
    wait: float = 0.0
    tls: TLS | None = None
    first: Listening = field(default_factory=Listening)
    delivery: Delivery | None = None
    resumption: Resumption | None = None
    unknown_id: Head | None = None
    head_answer: HeadAnswer | None = None
    cross_origin: CrossOrigin | None = None
