"""The worker that parks streams: the promises of plain gthread, and its own."""

from __future__ import annotations

import re
import socket
import unittest

from sse_threaded import open_log
from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.live import test_gunicorn
from tests.support import enter, temporary_directory, wait_until

WORKER = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "8")


class ProtocolTest(test_gunicorn.ProtocolTest):
    args = WORKER

    # These are of the configuration file and of the log, whichever worker runs: gunicorn's own has them.
    test_one_worker_on_a_log_in_memory_works = None
    # This is of the hub and its log; test_gunicorn_redis.py has it with this worker.
    test_preloading_the_app_changes_nothing = None

    def test_with_the_pool_full_of_streams_ordinary_requests_are_answered(self):
        # There is no such pool: what streams may take is connections.
        server = self.serve("-w", "1", "--worker-connections", "60")
        clients = [self.connect(server) for _ in range(70 - 8)]
        refused = [client for client in clients if b"come back" in client.raw]
        self.assertEqual(len(refused), 70 - 8 - 52)
        self.assertEqual(self.streams(server), 52)
        self.post(server)

    def test_without_threads_to_spare_it_says_so_and_serves_the_rest(self):
        self.args = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "2", "-w", "1")
        server = self.serve()
        clients = [self.connect(server) for _ in range(20)]
        self.post(server)
        for client in clients:
            self.assertIn("task_created", client.next_event().data)
        self.assertNotIn("WARNING] No streams", server.output())


# The second worker takes its time where none has handlers for signals yet.
SLOW_BIRTH = """
import time

def post_fork(server, worker):
    if worker.age == 2:
        time.sleep(1)
"""


class EndTest(test_gunicorn.EndTest):
    args = WORKER
    cut_by_reload = ()

    def test_a_worker_that_is_told_to_end_in_its_first_moments_ends(self):
        config = temporary_directory(self) / "gunicorn.conf.py"
        config.write_text(SLOW_BIRTH, encoding="utf-8")
        args = [*WORKER, "-w", "2", "--graceful-timeout", "600"]
        server = enter(self, GunicornServer("sse_threaded.board:create_app()", config=config, args=args))
        wait_until(lambda: server.output().count("Booting worker") == 2, message="the second fork")
        server.terminate()
        self.assertEqual(server.wait(30), 0)


class SlowTest(test_gunicorn.SlowTest):
    args = WORKER


