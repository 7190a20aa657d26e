"""What a hub answers to each kind of request, and which arguments it takes, exactly at their bounds."""

from __future__ import annotations

import json
import re
import threading
import unittest
from functools import partial
from typing import Any
from unittest import mock

from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from sse_threaded import Hub, LogUnavailable, Retention
from sse_threaded.fanout.lifecycle import parking_budget, process_budget
from sse_threaded.fanout.pump import Pump
from sse_threaded.fanout.thread_subscriber import ThreadSubscriber
from sse_threaded.protocol.problem import problem
from sse_threaded.protocol.request import wanted_events
from sse_threaded.wsgi_server import Bridge, Caller
from tests.support import wait_until

JSON = "application/json"
STREAM_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no", "Vary": "Accept"}
POLL_HEADERS = STREAM_HEADERS | {"Cache-Control": "no-cache"}
ERROR_HEADERS = STREAM_HEADERS | {"Cache-Control": "no-store"}


def environ(path: str = "/", **values: Any) -> dict[str, Any]:
    """An environ of a threaded server, which shows no socket."""
    made = EnvironBuilder(path, multithread=True).get_environ()
    return {**made, "werkzeug.socket": None, **values}


class ArgumentsTest(unittest.TestCase):
    def test_the_least_numbers_are_taken_and_none_where_it_turns_off(self) -> None:
        for arguments in (
            {"retry": 0},
            {"heartbeat": 0.01},
            {"heartbeat": 1},
            {"heartbeat": None},
            {"lease": 0.01},
            {"lease": None},
            {"max_streams": 0},
            {"max_streams": None},
            {"queue_size": 1},
            {"retention": Retention(count=1)},
            {"retention": None},
        ):
            with self.subTest(arguments=arguments), Hub(**arguments):
                pass

    def test_others_are_refused(self) -> None:
        for name, value in (
            ("retry", None),
            ("retry", True),
            ("retry", 0.0),
            ("retry", "5"),
            ("heartbeat", 0.0099),
            ("heartbeat", "15"),
            ("heartbeat", True),
            ("lease", 0.0099),
            ("max_streams", 1.0),
            ("max_streams", False),
            ("queue_size", None),
            ("queue_size", 1.0),
            ("retention", 1000),
        ):
            with self.subTest(name=name, value=value), self.assertRaisesRegex(ValueError, name):
                Hub(**{name: value})  # type: ignore[arg-type]

    def test_the_kind_of_number_is_named(self) -> None:
        with self.assertRaisesRegex(ValueError, "a whole number of at least 1"):
            Hub(queue_size=0)
        with self.assertRaisesRegex(ValueError, "must be a number of at least 0.01"):
            Hub(lease=0)


class LimitsTest(unittest.TestCase):
    def test_a_limit_of_its_own_is_for_all_streams(self) -> None:
        with Hub(max_streams=3) as hub:
            self.assertEqual((hub.own_limit, hub.max_streams), (3, 3))
        with Hub(max_streams=0) as hub:
            self.assertEqual((hub.own_limit, hub.max_streams), (0, 0))

    def test_without_one_the_greater_of_the_servers_limits_counts(self) -> None:
        for threads, connections, expected in ((None, None, None), (6, None, 6), (None, 9, 9), (6, 900, 900)):
            with (
                self.subTest(threads=threads, connections=connections),
                mock.patch.object(process_budget, "limit", threads),
                mock.patch.object(parking_budget, "limit", connections),
                Hub() as hub,
            ):
                self.assertIsNone(hub.own_limit)
                self.assertEqual(hub.max_streams, expected)
                self.assertEqual(hub.health()["maxStreams"], expected)

    def test_with_none_allowed_a_client_is_told_to_come_back(self) -> None:
        with Hub(max_streams=0) as hub:
            body = hub.stream(environ(), "a").response
            self.assertIn(b"event: stream-unavailable", next(iter(body)))


