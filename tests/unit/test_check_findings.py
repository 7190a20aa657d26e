"""The findings of the check: from facts, without a server. Each code has facts; right facts have no finding."""

from __future__ import annotations

import re
import unittest
from dataclasses import replace
from typing import Any

from sse_threaded.check import answer_rules, probes, report, stream_rules
from sse_threaded.check.codes import CODES, Level
from sse_threaded.check.findings import findings
from sse_threaded.check.observations import (
    TLS,
    Arrival,
    CrossOrigin,
    Delivery,
    End,
    Head,
    HeadAnswer,
    Listening,
    Resumption,
    Seen,
)
from sse_threaded.protocol.decoder import DecodedEvent
from tests.support import CHECKOUT

ONCE = True  # it says the same under every Python

DAY = 86_400.0
NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"

FIELDS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "Date": DATE,
    "Server": "caddy",
}
ORIGIN = "https://app.example"
ALLOWED = {"Access-Control-Allow-Origin": ORIGIN, "Vary": "Accept, Origin"}


def make_head(status: int = 200, version: int = 11, **changes: str | None) -> Head:
    """The head of a good stream, with some fields changed; ``None`` takes one out."""
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    fields = {**FIELDS, **named}
    return Head(
        status, "Reason", version, tuple((name, text) for name, text in fields.items() if text is not None)
    )


def event(data: str = "{}", name: str = "message", event_id: str = "kxqwzp-1") -> DecodedEvent:
    return DecodedEvent(data, name, event_id)


START = Arrival(0.01, 80, (event(name="stream-start", event_id="kxqwzp-0"),), 0, 5000)
HEARTBEATS = (START, Arrival(15.0, 3, comments=1), Arrival(30.0, 3, comments=1))


def make_stream(*arrivals: Arrival, **changes: Any) -> Listening:
    """What a good stream brings in half a minute, with some facts changed."""
    head = changes.pop("head", make_head())
    good = Listening(head, 0.01, NOW, arrivals or HEARTBEATS, seconds=30.0)
    return replace(good, **changes)


def make_seen(**changes: Any) -> Seen:
    """A good deployment, with some facts changed."""
    good = Seen(
        "https://app.example/events",
        is_https=True,
        wait=65.0,
        tls=TLS("h2", not_before=NOW - 30 * DAY, not_after=NOW + 60 * DAY, now=NOW),
        first=make_stream(),
        delivery=Delivery(201, 0.02, 0.02, "kxqwzp-1"),
        resumption=make_resumption(event("has check0 in it", event_id="kxqwzp-2"), stamp="check0"),
        unknown_id=make_head(),
        head_answer=HeadAnswer(make_head(), 0.01),
        cross_origin=make_cross_origin(),
    )
    return replace(good, **changes)


def make_resumption(
    *events: DecodedEvent, stamp: str = "", expected: str = "", head: Head | None = None
) -> Resumption:
    again = make_stream(START, Arrival(0.02, 50, events), head=head or make_head())
    return Resumption("kxqwzp-1", again, ("kxqwzp-1",), expected, stamp)


def make_cross_origin(head: Head | None = None, **changes: Any) -> CrossOrigin:
    good = CrossOrigin(
        ORIGIN,
        True,
        head or make_head(**ALLOWED, Access_Control_Allow_Credentials="true"),
        "https://nowhere.invalid",
        make_head(403),
    )
    return replace(good, **changes)


def first(*arrivals: Arrival, **changes: Any) -> Seen:
    """A deployment whose stream is another one, without a delivery."""
    return make_seen(first=make_stream(*arrivals, **changes), delivery=None)


def head(**changes: str | None) -> Seen:
    """A deployment whose stream has other header fields."""
    return make_seen(first=make_stream(head=make_head(**changes)))


def status(number: int) -> Seen:
    return make_seen(first=Listening(Head(number, "Reason"), 0.1, NOW, seconds=0.1))