class ParkingTest(test_gunicorn.GunicornTest):
    args = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "4", "-w", "1")

    def test_streams_hold_no_thread_and_a_hang_up_is_noticed_without_a_write(self):
        server = self.serve("--worker-connections", "500", SSE_THREADED_HEARTBEAT="600")
        clients = [self.connect(server) for _ in range(200)]
        (worker,) = server.worker_pids()
        self.assertLess(threads_of(worker), 12)
        self.assertEqual(self.streams(server), 200)
        for number, client in enumerate(clients[:100]):
            (client.abort if number % 2 else client.close)()
        wait_until(lambda: self.streams(server) == 100, message="the hang-ups")
        self.post(server)
        for client in clients[100:]:
            self.assertIn("task_created", client.next_event().data)

    def test_the_bytes_are_those_of_a_thread(self):
        log = open_log(self.log_url)
        self.addCleanup(log.close)
        with log.transaction() as transaction:
            for number in range(450):
                transaction.append("board-1", f"before {number}")
        bodies = []
        for args in (("-k", "gthread", "--threads", "8"), self.args):
            self.args = args
            server = self.serve("-w", "1", SSE_THREADED_HEARTBEAT="600")
            client = self.connect(server, last_event_id=f"{log.epoch}-0")
            client.events(450)
            bodies.append(bytes(client.raw))
        self.assertEqual(*bodies)
        self.assertEqual(client.headers["Transfer-Encoding"], "chunked")

    def test_one_that_is_far_behind_and_slow_holds_nobody_up(self):
        log = open_log(self.log_url)
        self.addCleanup(log.close)
        with log.transaction() as transaction:
            for _ in range(600):
                transaction.append("board-1", "x" * 30_000)
        server = self.serve()
        live = self.connect(server)
        slow = [
            self.connect(server, last_event_id=f"{log.epoch}-0", receive_buffer=4096, timeout=60) for _ in range(5)
        ]
        for _ in range(5):
            self.post(server)
            self.assertIn("task_created", live.next_event().data)
        ids = self.log_ids()
        self.assertEqual([event.last_event_id for event in slow[0].events(len(ids), timeout=60)], ids)
        for client in slow[1:]:
            client.close()
        wait_until(lambda: self.streams(server) == 2, message="the others to be closed")

    def test_after_its_lease_the_connection_can_be_used_again_unless_a_body_is_left(self):
        server = self.serve(SSE_THREADED_LEASE="0.5")
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            for path, words in ((test_gunicorn.EVENTS, b"\r\n0\r\n\r\n"), ("/healthz", b'"streams":0')):
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                read_until(connection, words)
        # A body that nobody reads is not the next request.
        hidden = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        head = f"GET {test_gunicorn.EVENTS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(hidden)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(head.encode())
            received = connection.recv(65536)
            connection.sendall(hidden)
            while piece := connection.recv(65536):
                received += piece
        self.assertTrue(received.endswith(b"0\r\n\r\n"), received)
        self.assertEqual(received.count(b"HTTP/1.1 200"), 1, received)

    def test_idle_connections_beside_all_streams_leave_room_for_new_ones(self):
        server = self.serve("--worker-connections", "20", "--keep-alive", "60")
        clients = [self.connect(server) for _ in range(16)]
        for _ in range(8):
            connection = enter(self, socket.create_connection(("127.0.0.1", server.port), timeout=20))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_until(connection, b'"streams":16')
        for client in clients:
            client.close()

    def test_the_access_line_and_post_request_come_when_the_stream_ends(self):
        directory = temporary_directory(self)
        (directory / "conf.py").write_text(
            f"exec(open({str(test_gunicorn.CONFIG)!r}).read())\n"
            "def post_request(worker, req, environ, resp):\n"
            "    print(f'POST_REQUEST {req.path} {resp.status_code}\\n', end='', flush=True)\n"
        )
        args = [*self.args, "--access-logfile", "-", "--access-logformat", "ACCESS %(U)s %(s)s %(B)s"]
        env = {"SSE_THREADED_URL": self.log_url}
        server = enter(self, GunicornServer(config=directory / "conf.py", args=args, env=env, cwd=self.directory))
        client = self.connect(server)
        self.post(server)
        client.next_event()
        self.assertNotIn(f"ACCESS {test_gunicorn.EVENTS}", server.output())
        client.close()
        wait_until(lambda: f"POST_REQUEST {test_gunicorn.EVENTS} 200" in server.output(), message="the hook")
        (line,) = re.findall(rf"^ACCESS {test_gunicorn.EVENTS} .*$", server.output(), re.MULTILINE)
        self.assertEqual(line, f"ACCESS {test_gunicorn.EVENTS} 200 {len(client.raw)}")

    def test_connections_that_say_nothing_hold_no_thread(self):
        server = self.serve()  # how long they stay open is tested in test_worker_requests.py
        silent = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(20)]
        for connection in silent:
            self.addCleanup(connection.close)
        halves = silent.pop(), silent.pop()
        for half in halves:
            half.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        self.post(server)  # with threads for two halves and two more
        for half in halves:
            half.sendall(b"st: localhost\r\n\r\n")
            self.assertTrue(half.recv(100).startswith(b"HTTP/1.1 200"))

    def test_a_crowd_is_served_beside_requests_that_wait(self):
        directory = temporary_directory(self)
        (directory / "crowd.py").write_text(CROWD)
        env = {"SSE_THREADED_URL": f"sqlite:///{directory}/log.db"}
        server = enter(self, GunicornServer("crowd:app", args=self.args, env=env, cwd=directory))
        waiting = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(3)]
        for connection in waiting:
            self.addCleanup(connection.close)
            connection.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        crowd = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(300)]
        for connection in crowd:
            self.addCleanup(connection.close)
            connection.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        for connection in crowd:
            read_until(connection, b"retry: ")
        self.assertEqual(request("POST", server.url + "/go").status, 200)
        for connection in waiting:
            read_until(connection, b"went on")
        for connection in crowd:
            read_until(connection, b"data: go")

    def test_streams_spread_evenly_over_the_workers(self):
        directory = temporary_directory(self)
        (directory / "crowd.py").write_text(CROWD)
        env = {"SSE_THREADED_URL": f"sqlite:///{directory}/log.db"}
        args = [*self.args, "-w", "2"]
        server = enter(self, GunicornServer("crowd:app", args=args, env=env, cwd=directory))
        streams: dict[str, int] = {}

        def ask():
            pid, count = request("GET", server.url + "/count").body.split()
            streams[pid] = int(count)
            return len(streams) == 2

        wait_until(ask, message="both workers")
        for _ in range(40):
            client = EventStreamClient(server.url + "/events").open()
            self.addCleanup(client.close)
            client.wait_for(lambda c=client: b"retry: " in c.raw, what="the first bytes")
        wait_until(lambda: ask() and sum(streams.values()) == 40, message="the counts of both")
        # Mostly 20 and 20; but a worker that has more waits some milliseconds only for one that is busy.
        self.assertGreaterEqual(min(streams.values()), 10)


