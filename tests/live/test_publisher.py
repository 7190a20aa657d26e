"""The publisher under the real gunicorn: both workers, two processes, and some are killed (kill -9)."""

from __future__ import annotations

import http.client
import random
import threading
import time
import unittest
from typing import Any

from sse_threaded import open_log
from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.support import enter, kill_at_random, sqlite_url, temporary_directory, wait_until

APP = """
import os
import signal
from contextlib import contextmanager
from sse_threaded import Hub
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Request

hub = Hub(os.environ["LOG"], heartbeat=0.5)
publisher = hub.publisher(tokens={"a-token-that-cannot-be-guessed": ["job-*"]})
transaction = hub.log.transaction


@contextmanager
def last_transaction():
    with transaction() as found:
        yield found
        os.kill(os.getpid(), signal.SIGKILL)


def publish(environ, start_response):
    moment = environ.get("HTTP_DIE")
    if moment == "before":
        hub.log.transaction = last_transaction
    answer = publisher(environ, start_response)
    if moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return answer


@Request.application
def streams(web):
    return hub.stream(web, web.path.strip("/"))


app = DispatcherMiddleware(streams, {"/publish": publish})
"""

TOKEN = "a-token-that-cannot-be-guessed"
THREADS = ("-k", "gthread", "--threads", "24", "-c", "python:sse_threaded.gunicorn_hooks")
PARKED = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "8")

# Seconds in which each request is answered at last, however many workers are killed.
_SECONDS = 60.0