def plain(**changes: Any) -> Seen:
    """A deployment without TLS."""
    return make_seen(is_https=False, tls=None, **changes)


def certificate(left: float, life: float) -> Seen:
    return make_seen(tls=TLS("h2", not_before=NOW + left - life, not_after=NOW + left, now=NOW))


def no_handshake(code: str, detail: str) -> Seen:
    return make_seen(tls=TLS(fault=code, detail=detail), first=Listening(), delivery=None)


def silent_after(seconds: float, *arrivals: Arrival, **changes: Any) -> Seen:
    return first(*arrivals, seconds=arrivals[-1].at + seconds, **changes)


PING = Arrival(1.0, 3, comments=1)
UNAVAILABLE = Arrival(0.01, 60, (event(name="stream-unavailable", event_id=""),), 0, 5000)
FAREWELL = Arrival(20.0, 60, (event(name="stream-end"),), 0, 1000)
TICKS = Arrival(0.5, 40, (event(event_id="17"),))
PREFLIGHT = Head(
    204,
    fields=(("Access-Control-Allow-Origin", ORIGIN), ("Access-Control-Allow-Headers", "Authorization, X-Token")),
)

# Each code, and facts of which it is a finding.
FOUND: list[tuple[str, Seen]] = [
    ("certificate-expired", no_handshake("certificate-expired", "certificate has expired")),
    ("certificate-name", no_handshake("certificate-name", "Hostname mismatch")),
    ("certificate-untrusted", no_handshake("certificate-untrusted", "self-signed certificate")),
    ("tls", no_handshake("tls", "WRONG_VERSION_NUMBER")),
    ("certificate-soon", certificate(10 * DAY, 90 * DAY)),
    ("certificate-soon", certificate(0.9 * DAY, 6 * DAY)),
    ("login", make_seen(first=Listening(Head(200, "OK"), 0.1, redirects=("https://app.example/login",)))),
    ("login", make_seen(first=Listening(Head(401, "No"), 0.1, redirects=("https://sso.example/",)))),
    ("redirected", first(redirects=("https://app.example/events/",))),
    ("redirect-loop", make_seen(first=Listening(Head(302), redirects=("https://app.example/",), loops=True))),
    *(("status", status(number)) for number in (204, 301, 400, 401, 403, 404, 407, 429, 500, 502, 503, 504)),
    ("content-type", make_seen(first=Listening(make_head(Content_Type="text/html"), 0.1, NOW))),
    ("content-type", make_seen(first=Listening(make_head(Content_Type=None), 0.1, NOW))),
    ("no-answer", make_seen(first=Listening(end=End.CUT, error="Connection reset by peer", seconds=0.2))),
    ("silent", make_seen(first=Listening(seconds=65.0))),
    ("silent", make_seen(first=Listening(make_head(), 0.1, NOW, seconds=65.0), delivery=None)),
    ("silent", make_seen(first=Listening(make_head(), 0.1, NOW, seconds=65.0), delivery=Delivery(500))),
    ("buffered", make_seen(delivery=Delivery(201, None, 6.0))),
    ("buffered", make_seen(delivery=Delivery(201, 5.5, 5.5, "kxqwzp-1"))),
    ("buffered", first(START, Arrival(40.0, 9, comments=3))),
    ("buffered", first(Arrival(4.0, 90, (event(), event())), end=End.REGULAR, seconds=4.1)),
    ("buffered", first(Arrival(0.1, 10), coding="gzip")),
    ("slow-delivery", make_seen(delivery=Delivery(201, 1.5, 1.5, "kxqwzp-1"))),
    ("post", make_seen(delivery=Delivery(403))),
    ("post", make_seen(delivery=Delivery(None))),
    ("idle-timeout", silent_after(60.0, START, end=End.CUT)),
    ("idle-timeout", silent_after(60.0, START, PING, end=End.CUT)),
    ("idle-timeout", first(head_at=0.1, arrivals=(), end=End.CUT, seconds=1.2)),
    ("idle-timeout", silent_after(60.0, START, end=End.REGULAR)),
    ("cut", silent_after(0.1, START, PING, end=End.CUT)),
    ("cut", silent_after(3.0, *HEARTBEATS, end=End.CUT)),
    ("unavailable", first(UNAVAILABLE, end=End.REGULAR, seconds=0.02)),
    ("content-length", head(Content_Length="12")),
    ("cached", head(Age="17")),
    ("cached", head(X_Cache="HIT from cache.example")),
    ("cached", head(CF_Cache_Status="HIT")),
    ("cacheable", head(Cache_Control=None)),
    ("cacheable", head(Cache_Control="public, max-age=600")),
    ("transformable", head(Cache_Control="no-cache")),
    ("charset", head(Content_Type="text/event-stream; charset=iso-8859-1")),
    ("compressed", first(coding="gzip")),
    ("accel-buffering", head(X_Accel_Buffering=None)),
    ("accel-buffering", head(X_Accel_Buffering="yes", Server="nginx")),
    ("http10", make_seen(first=make_stream(head=make_head(version=10)))),
    ("http1", plain()),
    ("http1", make_seen(tls=TLS("http/1.1", not_before=NOW - 30 * DAY, not_after=NOW + 60 * DAY, now=NOW))),
    ("plain-http", plain()),
    ("format", first(Arrival(0.1, 20))),
    ("no-heartbeat", silent_after(65.0, START)),
    ("slow-heartbeat", first(START, Arrival(50.0, 3, comments=1), seconds=65.0)),
    ("no-retry", first(Arrival(0.1, 30, (event(),), 1))),
    ("retry-value", first(Arrival(0.1, 30, (event(),), 1, 0))),
    ("retry-value", first(Arrival(0.1, 30, (event(),), 1, 3_600_000))),
    ("no-events", first(Arrival(0.1, 30, (), 1, 5000))),
    ("no-ids", first(Arrival(0.1, 30, (event(event_id=""),), 1, 5000))),
    ("ambiguous-ids", first(START._replace(events=()), TICKS, PING)),
    ("resume", make_seen(resumption=make_resumption(stamp="check0"))),
    ("resume", make_seen(resumption=make_resumption(event(name="reset", event_id="kxqwzp-9")))),
    ("resume", make_seen(resumption=make_resumption(event(event_id="kxqwzp-1")))),
    ("resume", make_seen(resumption=make_resumption(event(event_id="kxqwzp-3"), expected="kxqwzp-2"))),
    ("resume", make_seen(resumption=make_resumption(head=make_head(500)))),
    ("resume", make_seen(resumption=Resumption("kxqwzp-1", Listening(seconds=6.0)))),
    ("unknown-id", make_seen(unknown_id=make_head(500))),
    ("no-farewell", first(START, TICKS, end=End.REGULAR, seconds=0.6)),
    ("no-farewell", silent_after(4.0, TICKS, end=End.REGULAR)),
    ("no-farewell", silent_after(4.0, START, end=End.REGULAR)),
    ("ended", first(START, FAREWELL, end=End.REGULAR, seconds=20.1)),
    ("ended", first(START, TICKS._replace(retry=2000), end=End.REGULAR, seconds=0.6)),
    ("slow-farewell", first(START, FAREWELL, end=End.REGULAR, seconds=22.0)),
    ("slow-farewell", first(START, FAREWELL, end=End.CUT, seconds=22.0)),
    ("slow-farewell", first(START, FAREWELL, seconds=65.0)),
    ("cors", make_seen(cross_origin=make_cross_origin(make_head()))),
    ("cors", make_seen(cross_origin=make_cross_origin(make_head(403, **ALLOWED)))),
    (
        "cors",
        make_seen(cross_origin=make_cross_origin(make_head(Access_Control_Allow_Origin="https://b.example"))),
    ),
    ("cors", make_seen(cross_origin=make_cross_origin(make_head(Access_Control_Allow_Origin="*")))),
    ("cors", make_seen(cross_origin=make_cross_origin(make_head(**ALLOWED)))),
    (
        "cors",
        make_seen(
            cross_origin=make_cross_origin(
                replace(
                    made := make_head(**ALLOWED, Access_Control_Allow_Credentials="true"),
                    fields=(*made.fields, ("access-control-allow-origin", ORIGIN)),
                )
            )
        ),
    ),
    (
        "cors-vary",
        make_seen(cross_origin=make_cross_origin(make_head(Access_Control_Allow_Origin=ORIGIN), has_cookie=False)),
    ),
    (
        "cors-any-origin",
        make_seen(
            cross_origin=make_cross_origin(
                foreign_head=make_head(
                    Access_Control_Allow_Origin="https://nowhere.invalid", Access_Control_Allow_Credentials="true"
                )
            )
        ),
    ),
    ("cors-preflight", make_seen(cross_origin=make_cross_origin(custom_fields=("authorization",)))),
    (
        "cors-preflight",
        make_seen(
            cross_origin=make_cross_origin(
                custom_fields=("authorization",), preflight=replace(PREFLIGHT, status=401)
            )
        ),
    ),
    (
        "cors-preflight",
        make_seen(cross_origin=make_cross_origin(custom_fields=("authorization", "x-other"), preflight=PREFLIGHT)),
    ),
    ("head", make_seen(head_answer=HeadAnswer(None, 6.0))),
    ("head", make_seen(head_answer=HeadAnswer(Head(500, "Error"), 0.1))),
    ("clock", first(clock=NOW + 40.0)),
    ("clock", first(clock=NOW - 40.0)),
]