CROWD = """
import os, threading
from sse_threaded import Hub

hub = Hub(os.environ["SSE_THREADED_URL"])
leave = threading.Event()

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/events":
        return hub.stream(environ, "a")(environ, start_response)
    if path == "/wait":
        leave.wait(60)
        body = b"went on"
    elif path == "/go":
        hub.publish("a", "go")
        leave.set()
        body = b"gone"
    else:
        body = b"%d %d" % (os.getpid(), hub.streams)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


APP = """
from flask import Flask, Response, g, request, stream_with_context
from sse_threaded import Hub

hub = Hub(heartbeat=600)
flask_app = Flask(__name__)

@flask_app.get("/remembering")
def remembering():
    g.user = "somebody"
    stream = hub.stream(request, "a")
    return Response(stream_with_context(stream.response), mimetype="text/event-stream")

@flask_app.get("/who")
def who():
    return getattr(g, "user", "nobody")

@flask_app.get("/threads")
def threads():
    import threading
    return str(hub.streams)

"""


class MiddlewareTest(unittest.TestCase):
    """Wrappers have tests of their own in tests/live/wrappers."""

    def setUp(self):
        self.directory = temporary_directory(self)
        (self.directory / "shop.py").write_text(APP)

    def test_what_a_request_remembers_does_not_reach_the_next_one_on_its_thread(self):
        args = ["-k", "sse_threaded.worker.ThreadWorker", "--threads", "2", "-w", "1"]
        server = enter(self, GunicornServer("shop:flask_app", args=args, cwd=self.directory))
        clients = [enter(self, EventStreamClient(server.url + "/remembering")) for _ in range(8)]
        for client in clients:
            client.wait_for(lambda c=client: b"5000" in c.raw)
        for _ in range(10):
            self.assertEqual(request("GET", server.url + "/who").body, b"nobody")
        for client in clients:
            client.close()
        wait_until(lambda: request("GET", server.url + "/threads").body == b"0", message="their ends")
        self.assertEqual(request("GET", server.url + "/who").body, b"nobody")
        self.assertNotIn("Error", server.output())


def threads_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"^Threads:\s+(\d+)", file.read(), re.MULTILINE)[1])


def read_until(connection, words):
    """The bytes that come, up to ``words``."""
    received = b""
    while words not in received:
        piece = connection.recv(65536)
        if not piece:
            raise AssertionError(f"the connection ended: {received!r}")
        received += piece
    return received
