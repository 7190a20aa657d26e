"""The debug page's answers: who may see it, events, history, streams and publishing."""

from __future__ import annotations

import unittest
from typing import Any
from unittest import mock

from werkzeug.test import Client, TestResponse

from sse_threaded import Hub, LogUnavailable, Retention
from sse_threaded.debug.events import NEWEST
from tests.support import enter


class DebugPageCase(unittest.TestCase):
    retention: Retention | None = None

    def setUp(self) -> None:
        self.hub = enter(self, Hub(retention=self.retention))
        self.client = Client(self.hub.debug_page(allow=lambda environ: "HTTP_ALLOW" in environ))

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, headers={"Allow": "1"}, **options)

    def events(self, query: str = "") -> Any:
        response = self.get(f"/events{query}")
        self.assertEqual(response.status_code, 200, response.text)
        return response.json


class AccessTest(DebugPageCase):
    def test_every_answer_is_for_those_who_are_allowed(self) -> None:
        for path in ("/", "/debug.js", "/debug.css", "/events", "/streams", "/state", "/nothing", ""):
            with self.subTest(path=path):
                response = self.client.get(path)
                self.assertEqual(response.status_code, 403)
                self.assertEqual(response.mimetype, "application/problem+json")
        self.assertEqual(self.client.post("/publish", json={"channel": "a", "data": "b"}).status_code, 403)
        self.assertEqual(self.hub.log.last_sequence(), 0)

    def test_allow_must_be_a_function(self) -> None:
        with self.assertRaisesRegex(ValueError, "allow must be a function"):
            self.hub.debug_page(allow=True)  # type: ignore[arg-type]

    def test_the_page_loads_its_own_files_only(self) -> None:
        response = self.get("/")
        self.assertEqual((response.status_code, response.mimetype), (200, "text/html"))
        self.assertIn("default-src 'none'", response.headers["Content-Security-Policy"])
        for name in ("debug.css", "debug.js"):
            self.assertIn(f'"{name}"', response.text)
            file = self.get(f"/{name}")
            self.assertEqual(file.status_code, 200)
            again = self.client.get(f"/{name}", headers={"Allow": "1", "If-None-Match": file.headers["ETag"]})
            self.assertEqual(again.status_code, 304)

    def test_without_the_slash_it_leads_to_the_folder(self) -> None:
        response = self.client.get(
            "", headers={"Allow": "1"}, base_url="http://localhost/debug", query_string="channel=a"
        )
        self.assertEqual((response.status_code, response.headers["Location"]), (308, "debug/?channel=a"))

    def test_other_addresses_and_methods(self) -> None:
        self.assertEqual(self.get("/nothing").status_code, 404)
        response = self.client.post("/events", headers={"Allow": "1"})
        self.assertEqual((response.status_code, response.headers["Allow"]), (405, "GET, HEAD"))
        response = self.get("/publish")
        self.assertEqual((response.status_code, response.headers["Allow"]), (405, "POST"))


class EventsTest(DebugPageCase):
    def test_it_begins_with_the_newest_and_goes_on_after_them(self) -> None:
        ids = [self.hub.publish("a" if number % 2 else "b", {"number": number}) for number in range(NEWEST + 20)]
        first = self.events()
        self.assertEqual([event["id"] for event in first["events"]], ids[20:])
        self.assertEqual(first["lastEventId"], ids[-1])
        self.assertEqual(self.events(f"?after={ids[-1]}")["events"], [])
        new = self.hub.publish("a", "x" * 5000, "kind")
        (event,) = self.events(f"?after={ids[-1]}")["events"]
        self.assertEqual(
            event, {"id": new, "channel": "a", "event": "kind", "data": "x" * 4000, "characters": 5000}
        )

    def test_messages_of_the_package_hide_no_event(self) -> None:
        ids = [self.hub.publish("a", number) for number in range(50)]
        for _ in range(300):
            self.hub.log.append("sse_threaded:messages", "{}")
        self.assertEqual([event["id"] for event in self.events()["events"]], ids)

    def test_the_history_of_one_channel(self) -> None:
        ids = {name: [self.hub.publish(name, number) for number in range(3)] for name in ("a", "b")}
        self.assertEqual([event["id"] for event in self.events("?channel=b")["events"]], ids["b"])
        self.assertEqual(self.events(f"?channel=b&after={ids['b'][0]}")["events"][0]["id"], ids["b"][1])
        self.assertEqual(self.events("?channel=none")["events"], [])

    def test_events_of_the_package_are_not_shown(self) -> None:
        self.hub.disconnect(user="1")
        last = self.hub.publish("a", "b")
        self.assertEqual([event["id"] for event in self.events()["events"]], [last])

    def test_after_an_id_of_another_log_it_begins_again(self) -> None:
        last = self.hub.publish("a", "b")
        for wrong in ("nonsense", "zzzzzz-1", last + "0", ""):
            with self.subTest(wrong=wrong):
                answer = self.events(f"?after={wrong}")
                self.assertEqual((answer["reset"], [event["id"] for event in answer["events"]]), (True, [last]))

    def test_an_invalid_channel(self) -> None:
        response = self.get("/events", query_string={"channel": "x" * 256})
        self.assertEqual(response.status_code, 400)
        self.assertIn("255", response.json["detail"])

    def test_a_log_that_is_away(self) -> None:
        error = LogUnavailable("memory://", "away")
        away = mock.patch.object(type(self.hub.log), "last_sequence", side_effect=error)
        with away, self.assertLogs("sse_threaded", "WARNING"):
            response = self.get("/events")
        self.assertEqual((response.status_code, response.headers["Retry-After"]), (503, "2"))