# Facts that are right: no finding at all.
RIGHT: dict[str, Seen] = {
    "a good deployment": make_seen(),
    "without --post and --origin": make_seen(delivery=None, resumption=None, cross_origin=None),
    "a new certificate of two days": certificate(2 * DAY, 2 * DAY),
    "a certificate that is renewed in time": certificate(20 * DAY, 90 * DAY),
    "HTTP/3 only": make_seen(
        first=make_stream(head=make_head(Alt_Svc='h3=":443"; ma=2592000')),
        tls=TLS("http/1.1", not_before=NOW, not_after=NOW + 60 * DAY, now=NOW),
    ),
    "nginx takes the field out": head(X_Accel_Buffering=None, Server="nginx/1.22.1"),
    "no-store": head(Cache_Control="No-Store, No-Transform"),
    "no charset": head(Content_Type="text/event-stream"),
    "a quoted charset": head(Content_Type='Text/Event-Stream; Charset="UTF-8"'),
    "a miss of a cache": head(Age="0", X_Cache="MISS"),
    "an identity coding": head(Content_Encoding="identity"),
    "comments that fill buffers at the beginning": first(START._replace(comments=40), *HEARTBEATS[1:]),
    "a slow clock within limits": first(clock=NOW + 20.0),
    "no Date": head(Date=None),
    "HEAD is not wanted": make_seen(head_answer=HeadAnswer(Head(405), 0.1)),
    "HEAD is not implemented": make_seen(head_answer=HeadAnswer(Head(501), 0.1)),
    "ids of Redis": first(START._replace(events=(event(event_id="1526919030474-55"),)), *HEARTBEATS[1:]),
    "ids that are times": first(START._replace(events=(event(event_id="1526919030474"),)), *HEARTBEATS[1:]),
    "the next event after a resumption": make_seen(
        resumption=make_resumption(event(event_id="kxqwzp-2"), expected="kxqwzp-2")
    ),
    "events without an id of their own": make_seen(resumption=make_resumption(event(event_id="kxqwzp-0"))),
    "nothing to resume": make_seen(resumption=make_resumption()),
    "an app that is full when a client resumes": make_seen(
        resumption=Resumption("kxqwzp-1", make_stream(UNAVAILABLE), ("kxqwzp-1",), "", "check0")
    ),
    "a preflight": make_seen(
        cross_origin=make_cross_origin(custom_fields=("authorization", "x-token"), preflight=PREFLIGHT)
    ),
    "every origin, without cookies": make_seen(
        cross_origin=make_cross_origin(make_head(Access_Control_Allow_Origin="*"), has_cookie=False)
    ),
    "a heartbeat at half of the time": silent_after(3.0, START, Arrival(33.0, 3, comments=1)),
}

