"""A hub under gunicorn's gevent workers, where threads are greenlets: real gunicorn, real logs."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import unittest
from concurrent.futures import ThreadPoolExecutor

from sse_threaded import Hub
from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.harness.server_program import ServerProgram, answers_http
from tests.support import (
    FAREWELL,
    UNAVAILABLE,
    enter,
    free_port,
    missing,
    sqlite_url,
    temporary_directory,
    wait_until,
)

ONCE = True  # it says the same under every Python

APP = """
import json
import os
import time

from flask import Flask, request
from sse_threaded import Hub

app = Flask(__name__)
hub = Hub(os.environ["LOG_URL"], **json.loads(os.environ.get("HUB", "{}")))

@app.get("/events")
def events():
    return hub.stream(request, "news")

@app.post("/events")
def publish():
    return hub.publish("news", request.get_data(as_text=True)), 201

@app.post("/slow")
def publish_two():
    with hub.log.transaction() as transaction:
        transaction.append("news", "first")
        time.sleep(0.5)  # a call of another service: other greenlets go on
        return transaction.append("news", "second"), 201

@app.get("/health")
def health():
    return hub.health()
"""

PATCHED = """
from sse_threaded import Hub
from sse_threaded.fanout.thread_subscriber import ThreadSubscriber
from sse_threaded.wsgi_server import caller_of
import gevent.monkey
gevent.monkey.patch_all()
import gevent, socket
hub = Hub()
"""

HOOKS = "from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit\n"

# What no worker may print: the beginning of a traceback, and of what gevent prints of a greenlet that failed.
RAW = ("Traceback", "queue.Empty", "failed with", "Exception ignored")


def setUpModule() -> None:
    for module in ("gevent", "packaging", "flask"):
        if importlib.util.find_spec(module) is None:
            missing(f"{module} (pip install gevent packaging flask)")


class GeventCase(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        self.log_url = sqlite_url(self.directory)
        (self.directory / "app.py").write_text(APP)
        (self.directory / "hooks.py").write_text(HOOKS)

    def serve(self, *args: str, worker: str = "gevent", hooks: bool = True, **hub: object) -> GunicornServer:
        """The app under gunicorn; at the end nothing raw may have been printed."""
        args = ("-k", worker, *(("-c", "hooks.py") if hooks else ()), *args)
        env = {"LOG_URL": self.log_url, "HUB": json.dumps(hub)}
        server = GunicornServer("app:app", args=args, env=env, cwd=self.directory)
        self.addCleanup(lambda: self.assert_nothing_raw(server))
        return enter(self, server)

    def assert_nothing_raw(self, server: GunicornServer) -> None:
        for text in RAW:
            self.assertNotIn(text, server.output())

    def open(self, server: GunicornServer, **options: object) -> EventStreamClient:
        client = enter(self, EventStreamClient(server.url + "/events", **options))
        client.wait_for_retry()
        return client

    def streams(self, server: GunicornServer) -> int:
        count: int = json.loads(request("GET", server.url + "/health").body)["streams"]
        return count

    def publish(self, server: GunicornServer, data: str) -> str:
        reply = request("POST", server.url + "/events", body=data.encode())
        self.assertEqual(reply.status, 201, reply.body)
        return reply.body.decode()


class StreamsTest(GeventCase):
    def test_with_each_worker(self) -> None:
        """The parts share a server, as each takes its streams away again."""
        parts = (
            self.events_of_this_and_of_another_process_come_and_can_be_resumed,
            self.a_long_poll_waits_for_an_event_and_holds_up_nobody,
            self.who_hangs_up_is_let_go_at_once,
        )
        for worker in ("gevent", "gevent_pywsgi"):
            self.log_url = sqlite_url(self.directory, f"{worker}.db")
            server = self.serve(worker=worker, heartbeat=600)
            for part in parts:
                with self.subTest(part.__name__, worker=worker):
                    part(server)

    def events_of_this_and_of_another_process_come_and_can_be_resumed(self, server: GunicornServer) -> None:
        client = self.open(server)
        self.publish(server, "one")
        with Hub(self.log_url) as other:
            other.publish("news", "two")
            events = client.events(2)
        self.assertEqual([event.data for event in events], ["one", "two"])
        again = self.open(server, last_event_id=events[0].last_event_id)
        self.assertEqual(again.next_event(), events[1])
        poll = f"{server.url}/events?wait=5&lastEventId={events[0].last_event_id}"
        body = json.loads(request("GET", poll, headers={"Accept": "application/json"}).body)
        self.assertEqual([event["data"] for event in body["events"]], ["two"])
        for each in (client, again):
            each.close()

    def a_long_poll_waits_for_an_event_and_holds_up_nobody(self, server: GunicornServer) -> None:
        wait_until(lambda: self.streams(server) == 0, message="no stream")
        with ThreadPoolExecutor(1) as pool:
            accept = {"Accept": "application/json"}
            poll = pool.submit(request, "GET", server.url + "/events?wait=20", headers=accept)
            wait_until(lambda: self.streams(server) == 1, message="the long poll")
            self.publish(server, "here")
            self.assertIn(b'"data":"here"', poll.result(15).body)

    def who_hangs_up_is_let_go_at_once(self, server: GunicornServer) -> None:
        wait_until(lambda: self.streams(server) == 0, message="no stream")
        client = self.open(server)
        self.assertEqual(self.streams(server), 1)
        client.close()
        wait_until(lambda: self.streams(server) == 0, message="no stream")

    def test_heartbeats_come_and_a_lease_ends(self) -> None:
        server = self.serve(heartbeat=0.1, lease=1.0)
        client = self.open(server)
        client.wait_for(lambda: client.comments >= 2, what="heartbeats")
        client.wait_for_end()
        self.assertRegex(client.raw, FAREWELL + rb"\Z")
        wait_until(lambda: self.streams(server) == 0, message="no stream")

    def test_connections_are_kept_for_ordinary_requests(self) -> None:
        server = self.serve("--worker-connections", "10")
        clients = [self.open(server) for _ in range(8)]
        with EventStreamClient(server.url + "/events") as refused:
            refused.wait_for_end()
            self.assertRegex(refused.raw, UNAVAILABLE)
        self.publish(server, "one")
        self.assertEqual([client.next_event().data for client in clients], ["one"] * 8)

    def test_a_client_that_does_not_read_is_cut_off_and_holds_up_nobody(self) -> None:
        server = self.serve(queue_size=10)
        stalled = self.open(server, receive_buffer=4096)
        reader = self.open(server)
        with Hub(self.log_url) as other:
            number = 0

            def is_cut_off() -> bool:
                nonlocal number
                number += 1
                other.publish("news", "x" * 100_000)
                reader.next_event()
                return self.streams(server) == 1

            wait_until(is_cut_off, timeout=60, message="the client that does not read is cut off")
        stalled.abort()


PYWSGI = """
import gevent.monkey
gevent.monkey.patch_all()
import signal, sys
from gevent.pywsgi import WSGIServer
from app import app, hub
server = WSGIServer(("127.0.0.1", int(sys.argv[1])), app)
gevent.signal_handler(signal.SIGTERM, lambda: (hub.close(), server.stop()))
server.serve_forever()
"""


class AloneTest(GeventCase):
    def test_gevents_own_server_streams_and_is_warned_of_nothing(self) -> None:
        port = free_port()
        url = f"http://127.0.0.1:{port}/"
        env = {**os.environ, "LOG_URL": self.log_url, "HUB": json.dumps({"heartbeat": 0.2})}
        command = [sys.executable, "-c", PYWSGI, str(port)]
        with ServerProgram("pywsgi", command, self.directory, answers_http(url + "health"), env=env) as server:
            with EventStreamClient(url + "events") as gone, EventStreamClient(url + "events") as client:
                client.wait_for_retry()
                gone.close()
                wait_until(lambda: json.loads(request("GET", url + "health").body)["streams"] == 1)
                self.assertEqual(request("POST", url + "events", body=b"here").status, 201)
                self.assertEqual(client.next_event().data, "here")
                server.signal(signal.SIGTERM)
                client.wait_for_end()
                self.assertRegex(client.raw, FAREWELL + rb"\Z")
            self.assertEqual(server.wait(15), 0)
            printed = server.output()
        for text in (*RAW, "one request at a time", "Streams may take"):
            self.assertNotIn(text, printed)


class PatchedAppTest(GeventCase):
    def test_a_worker_with_threads_says_that_the_app_has_none(self) -> None:
        (self.directory / "patched.py").write_text(
            "import gevent.monkey\ngevent.monkey.patch_all()\nfrom app import app\n"
        )
        args = ["-k", "sse_threaded.worker.ThreadWorker", "--threads", "4"]
        server = GunicornServer("patched:app", args=args, env={"LOG_URL": self.log_url}, cwd=self.directory)
        with server:
            wait_until(lambda: "replaced threads" in server.output(), message="the line")
        self.assertEqual(server.output().count("use gunicorn -k gevent"), 1)


class LateTest(GeventCase):
    """gunicorn patches threads in each worker; a preloaded app has made its hub before."""

    def test_one_greenlets_transaction_is_not_anothers(self) -> None:
        for args in ((), ("--preload",)):
            with self.subTest(args):
                self.log_url = sqlite_url(self.directory, f"{len(args)}.db")
                server = self.serve(*args, hooks=False)
                client = self.open(server)
                with ThreadPoolExecutor(4) as pool:
                    posts = [
                        pool.submit(request, "POST", server.url + path, body=b"single")
                        for path in ("/slow", "/events", "/slow", "/events")
                    ]
                    replies = [post.result(20) for post in posts]
                self.assertEqual([reply.status for reply in replies], [201] * 4)
                data = [event.data for event in client.events(6)]
                self.assertEqual(sorted(data), ["first", "first", "second", "second", "single", "single"])
                for first in (place for place, each in enumerate(data) if each == "first"):
                    self.assertEqual(data[first + 1], "second")

    def test_a_look_at_a_socket_that_says_nothing_does_not_wait(self) -> None:
        self.run_patched("""
            near, far = socket.socketpair()
            environ = {"SERVER_PROTOCOL": "HTTP/1.1", "gunicorn.socket": near}
            subscriber = ThreadSubscriber(("news",), 10, caller_of(environ).connection)
            with gevent.Timeout(20):
                hub._pump._registry.hear(subscriber)
                assert subscriber.end_reason is None
                far.close()
                hub._pump.admit(subscriber)
                hub._pump._registry.hear(subscriber)
            assert subscriber.end_reason == "gone", subscriber.end_reason
        """)

    def test_greenlets_share_a_transaction_and_one_that_is_killed_takes_none_along(self) -> None:
        self.run_patched("""
            import sqlite3, tempfile
            with tempfile.TemporaryDirectory() as folder:
                log = Hub(f"sqlite:///{folder}/log.db").log
                log.append("news", "first")
                other = sqlite3.connect(f"{folder}/log.db", isolation_level=None)
                other.execute("BEGIN IMMEDIATE")
                greenlets = [gevent.spawn(log.append, "news", str(number)) for number in range(20)]
                with gevent.Timeout(20):
                    while len(log._appends._queue) < 20:
                        gevent.sleep(0.001)
                    for killed in (greenlets[0], greenlets[7]):    # the one that commits, and one that waits
                        killed.kill()
                    other.execute("ROLLBACK")
                    gevent.joinall(greenlets)
                appended = {log.event_id(record.sequence): record.data for record in log.read(1)}
                answers = {greenlet.value: str(number) for number, greenlet in enumerate(greenlets)}
                killed = [value for value in answers if not isinstance(value, str)]
                assert {value: answers[value] for value in answers if value not in killed} == appended, answers
                assert len(appended) == 18
                log.close()
        """)

    def run_patched(self, code: str) -> None:
        """Run ``code`` in a process that imports the package before threads become greenlets there."""
        command = [sys.executable, "-c", textwrap.dedent(PATCHED) + textwrap.dedent(code)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
