"""The publisher on every engine (see also tests/redis and tests/postgres), and its refusals."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import logging
import subprocess
import sys
import threading
import unittest
from typing import Any
from unittest import mock

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, EnvironBuilder, TestResponse
from werkzeug.wrappers import Response

from sse_threaded import FINISHED, Hub, LogUnavailable, LogUnusable, Retention
from sse_threaded.access.publish_tokens import PublishTokens
from sse_threaded.log import EventLog
from tests.support import enter, sqlite_url, temporary_directory, wait_until

TOKEN = "a-token-that-cannot-be-guessed"
OTHER = "another-token-of-a-colleague"
TOKENS = {TOKEN: ["orders", "job-*"], OTHER: "*"}
SECONDS = 60


class PublisherCase(unittest.TestCase):
    """With a hub in memory."""

    def make_hub(self, retention: Retention | None = None) -> Hub:
        """A hub; for an engine that several processes share, each call makes a further one of the same log."""
        return enter(self, Hub(retention=retention))

    def setUp(self) -> None:
        self.hub = self.make_hub()
        self.app = self.hub.publisher(tokens=TOKENS)

    def post(self, json: Any = None, *, token: str = TOKEN, app: Any = None, **headers: str) -> TestResponse:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {"Authorization": f"Bearer {token}", **fields}
        if json is not None:
            fields = {"Content-Type": "application/json", **fields}
        data = json if isinstance(json, bytes) else None
        body: dict[str, Any] = {"data": data} if data is not None else {"json": json}
        return Client(app or self.app).post("/", headers=fields, **(body if json is not None else {}))

    def refusal(self, status: int, words: str, response: Response) -> None:
        """Check an answer that publishes nothing."""
        self.assertEqual(response.status_code, status, response.get_data())
        self.assertEqual(response.content_type, "application/problem+json")
        self.assertEqual(response.headers["Cache-Control"], "no-store")
        found = json.loads(response.get_data())
        self.assertIn(words, found["detail"])
        self.assertRegex(found["detail"], r"\A.*[.]\Z")
        self.assertEqual(found["status"], status)

    def events(self, hub: Hub | None = None) -> list[tuple[str, str, str | None, str]]:
        """Id, channel, type and data of all events but those of the library."""
        log = (hub or self.hub).log
        found = []
        after = 0
        while page := log.read(after):
            found += [(log.event_id(each.sequence), each.channel, each.event, each.data) for each in page]
            after = page[-1].sequence
        return [each for each in found if not each[1].startswith("sse_threaded:")]


class PublisherContract:
    """The cases of every engine, mixed into a :class:`PublisherCase` for each."""

    def test_an_event_is_in_the_log_under_the_id_of_the_answer(self: Any) -> None:
        answer = self.post({"channel": "orders", "data": {"n": 1}, "event": "paid"})
        self.assertEqual(answer.status_code, 201)
        self.assertEqual((answer.content_type, answer.headers["Cache-Control"]), ("application/json", "no-store"))
        text = self.post({"channel": "job-ü", "data": "two\nlines", "event": None, "finish": False})
        expected = [
            (answer.json["id"], "orders", "paid", '{"n":1}'),
            (text.json["id"], "job-ü", None, "two\nlines"),
        ]
        self.assertEqual(self.events(), expected)

    def test_the_last_event_of_a_channel(self: Any) -> None:
        ids = [
            self.post({"channel": "job-1", "finish": True}).json["id"],
            self.post({"channel": "job-2", "finish": True, "data": "done"}).json["id"],
        ]
        expected = [(ids[0], "job-1", FINISHED, "{}"), (ids[1], "job-2", FINISHED, "done")]
        self.assertEqual(self.events(), expected)

    def test_a_list_is_one_transaction(self: Any) -> None:
        events = [{"channel": f"job-{number}", "data": number} for number in range(500)]
        answer = self.post(events)
        self.assertEqual(answer.status_code, 201)
        found = [(event_id, f"job-{n}", None, str(n)) for n, event_id in enumerate(answer.json["ids"])]
        self.assertEqual(self.events(), found)
        for wrong in ({"channel": "secrets", "data": 1}, {"channel": "orders"}, {"channel": "", "data": 1}):
            self.assertIn(self.post([{"channel": "orders", "data": 1}, wrong]).status_code, (403, 422))
        self.assertEqual(len(self.events()), 500)

    def test_a_request_that_is_sent_again_publishes_nothing_again(self: Any) -> None:
        event = {"channel": "orders", "data": {"a": 1, "b": 2}}
        first = self.post(event, Idempotency_Key='"k-1"')
        self.assertEqual(first.status_code, 201)
        for key in ('"k-1"', "k-1", '"k-1"; a=1'):
            self.assertEqual(self.post(event, Idempotency_Key=key).json, first.json)
        batch = [event, {"channel": "job-1", "finish": True}]
        both = self.post(batch, Idempotency_Key="k-2")
        self.assertEqual(self.post(batch, Idempotency_Key="k-2").json, both.json)
        self.assertEqual([each[0] for each in self.events()], [first.json["id"], *both.json["ids"]])

    def test_a_key_belongs_to_one_request_of_one_publisher(self: Any) -> None:
        self.post({"channel": "orders", "data": 1}, Idempotency_Key="k")
        for other in ({"channel": "orders", "data": 2}, {"channel": "job-1", "data": 1}):
            self.refusal(422, "came before with other events", self.post(other, Idempotency_Key="k"))
        self.assertEqual(
            self.post({"channel": "orders", "data": 1}, token=OTHER, Idempotency_Key="k").status_code, 201
        )
        self.assertEqual(len(self.events()), 2)

    def test_two_requests_with_one_key_at_the_same_time(self: Any) -> None:
        """Both have found no answer before either is committed, in threads and hubs of their own."""
        hubs = [self.hub] * 2 if self.hub.url == "memory://" else [self.hub, self.make_hub()]
        barrier = threading.Barrier(4)
        answers: list[Any] = []

        def send(hub: Hub, number: int) -> None:
            app = hub.publisher(tokens=TOKENS)
            for key in range(10):
                barrier.wait(SECONDS)
                data = {"channel": "orders", "data": [key, number]}
                answer = self.post(data if key % 2 else {**data, "data": key}, app=app, Idempotency_Key=f"k{key}")
                answers.append((key, answer.status_code, answer.json.get("id")))

        threads = [threading.Thread(target=send, args=(hubs[number % 2], number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        ids = {event_id: data for event_id, _, _, data in self.events()}
        self.assertEqual(len(ids), 10)
        for key in range(10):
            found = [(status, event_id) for k, status, event_id in answers if k == key]
            self.assertEqual(len(found), 4)
            self.assertEqual({event_id for _, event_id in found if event_id} - ids.keys(), set())
            self.assertEqual(len({event_id for _, event_id in found if event_id}), 1)
            statuses = sorted(status for status, _ in found)
            self.assertEqual(statuses, [201, 422, 422, 422] if key % 2 else [201] * 4)

    def test_the_look_inside_the_transaction_is_the_one_that_counts(self: Any) -> None:
        event = {"channel": "orders", "data": 1}
        first = self.post(event, Idempotency_Key="k")
        record = self.record_of("k")
        with mock.patch.object(self.hub.log, "newest", return_value=None) as newest:
            if self.hub.url.startswith(("memory", "redis")):  # whose transactions look by the same method
                newest.side_effect = [None, record]
            again = self.post(event, Idempotency_Key="k")
        self.assertEqual((again.status_code, again.json), (201, first.json))
        self.assertEqual([each[0] for each in self.events()], [first.json["id"]])
        later = self.hub.publish("orders", "later")
        self.assertEqual([each[0] for each in self.events()], [first.json["id"], later])

    def record_of(self: Any, key: str) -> Any:
        digest = hashlib.sha256(hashlib.sha256(TOKEN.encode()).digest() + key.encode()).hexdigest()
        return self.hub.log.newest(f"sse_threaded:key-{digest}")

    def test_a_token_or_a_key_is_nowhere_in_the_log(self: Any) -> None:
        self.post({"channel": "orders", "data": 1}, Idempotency_Key="a-key-of-mine")
        for record in self.hub.log.read(0):
            self.assertNotIn(TOKEN, repr(record))
            self.assertNotIn("a-key-of-mine", repr(record))

    def test_streams_and_readers_of_channels_get_nothing_of_the_keys(self: Any) -> None:
        first = self.hub.publish("orders", "first")
        answer = self.post({"channel": "orders", "data": "x"}, Idempotency_Key="k")
        self.hub.finish("orders")
        response = self.hub.stream({"REQUEST_METHOD": "GET", "HTTP_LAST_EVENT_ID": first}, "orders")
        body = b"".join(response.response)
        self.assertIn(answer.json["id"].encode(), body)
        self.assertNotIn(b"sse_threaded", body)

    def test_publishing_starts_no_thread(self: Any) -> None:
        """In a process of its own, which counts the threads of the system, and must end by itself."""
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_THREAD, self.url_of_process()],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout), (0, "1 1\n"), done.stderr)

    def url_of_process(self: Any) -> str:
        return str(self.hub.url)


# It ends without hub.close(), as a job or a script may.
WITHOUT_THREAD = """
import os, sys, threading
from werkzeug.test import Client
from sse_threaded import Hub