# Facts for which a code must be the only one: the causes of other findings follow from it.
ALONE = (
    "certificate-expired",
    "certificate-untrusted",
    "tls",
    "login",
    "redirect-loop",
    "content-type",
    "no-answer",
    "idle-timeout",
    "unavailable",
    "slow-farewell",
    "format",
    "resume",
    "cors",
    "buffered",
)


def codes(seen: Seen) -> list[str]:
    return [finding.code for finding in findings(seen)]


class FindingsTest(unittest.TestCase):
    def test_each_fact_is_found(self) -> None:
        for number, (code, seen) in enumerate(FOUND):
            with self.subTest(code, number=number):
                self.assertIn(code, codes(seen))

    def test_every_code_has_facts(self) -> None:
        self.assertEqual({code for code, _ in FOUND}, CODES.keys())

    def test_nothing_is_said_against_right_facts(self) -> None:
        for name, seen in RIGHT.items():
            with self.subTest(name):
                self.assertEqual(codes(seen), [])

    def test_a_cause_hides_its_consequences(self) -> None:
        for code in ALONE:
            for number, (found, seen) in enumerate(FOUND):
                if found == code and seen.cross_origin is not None:
                    with self.subTest(code, number=number):
                        others = set(codes(replace(seen, resumption=None) if code != "resume" else seen)) - {code}
                        self.assertLessEqual(others, {"compressed", "no-farewell", "no-retry", "no-events"})

    def test_the_most_serious_come_first(self) -> None:
        found = findings(plain(first=make_stream(head=make_head(Cache_Control=None, Age="5")), delivery=None))
        levels = [finding.level for finding in found]
        self.assertEqual(levels, sorted(levels, key=list(Level).index))
        self.assertEqual(set(levels), set(Level))

    def test_each_code_comes_once(self) -> None:
        seen = first(Arrival(0.1, 30, (event(),), 1, 0), Arrival(2.0, 30, (event(),), 1, 1))
        self.assertEqual(codes(seen).count("retry-value"), 1)

    def test_times_and_values_are_in_the_text(self) -> None:
        for seen, words in (
            (silent_after(60.0, START, end=End.CUT), "closed after 60 s of silence"),
            (make_seen(delivery=Delivery(201, None, 6.0)), "within 6.0 s"),
            (first(clock=NOW + 7200.0), "2 hours behind"),
            (first(clock=NOW - 40.0), "40 s ahead of"),
            (certificate(10 * DAY, 90 * DAY), "10 days"),
            (status(503), "503 Reason"),
            (head(Cache_Control="public, max-age=600"), "'public, max-age=600'"),
        ):
            with self.subTest(words):
                self.assertIn(words, " ".join(finding.text for finding in findings(seen)))

    def test_sentences_are_short(self) -> None:
        for code, seen in FOUND:
            for finding in findings(seen):
                for sentence in re.split(r"(?<=[.!?])\s+", f"{finding.text} {finding.remedy}"):
                    with self.subTest(code, sentence=sentence):
                        self.assertLessEqual(len(sentence.split()), 25)
                        self.assertTrue(sentence.endswith("."))

    def test_words_of_the_server_cannot_command_a_terminal(self) -> None:
        evil = "\x1b[2J\x07evil" + "x" * 500
        for seen in (
            head(Cache_Control=evil),
            make_seen(first=Listening(Head(500, evil), 0.1)),
            make_seen(first=Listening(end=End.CUT, error=evil)),
            make_seen(first=Listening(make_head(Content_Type=evil), 0.1)),
            make_seen(resumption=replace(make_resumption(stamp="check0"), sent_id=evil)),
        ):
            text = report.text(seen, findings(seen))
            self.assertIn("evil", text)
            self.assertNotIn("\x1b", text)
            self.assertLess(len(text), 2500)