class TrimmedTest(DebugPageCase):
    retention = Retention(count=5)

    def test_events_that_are_gone_are_left_out(self) -> None:
        ids = [self.hub.publish("a", number) for number in range(300)]
        self.hub.log.trim()
        for query in ("", "?channel=a", f"?after={ids[0]}"):
            with self.subTest(query=query):
                found = [event["id"] for event in self.events(query)["events"]]
                self.assertEqual(found, ids[-len(found) :])
                self.assertGreaterEqual(len(found), 3)


class PublishTest(DebugPageCase):
    def post(self, body: Any, **headers: str) -> TestResponse:
        return self.client.post("/publish", json=body, headers={"Allow": "1", **headers})

    def test_it_publishes(self) -> None:
        response = self.post({"channel": "a", "data": '{"type":"note"}', "event": "kind"})
        self.assertEqual(response.status_code, 201)
        (record,) = self.hub.log.read(0)
        self.assertEqual(tuple(record[1:]), ("a", "kind", '{"type":"note"}'))
        self.assertEqual(response.json["id"], self.hub.log.event_id(record.sequence))

    def test_it_finishes_a_channel(self) -> None:
        self.assertEqual(self.post({"channel": "a", "finish": True}).status_code, 201)
        self.assertEqual(self.hub.log.read(0)[0].event, "stream-finished")

    def test_pages_of_others_cannot_publish(self) -> None:
        good = {"channel": "a", "data": "b"}
        self.assertEqual(self.post(good, Origin="https://evil.example").status_code, 403)
        for origin in ("null", "http://[", "", "localhost"):
            self.assertEqual(self.post(good, Origin=origin).status_code, 403)
        form = self.client.post("/publish", data=b'{"channel":"a","data":"b"}', headers={"Allow": "1"})
        self.assertEqual(form.status_code, 415)
        self.assertEqual(self.hub.log.last_sequence(), 0)
        self.assertEqual(self.post(good, Origin="http://localhost").status_code, 201)

    def test_mistakes_are_named(self) -> None:
        for body, word in (
            ([], "object"),
            ({"channel": "a"}, "data"),
            ({"channel": "a", "data": "b", "type": "c"}, "object"),
            ({"channel": "", "data": "b"}, "channel"),
            ({"data": "b"}, "channel"),
            ({"channel": 1, "data": "b"}, "channel"),
            ({"channel": "a", "data": "b", "event": "x\ny"}, "event"),
            ({"channel": "a", "data": "b", "event": "reset"}, "reset"),
            ({"channel": "sse_threaded:control", "data": "b"}, "belongs"),
        ):
            with self.subTest(body=body):
                response = self.post(body)
                self.assertEqual(response.status_code, 400, response.text)
                self.assertIn(word, response.json["detail"])
        self.assertEqual(self.hub.log.last_sequence(), 0)

    def test_a_page_that_does_not_publish(self) -> None:
        client = Client(self.hub.debug_page(allow=lambda environ: True, publishes=False))
        self.assertEqual(client.post("/publish", json={"channel": "a", "data": "b"}).status_code, 405)
        self.assertFalse(client.get("/state").json["publishes"])
        self.assertTrue(self.get("/state").json["publishes"])
        self.assertEqual(self.hub.log.last_sequence(), 0)
