"""docs/protocol.md has the bytes, the header fields and the numbers that the package sends."""

from __future__ import annotations

import json
import re
import unittest
from typing import Any
from unittest import mock

from werkzeug.test import EnvironBuilder

from sse_threaded import FINISHED, HistoryGone, Hub, LogUnavailable, longpoll
from sse_threaded.fanout.pace import Pace
from sse_threaded.fanout.registry import HEARTBEAT
from sse_threaded.fanout.stream_state import EndReason
from sse_threaded.log import validation
from sse_threaded.log.event_id import new_epoch, parse_event_id
from sse_threaded.presence.blocks import EVENT as PRESENCE
from sse_threaded.protocol.event import NOTICES, RESET
from sse_threaded.protocol.stream_response import STREAM_HEADERS
from tests.support import ROOT, enter

ONCE = True  # it says the same under every Python

PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
JSON = "application/json"


def block(language: str, sign: str) -> str:
    """The only block of the page in this language that has this text in it."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (text,) = [each for each in found if sign in each]
    return str(text)


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    below = PAGE[PAGE.index(f"\n{heading}\n") :]
    lines = below[below.index("\n|") + 1 :].partition("\n\n")[0].splitlines()
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def environ(request: str, **values: str) -> dict[str, Any]:
    """What a server makes of a request on the page."""
    line, *fields = request.splitlines()
    method, target, _ = line.split(" ")
    headers = dict(field.split(": ", 1) for field in fields)
    made = EnvironBuilder(target, method=method, headers=headers, multithread=True).get_environ()
    return {**made, "werkzeug.socket": None, **values}


class BytesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.hub = enter(self, Hub())

    def here(self, text: str) -> str:
        """A text of the page, with this log's epoch."""
        return text.replace("hyuakn", self.hub.log.epoch)

    def publish(self) -> None:
        self.hub.publish("orders", {"type": "order", "item": "tea"})
        self.hub.publish("orders", "first line\nsecond line", event="paid")

    def test_the_beginning_of_a_stream(self) -> None:
        request = self.here(block("http", "text/event-stream")).replace("-1", "-0")
        response = self.hub.stream(environ(request), "orders")
        self.addCleanup(response.close)
        self.assertEqual(response.headers["Content-Type"], STREAM_HEADERS[0][1])
        body = response.response
        shown = next(body)
        self.publish()
        while b"second" not in shown:
            shown += next(body)
        shown += HEARTBEAT.body
        self.assertEqual(shown.decode(), self.here(block("text", "stream-start")))

    def test_the_request_goes_on_after_its_event(self) -> None:
        self.publish()
        response = self.hub.stream(environ(self.here(block("http", "text/event-stream"))), "orders")
        self.addCleanup(response.close)
        self.assertIn(f"id: {self.hub.log.epoch}-1\n".encode(), next(response.response))
        self.assertIn(b"event: paid\n", next(response.response))

    def test_a_long_poll(self) -> None:
        self.publish()
        response = self.hub.stream(environ(self.here(block("http", JSON))), "orders")
        self.assertEqual(response.get_json(), json.loads(self.here(block("json", "lastEventId"))))

    def test_statuses(self) -> None:
        stream, poll = block("http", "text/event-stream"), block("http", JSON)
        self.hub.finish("done")
        after = f"{self.hub.log.epoch}-1"
        cases = {
            200: self.hub.stream(environ(poll.replace("wait=25", "wait=0")), "orders"),
            204: self.hub.stream(environ(stream, HTTP_LAST_EVENT_ID=after), "done"),
            400: self.hub.stream(environ(poll.replace("wait=25", "wait=x")), "orders"),
            403: enter(self, Hub(origins=[])).stream(environ(stream, HTTP_ORIGIN="https://a.example"), "orders"),
            405: self.hub.stream(environ(stream, REQUEST_METHOD="POST"), "orders"),
            406: self.hub.stream(environ(stream, HTTP_ACCEPT="text/html"), "orders"),
        }
        fault = LogUnavailable(self.hub.url, "the disk is full")
        with mock.patch.object(self.hub.log, "read", side_effect=fault):
            cases[503] = self.hub.stream(environ(self.here(poll)), "orders")
        self.assertIn("Retry-After", cases[503].headers)
        for status, response in cases.items():
            self.addCleanup(response.close)
            self.assertEqual(response.status_code, status)
        self.assertEqual([int(row[0]) for row in rows("## Statuses")], list(cases))


class TablesTest(unittest.TestCase):
    def test_the_header_fields(self) -> None:
        self.assertEqual([tuple(row[:2]) for row in rows("## The head of the answer")], list(STREAM_HEADERS))

    def test_the_notices(self) -> None:
        self.assertEqual({row[0] for row in rows("## Notices")}, {*NOTICES, FINISHED, RESET, PRESENCE})

    def test_the_reasons_of_a_reset(self) -> None:
        reasons = [row[0] for row in rows("### Reset")]
        self.assertEqual(sorted(reasons), sorted(set(re.findall(r"``\"(\w+)\"``:", HistoryGone.__doc__ or ""))))

    def test_the_times(self) -> None:
        pace = Pace(5000, None, None)
        (lease, slow, shutdown, overload, unavailable) = [row[1] for row in rows("## Reconnection")]
        for shown, make in (
            (lease, lambda: pace.farewell(EndReason.LEASE)),
            (slow, lambda: pace.farewell(EndReason.SLOW)),
            (shutdown, lambda: pace.farewell(EndReason.SHUTDOWN)),
            (overload, lambda: pace.farewell(EndReason.OVERLOAD)),
            (unavailable, pace.unavailable),
        ):
            with self.subTest(shown):
                found = []
                for end in (0, 1):
                    with mock.patch("random.uniform", lambda *bounds, end=end: bounds[end]):
                        found.append(re.findall(rb"retry: (\d+)\n", make())[0].decode())
                self.assertEqual(shown, " to ".join(found))

    def test_the_limits(self) -> None:
        text = " ".join(PAGE.split())
        for words in (
            f"1 to {validation.MAX_EVENT_CHARACTERS} characters without a line end",
            f"at most {validation.MAX_DATA_CHARACTERS:,} characters, and a channel's name "
            f"{validation.MAX_CHANNEL_CHARACTERS}.",
            f"{longpoll.DEFAULT_WAIT:g} by default, {longpoll.LONGEST_WAIT:g} at most",
        ):
            with self.subTest(words):
                self.assertIn(words, text)

    def test_an_id_has_the_form_of_the_page(self) -> None:
        self.assertEqual(parse_event_id("hyuakn-17"), ("hyuakn", 17))
        self.assertRegex(new_epoch(), r"\A[a-z]{6}\Z")
        with self.assertRaises(HistoryGone):
            parse_event_id("hyuakn-017")


if __name__ == "__main__":
    unittest.main()