class ReportTest(unittest.TestCase):
    def test_text(self) -> None:
        seen = make_seen(delivery=Delivery(201, None, 6.0))
        text = report.text(seen, findings(seen))
        self.assertTrue(
            text.startswith("https://app.example/events: 1 fault\n\nfault: buffered\n    The event"), text
        )
        self.assertIn("\n    -> Switch off buffering", text)
        self.assertIn("heartbeat every 15.0 s", text)

    def test_nothing_is_wrong(self) -> None:
        seen = make_seen()
        self.assertIn("nothing is wrong\n\nMeasured: head after 10 ms", report.text(seen, findings(seen)))

    def test_counts(self) -> None:
        seen = plain(first=make_stream(head=make_head(Cache_Control=None, Age="5")))
        self.assertIn(": 1 fault, 1 warning, 2 notes\n", report.text(seen, findings(seen)))

    def test_json(self) -> None:
        seen = make_seen(delivery=Delivery(201, None, 6.0))
        shown = report.as_json(seen, findings(seen))
        self.assertEqual((shown["url"], shown["faults"], shown["warnings"]), (seen.url, 1, 0))
        (finding,) = shown["findings"]
        self.assertEqual((finding["code"], finding["level"]), ("buffered", "fault"))
        self.assertEqual(finding["remedy"], CODES["buffered"].remedy)
        figures = shown["measured"]
        self.assertEqual((figures["http2"], figures["retry_ms"], figures["heartbeat_s"]), (True, 5000, 15.0))
        self.assertIsNone(figures["delivery_ms"])

    def test_figures_of_a_server_that_does_not_answer(self) -> None:
        seen = plain(first=Listening(end=End.CUT), delivery=None)
        figures = report.measured(seen)
        self.assertEqual((figures["status"], figures["head_ms"], figures["first_byte_ms"]), (None, None, None))
        self.assertNotIn("Measured", report.text(seen, findings(seen)))