class AnswerTest(unittest.TestCase):
    def setUp(self) -> None:
        self.hub = Hub()
        self.addCleanup(self.hub.close)

    def answer(self, path: str = "/", channels: Any = "a", **values: Any) -> Response:
        options = {"long_poll": values.pop("long_poll")} if "long_poll" in values else {}
        response = self.hub.stream(environ(path, **values), channels, **options)
        self.addCleanup(response.close)
        return response

    def assert_headers(self, response: Response, expected: dict[str, str]) -> None:
        self.assertEqual({name: response.headers.get(name) for name in expected}, expected)
        self.assertEqual(len(response.headers.getlist("Cache-Control")), 1)

    def test_a_stream_and_its_head_have_no_length(self) -> None:
        for method in ("GET", "HEAD"):
            with self.subTest(method):
                response = self.answer(REQUEST_METHOD=method)
                self.assertEqual((response.status_code, response.mimetype), (200, "text/event-stream"))
                self.assert_headers(response, STREAM_HEADERS)
                headers = response.get_wsgi_headers(environ(REQUEST_METHOD=method))
                self.assertNotIn("Content-Length", headers)
                if method == "HEAD":
                    self.assertEqual(list(response.response), [])

    def test_a_poll_and_its_head(self) -> None:
        for method, body in (("GET", {"events": [], "lastEventId": f"{self.hub.log.epoch}-0", "reset": False}),):
            response = self.answer("/?wait=0", HTTP_ACCEPT=JSON, REQUEST_METHOD=method)
            self.assertEqual((response.status_code, response.mimetype), (200, JSON))
            self.assert_headers(response, POLL_HEADERS)
            self.assertEqual(json.loads(response.get_data()), body)
            self.assertTrue(response.get_data().endswith(b"}\n"))
            self.assertNotIn("Retry-After", response.headers)
        response = self.answer("/?wait=0", HTTP_ACCEPT=JSON, REQUEST_METHOD="HEAD")
        self.assertEqual((response.status_code, response.mimetype), (200, JSON))
        self.assert_headers(response, POLL_HEADERS)
        self.assertEqual(list(response.response), [])
        self.assertNotIn("Content-Length", response.get_wsgi_headers(environ(REQUEST_METHOD="HEAD")))

    def test_errors_are_problems_that_no_cache_keeps(self) -> None:
        for response, status, words in (
            (self.answer(REQUEST_METHOD="POST"), 405, "Events are read with GET."),
            (self.answer(HTTP_ACCEPT="image/png"), 406, "or as application/json by long polling"),
            (self.answer(HTTP_ACCEPT="image/png", long_poll=False), 406, "text/event-stream only"),
            (self.answer(HTTP_ACCEPT=JSON, long_poll=False), 406, "text/event-stream only"),
            (self.answer("/?wait=60.1", HTTP_ACCEPT=JSON), 400, "a number of seconds from 0 to 60,"),
        ):
            with self.subTest(status=status, words=words):
                self.assertEqual((response.status_code, response.mimetype), (status, "application/problem+json"))
                self.assertEqual(response.headers["Cache-Control"], "no-store")
                body = json.loads(response.get_data())
                self.assertEqual((body["status"], set(body)), (status, {"title", "status", "detail"}))
                self.assertIn(words, body["detail"])
        self.assert_headers(self.answer("/?wait=x", HTTP_ACCEPT=JSON), ERROR_HEADERS)
        self.assertEqual(self.answer(REQUEST_METHOD="POST").headers["Allow"], "GET, HEAD")

    def test_a_request_without_a_method_is_a_get(self) -> None:
        response = self.hub.stream({"HTTP_ACCEPT": "image/png"}, "a")
        self.assertEqual(response.status_code, 406)
        self.assertIsNot(self.hub.stream({}, "a").response, None)

    def test_the_waits_that_a_poll_takes(self) -> None:
        last = self.hub.publish("a", "x")
        for wait in ("0", "60", "60.0", "0.123456789", "000000060"):
            with self.subTest(wait):
                response = self.answer(f"/?wait={wait}&lastEventId={self.hub.log.epoch}-0", HTTP_ACCEPT=JSON)
                self.assertEqual(json.loads(response.get_data())["lastEventId"], last)
        for wait in ("60.000000001", "0.1234567890", "0000000060", ".5", "5.", "+5", " 5", "-0"):
            with self.subTest(wait):
                self.assertEqual(self.answer(f"/?wait={wait}", HTTP_ACCEPT=JSON).status_code, 400)

    def test_a_poll_that_must_not_wait_says_when_to_ask_again_unless_it_has_something(self) -> None:
        http2: dict[str, Any] = {"gunicorn.socket": object(), "SERVER_PROTOCOL": "HTTP/2", "HTTP_ACCEPT": JSON}
        with self.assertLogs("sse_threaded.hub", "WARNING") as logs:
            response = self.answer(**http2)
            self.assertEqual(len(logs.output), 1)
            self.assertEqual(response.headers["Retry-After"], "5")
            self.assertEqual(json.loads(response.get_data())["events"], [])
            self.hub.publish("a", "x")
            for query in (f"lastEventId={self.hub.log.epoch}-0", "lastEventId=invalid"):
                response = self.answer(f"/?{query}", **http2)
                self.assertNotIn("Retry-After", response.headers)
                body = json.loads(response.get_data())
                self.assertEqual((len(body["events"]), body["reset"]), (0, True) if "inv" in query else (1, False))
            stream = self.answer(**{**http2, "HTTP_ACCEPT": "*/*"})
            self.assertIn(b"event: stream-unavailable", stream.get_data())
        self.assertEqual(len([line for line in logs.output if "HTTP/2" in line]), 1)

    def test_a_poll_of_a_log_that_cannot_be_read_is_refused_for_a_while(self) -> None:
        error = LogUnavailable("memory://", "away")
        with (
            mock.patch.object(self.hub.log, "last_sequence", side_effect=error),
            mock.patch.object(self.hub.log, "read", side_effect=error),
            self.assertLogs("sse_threaded.longpoll", "WARNING"),
        ):
            response = self.answer(f"/?lastEventId={self.hub.log.epoch}-0", HTTP_ACCEPT=JSON)
        self.assertEqual((response.status_code, response.headers["Retry-After"]), (503, "5"))
        self.assert_headers(response, ERROR_HEADERS)

    def test_a_poll_holds_its_place_no_longer_than_it_waits(self) -> None:
        with Hub(max_streams=1) as self.hub:
            for _ in range(3):
                response = self.answer("/?wait=0", HTTP_ACCEPT=JSON)
                self.assertNotIn("Retry-After", response.headers)
                self.assertEqual(self.hub.streams, 0)

    def test_a_server_need_not_wait_for_a_client_whose_poll_a_shutdown_has_ended(self) -> None:
        for shuts_down in (False, True):
            with Hub() as self.hub, mock.patch.object(ThreadSubscriber, "shut_down_reading") as shut:
                query = f"/?wait={20 if shuts_down else 0}&lastEventId={self.hub.log.epoch}-0"
                responses: list[Any] = []
                answer = partial(self.answer, query, HTTP_ACCEPT=JSON)
                thread = threading.Thread(target=lambda answer=answer, all_=responses: all_.append(answer()))
                thread.start()
                if shuts_down:
                    wait_until(lambda: self.hub.streams == 1)
                    self.hub.request_close()
                thread.join(10)
                responses[0].close()
            self.assertIs(shut.called, shuts_down)

    def test_a_single_name_is_one_channel_and_names_are_each_checked(self) -> None:
        first = self.hub.publish("ab", "x")
        self.hub.publish("a", "y")
        query = f"/?wait=0&lastEventId={self.hub.log.epoch}-0"
        for channels, count in (("ab", 1), (["ab"], 1), (("ab", "a"), 2), (iter(["a", "ab"]), 2), ({"b"}, 0)):
            events = json.loads(self.answer(query, channels, HTTP_ACCEPT=JSON).get_data())["events"]
            self.assertEqual(len(events), count)
        self.assertEqual(first, f"{self.hub.log.epoch}-1")