hub = Hub(sys.argv[1])
hub.publish("a", "x")
hub.finish("a")
with hub.log.transaction() as transaction:
    transaction.append("a", "x")
app = hub.publisher(tokens={"a-token-that-cannot-be-guessed": "*"})
headers = {"Authorization": "Bearer a-token-that-cannot-be-guessed", "Idempotency-Key": "k"}
for _ in range(2):
    answer = Client(app).post("/", json=[{"channel": "a", "data": 1}] * 2, headers=headers)
    assert answer.status_code == 201, answer.text
print(threading.active_count(), len(os.listdir("/proc/self/task")))
"""


class MemoryPublisherTest(PublisherContract, PublisherCase):
    pass


class SQLitePublisherTest(PublisherContract, PublisherCase):
    def make_hub(self, retention: Retention | None = None) -> Hub:
        if not hasattr(self, "url"):
            self.url = sqlite_url(temporary_directory(self))
        return enter(self, Hub(self.url, retention=retention))


class RefusalTest(PublisherCase):
    def tearDown(self) -> None:
        self.assertEqual(self.events(), [])

    def test_no_token_and_unknown_tokens(self) -> None:
        event = {"channel": "orders", "data": 1}
        answer = Client(self.app).post("/", json=event)
        self.refusal(401, "Authorization: Bearer TOKEN", answer)
        self.assertEqual(answer.headers["WWW-Authenticate"], 'Bearer realm="publisher"')
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        wrong = ["", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"]
        wrong += [f"Bearer sha256:{digest}", f"Bearer {digest}", "Bearer ü€\udce4", f"Bearer {TOKEN.upper()}"]
        for authorization in wrong:
            with self.subTest(authorization):
                environ = EnvironBuilder("/", method="POST", json=event).get_environ()
                environ["HTTP_AUTHORIZATION"] = authorization
                found = Response.from_app(self.app, environ)
                self.refusal(401, "not known here", found)
                self.assertIn('error="invalid_token"', found.headers["WWW-Authenticate"])
                self.assertNotIn(TOKEN, str(found.headers) + found.get_data(as_text=True))

    def test_tokens_are_compared_in_constant_time_with_all(self) -> None:
        tokens = PublishTokens({f"token-number-{number}-long-enough": "*" for number in range(5)})
        for token in ("token-number-0-long-enough", "wrong"):
            with mock.patch.object(hmac, "compare_digest", wraps=hmac.compare_digest) as compare:
                tokens.find(f"Bearer {token}")
            self.assertEqual(compare.call_count, 5)

    def test_other_channels(self) -> None:
        for channel in ("order", "orders2", "job", "xjob-1", "ORDERS"):
            with self.subTest(channel):
                answer = self.post({"channel": channel, "data": 1})
                self.refusal(403, f'"{channel}"', answer)
                self.assertIn('error="insufficient_scope"', answer.headers["WWW-Authenticate"])
        for channel in ("sse_threaded:control", "sse_threaded:key-1"):
            answer = self.post({"channel": channel, "data": 1}, token=OTHER)
            self.refusal(403, "belong to the server", answer)

    def test_other_methods_and_addresses(self) -> None:
        for method in ("GET", "HEAD", "PUT", "OPTIONS"):
            answer = Client(self.app).open("/", method=method)
            self.assertEqual((answer.status_code, answer.headers["Allow"]), (405, "POST"))
        self.refusal(404, "leave out the last part", Client(self.app).post("/more"))

    def test_bodies_that_are_not_json(self) -> None:
        for body, status, words in (
            (b"{", 400, "not JSON"),
            (b'{"channel": "\xff"}', 400, "UTF-8"),
            (b"[" * 100_000, 400, "too deep"),
            (b'"' + b"x" * 1_100_000 + b'"', 413, "over 1028 KiB"),
        ):
            with self.subTest(body[:10]):
                self.refusal(status, words, self.post(body))
        self.refusal(415, "application/json", self.post(b"{}", Content_Type="text/plain"))
        self.refusal(415, "application/json", self.post(b"{}", Content_Type="application/x-www-form-urlencoded"))

    def test_bodies_without_a_length_and_cut_ones(self) -> None:
        def answer(body: bytes, **environ: Any) -> Response:
            made = EnvironBuilder("/", method="POST", headers={"Authorization": f"Bearer {TOKEN}"}).get_environ()
            made.pop("CONTENT_LENGTH", None)
            made |= {"CONTENT_TYPE": "application/json", "wsgi.input": io.BytesIO(body), **environ}
            return Response.from_app(self.app, made)

        event = b'{"channel": "secrets", "data": 1}'
        self.refusal(411, "Content-Length", answer(event))
        self.refusal(403, "secrets", answer(event, **{"wsgi.input_terminated": True}))
        for environ in ({"CONTENT_LENGTH": "0"}, {"wsgi.input_terminated": True}):
            self.refusal(400, "not JSON", answer(b"", **environ))
        long = b'"' + b"x" * 1_100_000 + b'"'
        self.refusal(413, "over 1028 KiB", answer(long, **{"wsgi.input_terminated": True}))
        self.refusal(400, "shorter than its Content-Length", answer(event, CONTENT_LENGTH="99"))

    def test_the_limit_of_the_body_can_be_set(self) -> None:
        app = self.hub.publisher(tokens=TOKENS, max_bytes=2048)
        self.refusal(413, "over 2 KiB", self.post({"channel": "orders", "data": "x" * 2048}, app=app))

    def test_json_that_is_no_event(self) -> None:
        good = {"channel": "orders", "data": 1}
        for body, words in (
            (7, "The body is a number"),
            ("text", "The body is a string"),
            ([], "1 to 500 events, not 0"),
            ([good] * 501, "1 to 500 events, not 501"),
            ([good, None], "Event 2 of 2 is null"),
            ([good, [good]], "Event 2 of 2 is an array"),
            ({}, 'The body has no "channel"'),
            ({"channel": "orders"}, 'has no "data"'),
            ({**good, "topic": 1}, 'unknown member "topic"'),
            ({**good, "x" * 99: 1}, "x" * 40 + "\\u2026"),
            ({**good, "channel": 7}, '"channel": must be text'),
            ({**good, "channel": "c" * 256}, '"channel": must be text of 1 to 255'),
            ({**good, "channel": ""}, '"channel": must be text of 1 to 255'),
            ({**good, "event": "a\nb"}, '"event"'),
            ({**good, "event": 7}, '"event": must be text'),
            ({**good, "event": "reset"}, '"event"'),
            ({**good, "event": "stream-end"}, '"event"'),
            ({**good, "finish": 1}, '"finish" is a number; send true'),
            ({**good, "finish": True, "event": "x"}, '"event" and "finish"'),
            ({**good, "data": float("nan")}, '"data"'),
            ({**good, "data": "\ud800"}, '"data"'),
        ):
            with self.subTest(words):
                self.refusal(422, words, self.post(body))

    def test_a_key_that_is_invalid(self) -> None:
        for key in ('"', '""', '"a', 'a"', '"a" b', "a,b", "ü", '"' + "k" * 256 + '"', "k" * 256, "a b"):
            with self.subTest(key):
                answer = self.post({"channel": "orders", "data": 1}, Idempotency_Key=key)
                self.refusal(400, "Idempotency-Key must be", answer)


class FaultTest(PublisherCase):
    def test_a_log_that_cannot_be_reached(self) -> None:
        event = {"channel": "orders", "data": 1}
        log = self.hub.log
        for error, retry_after in (
            (LogUnavailable("redis://h", "cut off"), "2"),
            (LogUnusable("redis://h", "no"), None),
        ):
            for name, key in (("append", {}), ("newest", {"Idempotency_Key": "k"}), ("transaction", {})):
                body: Any = [event, event] if name == "transaction" else event
                app = self.hub.publisher(tokens=TOKENS)
                with (
                    self.subTest(name, error=error),
                    mock.patch.object(log, name, side_effect=error),
                    self.assertLogs("sse_threaded.publisher.app", logging.WARNING) as logged,
                ):
                    answer = self.post(body, app=app, **key)
                    self.refusal(503, "The log cannot be", answer)
                    self.assertEqual(answer.headers.get("Retry-After"), retry_after)
                    self.post(body, app=app, **key)
                    self.assertEqual(len(logged.output), 1)
                    self.assertNotIn(TOKEN, logged.output[0])
        self.assertEqual(self.events(), [])

    def test_a_hub_that_is_closed(self) -> None:
        self.hub.close()
        with self.assertLogs("sse_threaded.publisher.app", logging.WARNING):
            answer = self.post({"channel": "orders", "data": 1}, Idempotency_Key="k")
        self.refusal(503, "try again soon", answer)
        self.assertEqual(answer.headers["Retry-After"], "2")

    def test_a_transaction_whose_answer_was_lost(self) -> None:
        """The commit took effect, and the publisher got an error: the key finds the events."""
        event = {"channel": "orders", "data": 1}
        real: Any = type(self.hub.log).transaction

        class Lost:
            def __init__(self, log: EventLog) -> None:
                self.manager = real(log)

            def __enter__(self) -> Any:
                return self.manager.__enter__()

            def __exit__(self, *exception: Any) -> None:
                self.manager.__exit__(*exception)
                raise LogUnavailable("redis://h", "the answer was lost")

        with (
            mock.patch.object(self.hub.log, "transaction", lambda: Lost(self.hub.log)),
            self.assertLogs("sse_threaded.publisher.app", logging.WARNING),
        ):
            self.assertEqual(self.post(event, Idempotency_Key="k").status_code, 503)
        answer = self.post(event, Idempotency_Key="k")
        self.assertEqual(answer.status_code, 201)
        self.assertEqual([each[0] for each in self.events()], [answer.json["id"]])


class RetentionTest(PublisherCase):
    def make_hub(self, retention: Retention | None = None) -> Hub:
        return super().make_hub(Retention(count=1, age=1))

    def test_a_key_is_remembered_for_the_age_of_the_retention(self) -> None:
        event = {"channel": "orders", "data": 1}
        first = self.post(event, Idempotency_Key="k").json["id"]
        for number in range(20):
            self.post({"channel": "orders", "data": number}, Idempotency_Key=f"k{number}")
        self.assertEqual(self.post(event, Idempotency_Key="k").json["id"], first)
        channel = self.hub.log.read(0)[1].channel
        self.assertTrue(channel.startswith("sse_threaded:key-"))
        wait_until(lambda: (self.hub.log.trim(), self.hub.log.newest(channel))[1] is None, message="it expires")
        self.assertNotEqual(self.post(event, Idempotency_Key="k").json["id"], first)


class TokensTest(PublisherCase):
    def test_a_hash_stands_for_a_token(self) -> None:
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        for form in (digest, digest.upper()):
            app = self.hub.publisher(tokens={f"sha256:{form}": "orders"})
            self.assertEqual(self.post({"channel": "orders", "data": 1}, app=app).status_code, 201)
            self.assertEqual(self.post({"channel": "job-1", "data": 1}, app=app).status_code, 403)

    def test_the_key_of_a_token_is_that_of_its_hash(self) -> None:
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        event = {"channel": "orders", "data": 1}
        first = self.post(event, Idempotency_Key="k")
        again = self.post(event, Idempotency_Key="k", app=self.hub.publisher(tokens={f"sha256:{digest}": "*"}))
        self.assertEqual(again.json, first.json)

    def test_the_scheme_may_be_written_in_any_case(self) -> None:
        for scheme in ("bearer", "BEARER", "Bearer "):
            answer = self.post({"channel": "orders", "data": 1}, Authorization=f"{scheme} {TOKEN}")
            self.assertEqual(answer.status_code, 201)

    def test_tokens_that_are_invalid(self) -> None:
        for tokens, words in (
            ({}, "at least one token"),
            ([TOKEN], "at least one token"),
            ({"short": "a"}, "token 1 of 1 must have at least 16 characters"),
            ({TOKEN: "a", "has a space in it x": "a"}, "token 2 of 2 must be letters"),
            ({TOKEN + "é": "a"}, "must be letters"),
            ({"sha256:abc": "a"}, "64 hexadecimal digits"),
            ({7: "a"}, "must be letters"),
            ({TOKEN: []}, "at least one channel"),
            ({TOKEN: 7}, "a list of channels, not int"),
            ({TOKEN: [""]}, "channel must be text of 1 to 255"),
            ({TOKEN: [7]}, "channel must be text of 1 to 255"),
            ({TOKEN: ["a*b"]}, "the * must be the last character"),
            ({TOKEN: ["**"]}, "the * must be the last character"),
        ):
            with self.subTest(words), self.assertRaisesRegex(ValueError, words.replace("*", r"\*")) as caught:
                self.hub.publisher(tokens=tokens)  # type: ignore[arg-type]
            for token in (TOKEN, "short'", "has a space"):
                self.assertNotIn(token, str(caught.exception))
        for wrong in (0, -1, True, "9"):
            with self.assertRaisesRegex(ValueError, "max_bytes must be a whole number"):
                self.hub.publisher(tokens=TOKENS, max_bytes=wrong)  # type: ignore[arg-type]

    def test_nothing_shows_a_token(self) -> None:
        self.assertNotIn(TOKEN, repr(self.app) + repr(vars(self.app)))


class MountTest(PublisherCase):
    def test_in_flask_behind_a_prefix(self) -> None:
        app = Flask(__name__)
        app.add_url_rule("/", view_func=lambda: "home")
        app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/publish": self.app})  # type: ignore[method-assign]
        client = Client(app)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("/publish", "/publish/"):
            answer = client.post(path, json={"channel": "orders", "data": 1}, headers=headers)
            self.assertEqual(answer.status_code, 201)
        self.assertEqual(client.get("/").text, "home")
        self.assertEqual(client.post("/publish/x", headers=headers).status_code, 404)
        self.assertEqual(len(self.events()), 2)


if __name__ == "__main__":
    unittest.main()