class PageTest(unittest.TestCase):
    def test_the_page_has_each_code_with_its_level(self) -> None:
        page = (CHECKOUT / "docs" / "check.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| `([a-z0-9-]+)` \| (fault|warning|note) \|", page, re.MULTILINE)
        self.assertEqual(sorted(rows), sorted((name, code.level.value) for name, code in CODES.items()))

    def test_the_output_on_the_page(self) -> None:
        page = (CHECKOUT / "docs" / "check.md").read_text(encoding="utf-8")
        (block,) = re.findall(r"```console\n\$ sse-threaded check (\S+)\n(.*?)```", page, re.DOTALL)
        stream = make_stream(
            Arrival(0.021, 80, (event(),), 0, 5000),
            head=make_head(),
            head_at=0.021,
            seconds=10.03,
            end=End.CUT,
            coding="gzip",
        )
        seen = make_seen(url=block[0], first=stream, delivery=None)
        self.assertEqual(report.text(seen, findings(seen)) + "\n", block[1])

    def test_the_page_has_the_numbers_of_the_code(self) -> None:
        page = (CHECKOUT / "docs" / "check.md").read_text(encoding="utf-8")
        for words in (
            f"until the second heartbeat, for {probes.USUAL_WAIT:g} s at most",
            f"was silent for more than {stream_rules._SLOW_HEARTBEAT:g} s",
            f"this machine's clock by more than {answer_rules._CLOCK_SECONDS:g} s",
        ):
            with self.subTest(words):
                self.assertIn(words, " ".join(page.split()))


if __name__ == "__main__":
    unittest.main()
