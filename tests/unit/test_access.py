"""Who may read: tickets and pages of other origins, as a hub answers them."""

from __future__ import annotations

import sys
import time
import unittest
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from unittest import mock

from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from sse_threaded import Hub, InvalidEvent, LogUnavailable, Retention
from sse_threaded import event_requests as requests_module
from sse_threaded import hub as hub_module
from sse_threaded.access.cross_origin import CrossOrigin
from tests.support import enter, sqlite_url, temporary_directory

APP = "https://app.example"


def environ(path: str = "/", method: str = "GET", **headers: str) -> dict[str, Any]:
    made = EnvironBuilder(path, method=method, base_url="http://events.example", multithread=True).get_environ()
    return {**made, "werkzeug.socket": None, **{f"HTTP_{name.upper()}": value for name, value in headers.items()}}


class AccessCase(unittest.TestCase):
    def make_hub(self, **options: Any) -> Hub:
        return enter(self, Hub(**options))

    def answer(self, hub: Hub, *args: Any, channels: Any = "a", **headers: str) -> Response:
        response = hub.stream(environ(*args, **headers), channels)
        self.addCleanup(response.close)
        return response


class CrossOriginTest(AccessCase):
    CORS = ("Access-Control-Allow-Origin", "Access-Control-Allow-Credentials")

    def test_a_page_of_a_listed_origin_may_read_and_send_its_cookies(self) -> None:
        hub = self.make_hub(origins=[APP, "http://localhost:5173", "http://[::1]:8080"])
        for origin in (APP, "http://localhost:5173", "http://[::1]:8080"):
            response = self.answer(hub, origin=origin)
            self.assertEqual(response.status_code, 200)
            self.assertEqual([response.headers.get(name) for name in self.CORS], [origin, "true"])
            self.assertIn("Origin", response.vary)
            self.assertIn("Accept", response.vary)

    def test_a_page_of_another_origin_may_not_and_nothing_is_reflected(self) -> None:
        hub = self.make_hub(origins=[APP])
        others = ["https://evil.example", "http://app.example", "https://app.example.evil.example", "null"]
        others += ["https://APP.example", "https://app.example:8443", "https://app.example/", "*", "", "x" * 5000]
        for origin in others:
            with self.subTest(origin=origin[:40]):
                response = self.answer(hub, origin=origin)
                self.assertEqual(response.status_code, 403)
                self.assertEqual([response.headers.get(name) for name in self.CORS], [None, None])
                self.assertIn("Origin", response.vary)
                self.assertLess(len(response.get_data()), 1000)
        self.assertEqual(hub.streams, 0)

    def test_a_page_of_its_own_origin_and_clients_without_one_read_as_ever(self) -> None:
        hub = self.make_hub(origins=[APP])
        for headers in ({}, {"origin": "http://events.example"}, {"origin": "https://events.example"}):
            response = self.answer(hub, **headers)
            self.assertEqual(response.status_code, 200)
            self.assertEqual([response.headers.get(name) for name in self.CORS], [None, None])
            self.assertIn("Origin", response.vary)

    def test_a_preflight(self) -> None:
        hub = self.make_hub(origins=[APP])
        asked = {"access_control_request_method": "GET", "access_control_request_headers": "last-event-id"}
        response = self.answer(hub, "/", "OPTIONS", origin=APP, **asked)
        self.assertEqual((response.status_code, response.get_data()), (204, b""))
        self.assertEqual([response.headers.get(name) for name in self.CORS], [APP, "true"])
        self.assertEqual(response.headers["Access-Control-Allow-Methods"], "GET")
        self.assertIn("Last-Event-ID", response.headers["Access-Control-Allow-Headers"])
        self.assertEqual(self.answer(hub, "/", "OPTIONS", origin="https://evil.example", **asked).status_code, 403)
        self.assertEqual(self.answer(hub, "/", "OPTIONS", origin=APP).status_code, 405)

    def test_refusals_can_be_read_too(self) -> None:
        hub = self.make_hub(origins=[APP])
        hub.finish("over")
        over = hub.stream(environ(origin=APP), "over")
        for response in (self.answer(hub, accept="image/png", origin=APP), over):
            self.assertIn(response.status_code, (204, 406))
            self.assertEqual([response.headers.get(name) for name in self.CORS], [APP, "true"])
        poll = self.answer(hub, "/?wait=0", accept="application/json", origin=APP)
        self.assertEqual([poll.headers.get(name) for name in self.CORS], [APP, "true"])

    def test_without_origins_streams_say_nothing(self) -> None:
        response = self.answer(self.make_hub(), origin=APP)
        self.assertEqual(response.status_code, 200)
        self.assertEqual([response.headers.get(name) for name in self.CORS], [None, None])
        self.assertEqual([*response.vary], ["Accept"])

    def test_what_is_not_an_origin_is_refused(self) -> None:
        for wrong in (
            "*",
            "app.example",
            "https://app.example/",
            "https://*.example",
            "https://A.example",
            "null",
        ):
            with self.subTest(wrong), self.assertRaisesRegex(ValueError, "is not an origin"):
                CrossOrigin([wrong])
        with self.assertRaisesRegex(ValueError, "a list of origins"):
            Hub(origins=APP)