class KilledWorkers:
    """Mixed into a TestCase for each engine that several processes share, and for each worker."""

    args: tuple[str, ...] = THREADS

    def log_url(self) -> str:
        raise NotImplementedError

    def setUp(self: Any) -> None:
        super().setUp()  # type: ignore[misc]
        folder = temporary_directory(self)
        (folder / "publishing.py").write_text(APP, encoding="utf-8")
        self.url = self.log_url()
        self.log = open_log(self.url)
        self.addCleanup(self.log.close)
        # A log in SQLite begins a new epoch if its very first writer is killed, as if a backup had been put there.
        self.log.append("sse_threaded:first", "x")
        args = [*self.args, "-w", "2", "--access-logfile", "-", "--chdir", str(folder)]
        self.server = enter(self, GunicornServer("publishing:app", args=args, env={"LOG": self.url}))

    def post(self: Any, events: Any, key: str | None = None, **headers: str) -> Any:
        fields = {"Authorization": f"Bearer {TOKEN}", **headers}
        if key is not None:
            fields["Idempotency-Key"] = f'"{key}"'
        return request("POST", f"{self.server.url}/publish", json=events, headers=fields, timeout=30)

    def post_until_answered(self: Any, events: Any, key: str) -> Any:
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                answer = self.post(events, key)
                if answer.status != 503:
                    return answer
            except (OSError, http.client.HTTPException):
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"no answer for {key}")
            time.sleep(0.02)

    def published(self: Any) -> dict[str, str]:
        """Data and ids of all events but those of the library; no data comes twice."""
        found, after = [], 0
        while page := self.log.read(after):
            found += [
                (each.data, self.log.event_id(each.sequence))
                for each in page
                if not each.channel.startswith("sse_threaded:")
            ]
            after = page[-1].sequence
        self.assertEqual(len(found), len(dict(found)))
        return dict(found)

    def test_a_worker_is_killed_before_or_after_the_commit(self: Any) -> None:
        for moment, is_in_log in (("before", False), ("after", True)):
            for number, events in enumerate(
                (
                    {"channel": "job-1", "data": moment},
                    [{"channel": "job-1", "data": f"{moment}-{n}"} for n in range(5)],
                )
            ):
                with self.subTest(moment, number=number):
                    key = f"{moment}-{number}"
                    before = self.published()
                    with self.assertRaises((OSError, http.client.HTTPException)):
                        self.post(events, key, Die=moment)
                    count = (5 if number else 1) if is_in_log else 0
                    self.assertEqual(len(self.published()), len(before) + count)
                    answer = self.post_until_answered(events, key)
                    self.assertEqual(answer.status, 201)
                    ids = answer.json().get("ids") or [answer.json()["id"]]
                    self.assertEqual(ids, list(self.published().values())[len(before) :])
                    self.assertEqual(self.post_until_answered(events, key).body, answer.body)
        self.assertEqual(len(self.published()), 12)

    def test_workers_are_killed_while_programs_publish(self: Any) -> None:
        answers: dict[str, str] = {}
        failures: list[str] = []

        def publish(name: int) -> None:
            try:
                for number in range(40):
                    data = f"{name}-{number}"
                    answer = self.post_until_answered({"channel": f"job-{name}", "data": data}, data)
                    if answer.status == 201:
                        answers[data] = answer.json()["id"]
                    else:
                        failures.append(answer.body.decode())
            except BaseException as error:
                failures.append(repr(error))

        threads = [threading.Thread(target=publish, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        chance = random.Random(5)
        for kill in range(6):
            wait_until(
                lambda: len(answers) >= 10 * kill or failures,  # noqa: B023  # it is called at once
                timeout=_SECONDS,
                message="some are published",
            )
            kill_at_random(self.server.worker_pids(), chance)
        for thread in threads:
            thread.join(_SECONDS)
        self.assertEqual(failures, [])
        self.assertEqual(len(answers), 160)
        self.assertEqual(answers, self.published())

    def test_the_streams_of_both_processes_get_the_events(self: Any) -> None:
        clients = []
        for _ in range(6):
            client = EventStreamClient(f"{self.server.url}/job-1")
            self.addCleanup(client.close)
            client.open()
            client.wait_for_retry()
            clients.append(client)
        first = self.post({"channel": "job-1", "data": "one", "event": "named"}, "k").json()["id"]
        ids = self.post([{"channel": "job-1", "data": {"n": n}} for n in range(3)]).json()["ids"]
        last = self.post({"channel": "job-1", "finish": True}).json()["id"]
        for client in clients:
            client.wait_for_end()
            self.assertEqual([event.last_event_id for event in client.pending()], [first, *ids, last])
        self.assertEqual(request("GET", f"{self.server.url}/job-1", headers={"Last-Event-ID": last}).status, 204)

    def test_refusals_and_the_next_request_on_the_connection(self: Any) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        self.addCleanup(connection.close)
        good = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        event = b'{"channel": "job-1", "data": 1}'
        chunks = {"Transfer-Encoding": "chunked"}
        for method, headers, body, status in (
            ("POST", {}, event, 401),
            ("POST", {"Authorization": "Bearer wrong-token-of-nobody"}, event, 401),
            ("GET", good, None, 405),
            ("POST", {**good, "Content-Type": "text/plain"}, event, 415),
            ("POST", good, b'{"channel": "orders", "data": 1}', 403),
            ("POST", good, b'{"channel": "job-1"}', 422),
            ("POST", good, b"{", 400),
            ("POST", good, b"", 400),
            ("POST", {**good, **chunks}, iter([event[:9], event[9:]]), 201),
            ("POST", {**good, **chunks}, iter([b'"' + b"x" * 600_000, b"x" * 600_000]), 413),
            ("POST", good, b'"' + b"x" * 1_200_000, 413),
            ("POST", good, event, 201),
        ):
            with self.subTest(headers=headers, status=status):
                options = {"encode_chunked": True} if "Transfer-Encoding" in headers else {}
                connection.request(method, "/publish", body, headers, **options)
                answer = connection.getresponse()
                answer.read()
                self.assertEqual(answer.status, status)
                if answer.will_close or status == 413:
                    connection.close()
        output = self.server.output()
        self.assertIn('"POST /publish HTTP/1.1" 201', output)
        self.assertNotIn(TOKEN, output)
        self.assertNotIn("wrong-token-of-nobody", output)


class ThreadsTest(KilledWorkers, unittest.TestCase):
    def log_url(self) -> str:
        return sqlite_url(temporary_directory(self))


class ParkedTest(ThreadsTest):
    args = PARKED


if __name__ == "__main__":
    unittest.main()