class WarningsTest(unittest.TestCase):
    def test_a_program_that_cannot_pass_streams_on_gets_none_and_the_log_says_so_once(self) -> None:
        for bridge, level, streams in (
            (Bridge("a program sends it at the end", False), "ERROR", False),
            (Bridge("a program does not tell", True), "WARNING", True),
        ):
            with (
                self.subTest(bridge.fault),
                Hub() as hub,
                mock.patch("sse_threaded.event_requests.caller_of", return_value=Caller(None, False, bridge)),
            ):
                with self.assertLogs("sse_threaded.hub", "WARNING") as logs:
                    responses = [hub.stream(environ(), "a") for _ in range(3)]
                self.assertEqual([record.levelname for record in logs.records], [level])
                self.assertIn(bridge.fault, logs.output[0])
                for response in responses:
                    body = next(response.iter_encoded())
                    self.assertEqual(b"event: stream-unavailable" in body, not streams)
                    self.assertEqual(bridge.fault.encode() in body, not streams)
                    response.close()

    def test_a_stream_over_http2_is_warned_of_once(self) -> None:
        http2: dict[str, Any] = {"gunicorn.socket": object(), "SERVER_PROTOCOL": "HTTP/2"}
        with Hub() as hub, self.assertLogs("sse_threaded.hub", "WARNING") as logs:
            for _ in range(3):
                response = hub.stream(environ(**http2), "a")
                response.close()
        self.assertEqual(len([line for line in logs.output if "HTTP/2" in line]), 1)

    def test_a_test_clients_request_says_nothing_and_the_next_one_may(self) -> None:
        one_at_a_time: dict[str, Any] = {
            "wsgi.multithread": False,
            "SERVER_SOFTWARE": "a server",
            "wsgi.input": object(),
        }
        with Hub() as hub:
            with self.assertNoLogs("sse_threaded.hub"):
                hub.stream(EnvironBuilder("/").get_environ(), "a")
            with self.assertLogs("sse_threaded.hub", "WARNING"):
                hub.stream(environ(**one_at_a_time), "a")