class TicketTest(AccessCase):
    def setUp(self) -> None:
        self.now = time.time()
        for module in (hub_module, requests_module):
            clock = mock.Mock(time=lambda: self.now, monotonic=time.monotonic)
            patch = mock.patch.object(module, "time", clock)
            patch.start()
            self.addCleanup(patch.stop)
        self.hub = self.make_hub(secret="a secret")

    def ask(self, ticket: str | None, last_event_id: str = "", hub: Hub | None = None) -> tuple[int, bytes]:
        path = "/" if ticket is None else f"/?ticket={ticket}"
        headers = {"last_event_id": last_event_id} if last_event_id else {}
        response = self.answer(hub or self.hub, path, channels=None, **headers)
        return response.status_code, b"" if response.status_code == 200 else response.get_data()

    def test_it_allows_its_channels_for_its_time(self) -> None:
        ticket = self.hub.ticket(["b", "a"], user=7, seconds=30)
        response = self.answer(self.hub, f"/?x=1&ticket={ticket}", channels=None)
        self.assertEqual(response.status_code, 200)
        cursor = response.response._delivery.cursor  # type: ignore[union-attr]
        self.assertEqual((cursor.channels, cursor.owner.user), (("a", "b"), "7"))
        self.now += 29
        self.assertEqual(self.ask(ticket)[0], 200)
        self.now += 2
        status, body = self.ask(ticket)
        self.assertEqual(status, 403)
        self.assertIn(b"has expired", body)

    def test_a_client_that_had_a_stream_resumes_after_that_for_a_while(self) -> None:
        before = self.hub.publish("a", "before")
        self.hub.publish("a", "x")
        ticket = self.hub.ticket("a", seconds=30, resume=100)
        later = self.hub.publish("a", "later")
        self.now += 31
        self.assertEqual(self.ask(ticket, later)[0], 200)
        for wrong in ("", before, "rubbish", "zzzzzz-99", f"{later}0 "):
            with self.subTest(wrong):
                self.assertEqual(self.ask(ticket, wrong)[0], 403)
        self.now += 100
        self.assertEqual(self.ask(ticket, later)[0], 403)

    def test_a_disconnection_takes_tickets_back(self) -> None:
        for how, is_taken in (
            ({"user": 7}, True),
            ({"user": "7"}, True),
            ({"channel": "a"}, True),
            ({"user": 7, "channel": "b"}, True),
            ({"user": 8}, False),
            ({"channel": "c"}, False),
            ({"user": 7, "channel": "c"}, False),
            ({"user": 8, "channel": "a"}, False),
        ):
            with self.subTest(how):
                self.now = time.time()
                ticket = self.hub.ticket(["a", "b"], user=7, seconds=30, resume=100)
                self.hub.disconnect(user="another")
                self.hub.disconnect(**how)  # type: ignore[arg-type]
                later = self.hub.publish("a", "later")
                for last_event_id, passed in (("", 0), (later, 50)):
                    self.now += passed
                    status, body = self.ask(ticket, last_event_id)
                    self.assertEqual(status, 403 if is_taken else 200)
                    self.assertEqual(b"was taken back" in body, is_taken)
                self.assertEqual(self.ask(self.hub.ticket("a", user=7))[0], 200, "a new one")

    def test_so_does_a_log_that_does_not_know_all_disconnections(self) -> None:
        hub = self.make_hub(secret="a secret", retention=Retention(count=2))
        ticket = hub.ticket("a", user=7)
        for number in range(1000):
            hub.disconnect(user=number + 10)
        hub.log.trim()
        self.assertEqual(self.ask(ticket, hub=hub)[0], 403)
        self.assertEqual(self.ask(hub.ticket("a", user=7), hub=hub)[0], 200)

    def test_while_the_log_cannot_be_read_the_client_comes_again(self) -> None:
        ticket = self.hub.ticket("a", user=7)
        with mock.patch.object(type(self.hub.log), "read", side_effect=LogUnavailable("memory://", "away")):
            response = self.answer(self.hub, f"/?ticket={ticket}", channels=None)
            self.assertEqual((response.status_code, response.mimetype), (200, "text/event-stream"))
            self.assertIn(b"event: stream-unavailable", response.get_data())
            accept = {"accept": "application/json"}
            response = self.answer(self.hub, f"/?ticket={ticket}", channels=None, **accept)
            self.assertEqual((response.status_code, response.headers["Retry-After"]), (503, "5"))

    def test_what_is_not_a_valid_ticket(self) -> None:
        ticket = self.hub.ticket("a")
        other = self.make_hub(secret="another secret").ticket("a")
        content, _, signature = ticket.rpartition(".")
        cases = {None: b"needs a ticket", "": b"needs a ticket", other: b"is not valid"}
        wrong = [ticket[:-1], ticket + "a", f"{content}x.{signature}", f".{signature}", "%00", "a.b.c", "x" * 5000]
        cases |= dict.fromkeys(wrong, b"is not valid")
        for each, reason in cases.items():
            with self.subTest(str(each)[:30]):
                status, body = self.ask(each)
                self.assertEqual(status, 403)
                self.assertIn(reason, body)
        self.assertEqual(self.hub.streams, 0)

    def test_a_signature_of_the_app_for_something_else_is_no_ticket(self) -> None:
        from itsdangerous import URLSafeSerializer, URLSafeTimedSerializer  # noqa: PLC0415

        content = [1, ["a"], None, self.now + 60, self.now + 60, "abcdef-0"]
        for serializer in (
            URLSafeSerializer("a secret"),
            URLSafeSerializer("a secret", salt="sse_threaded ticket"),
            URLSafeTimedSerializer("a secret", salt="sse_threaded ticket"),
        ):
            self.assertEqual(self.ask(str(serializer.dumps(content)))[0], 403)

    def test_secrets_are_changed_one_after_the_other(self) -> None:
        url = sqlite_url(temporary_directory(self))
        only_old = self.make_hub(url=url, secret="a secret")
        old = only_old.ticket("a")
        both = self.make_hub(url=url, secret=["new", b"a secret"])
        new = both.ticket("a")
        only_new = self.make_hub(url=url, secret=b"new")
        found = [self.ask(ticket, hub=hub)[0] for ticket in (old, new) for hub in (only_old, both, only_new)]
        self.assertEqual(found, [200, 200, 403, 403, 200, 200])

    def test_another_form_of_a_later_release(self) -> None:
        tickets = self.hub._tickets
        assert tickets is not None
        later = str(tickets._signed.dumps([2, "all is new"]))
        self.assertIn(b"of another release", self.ask(later)[1])
        for odd in ([1], [1, 7], {}, "x", [1, ["a"], None]):
            self.assertEqual(self.ask(str(tickets._signed.dumps(odd)))[0], 403)

    def test_wrong_calls(self) -> None:
        plain = self.make_hub()
        with self.assertRaisesRegex(ValueError, "need a secret"):
            plain.ticket("a")
        with self.assertRaisesRegex(ValueError, "name the channels"):
            plain.stream(environ())
        for channels in ([], "", "sse_threaded:x"):
            self.assertRaises(InvalidEvent, self.hub.ticket, channels)
        for secret in ("", b"", [], [""], [None]):
            with self.subTest(secret), self.assertRaisesRegex(ValueError, "secret must be"):
                Hub(secret=secret)  # type: ignore[arg-type]

    def test_without_itsdangerous_it_says_what_to_install(self) -> None:
        with (
            mock.patch.dict(sys.modules, {"itsdangerous": None, "sse_threaded.access.tickets": None}),
            self.assertRaisesRegex(ValueError, "pip install"),
        ):
            Hub(secret="x")

    def test_long_polls_too(self) -> None:
        ticket = self.hub.ticket("a")
        path = f"/?wait=0&ticket={ticket}"
        self.assertEqual(self.answer(self.hub, path, channels=None, accept="application/json").status_code, 200)
        self.now += 61
        self.assertEqual(self.answer(self.hub, path, channels=None, accept="application/json").status_code, 403)


class JSONDefaultTest(AccessCase):
    def test_values_that_json_does_not_know(self) -> None:
        hub = self.make_hub(json_default=str)
        value = {"at": datetime(2026, 11, 27, 12, tzinfo=timezone.utc), "price": Decimal("1.50")}
        hub.publish("a", value)
        hub.finish("a", value)
        with hub.log.transaction() as transaction:
            transaction.append("a", value)
        text = '{"at":"2026-11-27 12:00:00+00:00","price":"1.50"}'
        self.assertEqual([record.data for record in hub.log.read(0)], [text] * 3)

    def test_without_it_they_are_refused(self) -> None:
        hub = self.make_hub()
        self.assertRaises(InvalidEvent, hub.publish, "a", Decimal(1))
        fails = self.make_hub(json_default=lambda value: value.nothing)
        self.assertRaises((InvalidEvent, AttributeError), fails.publish, "a", Decimal(1))
        self.assertEqual(fails.log.last_sequence(), 0)


if __name__ == "__main__":
    unittest.main()