class LifeTest(unittest.TestCase):
    def test_the_log_is_closed_once_and_with_the_hub(self) -> None:
        hub = Hub()
        with mock.patch.object(hub.log, "close") as close:
            hub.request_close()
            close.assert_not_called()
            with hub:
                pass
            close.assert_called_once_with()
            hub.close()
            close.assert_called_once_with()

    def test_before_the_log_is_closed_the_pumps_thread_has_time_to_end(self) -> None:
        for options, expected in (({}, 2.0), ({"timeout": 0.5}, 0.5)):
            steps: list[object] = []
            hub = Hub()
            with (
                mock.patch.object(Pump, "join", side_effect=steps.append),
                mock.patch.object(hub.log, "close", side_effect=lambda steps=steps: steps.append("log")),
            ):
                hub.close(**options)
            self.assertEqual(steps, [expected, "log"])

    def test_a_hub_whose_process_changed_without_notice_begins_anew_once(self) -> None:
        with Hub() as hub:
            epoch = hub.log.epoch
            self.assertEqual(hub.log.epoch, epoch)
            with mock.patch("sse_threaded.hub.surroundings", return_value=(0, object)):
                other = hub.log.epoch
                self.assertNotEqual(other, epoch)
                self.assertEqual(hub.log.epoch, other)


class ProblemTest(unittest.TestCase):
    def test_it_is_json_as_people_write_it(self) -> None:
        response = problem(503, "Später.", {"Retry-After": "7"})
        self.assertEqual(
            response.get_data().decode(),
            '{"title": "Service Unavailable", "status": 503, "detail": "Später."}\n',
        )
        self.assertEqual((response.status_code, response.headers["Retry-After"]), (503, "7"))
        self.assertEqual(response.headers["Cache-Control"], "no-store")
        self.assertNotIn("Retry-After", problem(400, "x").headers)


class AcceptTest(unittest.TestCase):
    def test_long_and_short_headers_are_answered_alike(self) -> None:
        for length in (255, 256, 257, 511, 512, 513):
            accept = "application/json, image/png;q=0.1, " + "x" * 400
            accept = re.sub("x+$", "", accept).ljust(length - 4, " ") + "a/*;"
            with self.subTest(length):
                self.assertEqual(wanted_events({"HTTP_ACCEPT": accept[:length]}).kind, JSON)


if __name__ == "__main__":
    unittest.main()
