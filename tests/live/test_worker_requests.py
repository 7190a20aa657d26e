"""Requests that come slowly, in part, malformed or large, and clients that do not close: under the real worker."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from gunicorn import version_info
from werkzeug.test import Client

from sse_threaded.board import create_app
from sse_threaded.testing import GunicornServer, request
from sse_threaded.testing.gunicorn_server import NO_CONTROL_SOCKET
from tests.support import enter, free_port, has_failed, sqlite_url, temporary_directory, wait_until

WORKER = ("-k", "sse_threaded.worker.ThreadWorker", "-w", "1")

# Two kinds of apps: one that knows nothing of errors in a body, and one of Werkzeug's kind.
APP = """
import functools, os, threading
from sse_threaded import Hub

hub = Hub("sqlite:///log.db", lease=float(os.environ.get("LEASE", "900")), heartbeat=600)
waiting = threading.Semaphore(0)
go_on = threading.Event()

@functools.cache
def flask_app():
    from flask import Flask, request  # here, as most tests do without it and it takes long
    made = Flask(__name__)
    made.add_url_rule("/flask/body", view_func=lambda: str(len(request.get_data())), methods=["GET", "POST"])
    return made

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/events":
        return hub.stream(environ, "a")(environ, start_response)
    if path == "/flask/body":
        return flask_app()(environ, start_response)
    if path == "/body":
        answer = b"%d" % len(environ["wsgi.input"].read())
    elif path == "/slow" and environ["REQUEST_METHOD"] == "POST":
        answer = b"%d" % len(environ["wsgi.input"].read())
        waiting.release()
        go_on.wait(60)
    elif path == "/slow":
        answer = b"%d" % waiting._value
    elif path == "/go":
        go_on.set()
        answer = b"gone"
    elif path == "/lines":
        answer = b"%d" % len(list(environ["wsgi.input"]))
    elif path == "/streams":
        answer = b"%d" % hub.streams
    else:
        answer = b"well"
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
"""

QUICK = """
from sse_threaded.server import deadlines
deadlines.HEAD_SECONDS = deadlines.BODY_SECONDS = 0.3
"""

LONG_REQUESTS = """
from sse_threaded.server import deadlines
deadlines.HEAD_SECONDS = deadlines.BODY_SECONDS = deadlines.LONG_BODY_SECONDS = 600.0
"""

PATIENT = LONG_REQUESTS + "deadlines.LINGER_SECONDS = 600.0\n"

HOOKED = """
def post_worker_init(worker):
    worker.cfg.set("keepalive", 0)
    worker.cfg.set("post_request", lambda worker, req, environ, resp: worker.log.info("a request has ended"))
"""

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PATHS = (b"/body", b"/flask/body")  # of the two kinds of apps
POST = b"POST /body HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class RequestsTest(unittest.TestCase):
    """Tests of one class share servers, as no request is to change what the next one meets."""

    @classmethod
    def setUpClass(cls):
        cls.servers = {}
        cls.resources = contextlib.ExitStack()
        cls.addClassCleanup(cls.resources.close)

    def serve(self, *args, config="", worker=WORKER, **env):
        """The class's server with these settings. One of its tests may end it, if no other asks for the same."""
        key = args, config, worker, tuple(env.items())
        if key not in self.servers:
            directory = Path(self.resources.enter_context(tempfile.TemporaryDirectory(prefix="sse_threaded-")))
            (directory / "shop.py").write_text(APP, encoding="utf-8")
            (directory / "conf.py").write_text(config, encoding="utf-8")
            config, args = directory / "conf.py", [*worker, *args]
            server = GunicornServer("shop:app", config=config, args=args, env=env, cwd=directory)
            self.servers[key] = self.resources.enter_context(server)
            self.addCleanup(self.show, server)
        return self.servers[key]

    def show(self, server):
        if has_failed(self):
            sys.stderr.write(f"--- output of gunicorn\n{server.output()}\n--- end of it\n")

    def connect(self, server, *pieces):
        connection = enter(self, socket.create_connection(("127.0.0.1", server.port), timeout=30))
        for piece in pieces:
            connection.sendall(piece)
        return connection

    def assert_serves(self, server):
        self.assertEqual(request("GET", server.url + "/").body, b"well")


def read_all(connection):
    """The bytes that come, up to the end."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    return received


def read_body(connection, *, responses=1):
    """The bodies of so many responses on a connection that stays open; each has a Content-Length."""
    received, bodies = b"", []
    while len(bodies) < responses:
        head, found, rest = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0]) if found else 1
        if found and len(rest) >= length:
            bodies.append(rest[:length])
            received = rest[length:]
            continue
        piece = connection.recv(65536)
        if not piece:
            raise AssertionError(f"the connection ended: {received!r}")
        received += piece
    return bodies if responses > 1 else bodies[0]


class StalledTest(RequestsTest):
    def test_half_a_head_holds_no_thread(self):
        server = self.serve("--threads", "8", config=PATIENT)
        halves = [self.connect(server, GET[:20]) for _ in range(48)]
        self.assert_serves(server)
        for half in halves:
            half.sendall(GET[20:])
        for half in halves:
            self.assertEqual(read_body(half), b"well")

    def test_a_body_that_never_comes_leaves_threads_for_others(self):
        server = self.serve("--threads", "8", config=PATIENT)
        for name, head in (
            ("short", POST + b"Content-Length: 100\r\n\r\nx"),
            ("long", POST + b"Content-Length: 1000000\r\n\r\nx"),
            ("chunked", CHUNKED + b"5\r\nab"),
            ("chunked, as if it were over", CHUNKED + b"FFF\r\n\r\n0\r\n\r\n"),
            ("continued", POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"),
            ("of a GET", b"GET /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"),
        ):
            with self.subTest(name):
                stalled = [self.connect(server, head) for _ in range(48)]
                for _ in range(3):
                    self.assert_serves(server)
                for connection in stalled:
                    connection.close()

    def test_with_two_threads_one_is_left(self):
        server = self.serve("--threads", "2", config=PATIENT)
        for _ in range(10):
            self.connect(server, POST + b"Content-Length: 1000000\r\n\r\nx")
        self.assert_serves(server)

    def test_what_does_not_come_in_time_is_refused(self):
        server = self.serve("--threads", "4", config=QUICK)
        for path in PATHS:
            for name, data in (
                ("head", GET[:20]),
                ("short body", POST + b"Content-Length: 100\r\n\r\nx"),
                ("long body", POST + b"Content-Length: 1000000\r\n\r\nx"),
                ("chunks", CHUNKED + b"5\r\nab"),
                ("continued", POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"),
                ("body of a GET", b"GET /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"),
            ):
                with self.subTest(path=path, name=name):
                    connection = self.connect(server, data.replace(b"/body", path))
                    answer = read_all(connection).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
                    self.assertTrue(answer.startswith(b"HTTP/1.1 408 "), answer)
            self.assertNotIn("Traceback", server.output())

    def test_a_trickle_is_refused(self):
        server = self.serve("--threads", "4", config=QUICK)
        for name, head in (("head", GET[:20]), ("short", b"1000"), ("long", b"1000000")):
            with self.subTest(name):
                data = head if name == "head" else POST + b"Content-Length: " + head + b"\r\n\r\n"
                connection = self.connect(server, data)
                connection.settimeout(0.02)
                answer = b""
                for _ in range(1000):
                    with contextlib.suppress(TimeoutError):
                        answer = connection.recv(100)
                        break
                    connection.sendall(b"x")
                self.assertTrue(answer.startswith(b"HTTP/1.1 408 "), answer)

    def test_a_stream_and_a_slow_app_are_not_bounded(self):
        server = self.serve("--threads", "4", config=QUICK)
        stream = self.connect(server, GET.replace(b"/ ", b"/events ", 1))
        received = b""
        while b"id: " not in received:
            received += stream.recv(65536)
        stream.settimeout(1.0)
        with self.assertRaises(TimeoutError):
            stream.recv(1)

    def test_over_tls_half_a_handshake_and_half_a_head_are_cut(self):
        self.directory = temporary_directory(self)
        (self.directory / "shop.py").write_text(APP, encoding="utf-8")
        words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
        make = ["openssl", *words.split()]
        subprocess.run(make, cwd=self.directory, check=True, capture_output=True, timeout=60)
        for config in (QUICK, QUICK + "do_handshake_on_connect = True\n"):
            with self.subTest(config):
                self.serve_tls(config)

    def serve_tls(self, config):
        (self.directory / "conf.py").write_text(config, encoding="utf-8")
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", *WORKER, "--threads", "2", "-c", "conf.py"]
        command += ["-b", f"127.0.0.1:{port}", "--certfile=cert.pem", "--keyfile=key.pem"]
        command += NO_CONTROL_SOCKET
        with open(self.directory / "output", "w+b") as output:
            server = subprocess.Popen([*command, "shop:app"], cwd=self.directory, stderr=output)
            try:
                self.exercise_tls(port)
            finally:
                server.kill()
                server.wait()
            self.assertNotIn("Traceback", (self.directory / "output").read_text(encoding="utf-8"))

    def exercise_tls(self, port):
        context = ssl.create_default_context(cafile=str(self.directory / "cert.pem"))

        def shake_hands():
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
                    context.wrap_socket(plain, server_hostname="localhost").close()
            except OSError:
                return False
            return True

        wait_until(shake_hands, timeout=30, message="the server")
        halves = [enter(self, socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(4)]
        for half in halves:
            half.sendall(b"\x16\x03\x01\x02")
        for half in halves:
            self.assertEqual(read_all(half), b"")
        for data in (GET[:20], POST + b"Content-Length: 5\r\n\r\nx"):
            plain = enter(self, socket.create_connection(("127.0.0.1", port), timeout=30))
            connection = enter(self, context.wrap_socket(plain, server_hostname="localhost"))
            connection.sendall(data)
            with contextlib.suppress(ssl.SSLError):  # gunicorn ends without a close_notify
                answer = b"".join(iter(lambda c=connection: c.recv(65536), b""))
                self.assertIn(answer[:13], (b"", b"HTTP/1.1 408 "))


BRIEF = """
from gunicorn.workers import gthread
gthread.DEFAULT_WORKER_DATA_TIMEOUT = 0.5
"""


class WaitingTest(RequestsTest):
    def test_silent_connections_have_their_time_and_are_closed_then(self):
        server = self.serve("--threads", "4", "--keep-alive", "1", config=BRIEF)
        begun = time.monotonic()
        silent = [self.connect(server) for _ in range(8)]
        self.assert_serves(server)
        for connection in silent:
            self.assertEqual(connection.recv(1), b"")
            self.assertGreaterEqual(time.monotonic() - begun, 1.5)  # the two times above

    def test_connections_that_wait_do_not_hold_the_end_up(self):
        server = self.serve(
            "--threads", "4", "--keep-alive", "600", "--graceful-timeout", "600", config=LONG_REQUESTS
        )
        idle = self.connect(server, GET)
        self.assertEqual(read_body(idle), b"well")
        silent, half, body = (self.connect(server, data) for data in (b"", GET[:20], CHUNKED + b"5\r\nab"))
        self.assert_serves(server)
        server.terminate()
        self.assertEqual(server.wait(30), 0)
        for connection in (idle, silent):
            self.assertEqual(read_all(connection), b"")
        for connection in (half, body):
            self.assertTrue(read_all(connection).startswith(b"HTTP/1.1 408 "))


OWN_LOGGER = """
from gunicorn.glogging import Logger

class OwnLogger(Logger):
    def access(self, resp, req, environ, request_time):
        self.error("OWN %s %s", req.path, resp.sent)

logger_class = OwnLogger
"""


class HookTest(RequestsTest):
    def test_a_logger_with_an_access_method_of_its_own_is_told_of_a_streams_end(self):
        server = self.serve("--threads", "4", config=OWN_LOGGER, LEASE="0.5")
        body = read_all(self.connect(server, b"GET /events HTTP/1.0\r\n\r\n")).partition(b"\r\n\r\n")[2]
        wait_until(lambda: f"OWN /events {len(body)}" in server.output(), message="the line")

    def test_what_post_worker_init_sets_holds(self):
        server = self.serve("--threads", "4", config=HOOKED)
        answer = read_all(self.connect(server, GET))
        self.assertIn(b"\r\nConnection: close\r\n", answer)
        wait_until(lambda: "a request has ended" in server.output(), message="the hook")


class WholeTest(RequestsTest):
    def setUp(self):
        super().setUp()
        self.server = self.serve("--threads", "4")

    def test_a_head_byte_by_byte(self):
        connection = self.connect(self.server, *(GET[at : at + 1] for at in range(len(GET))))
        self.assertEqual(read_body(connection), b"well")

    def test_requests_behind_one_another_are_answered_in_turn(self):
        body = POST + b"Content-Length: 3\r\n\r\nabc"
        connection = self.connect(self.server, GET + body + CHUNKED + b"2\r\nab\r\n0\r\n\r\n" + GET[:9])
        self.assertEqual(read_body(connection, responses=3), [b"well", b"3", b"2"])
        connection.sendall(GET[9:] + body[:-1])
        self.assertEqual(read_body(connection), b"well")
        connection.sendall(body[-1:])
        self.assertEqual(read_body(connection), b"3")

    def test_bodies_of_all_sizes(self):
        for size in (0, 1, 1000, 65_000, 65_536, 70_000, 5_000_000):
            for path in (b"/body", b"/lines"):
                with self.subTest(size=size, path=path):
                    head = POST.replace(b"/body", path) + b"Content-Length: %d\r\n\r\n" % size
                    connection = self.connect(self.server, head, b"x" * (size - size // 2))
                    connection.sendall(b"x" * (size // 2) + GET)
                    self.assertEqual(
                        read_body(connection, responses=2),
                        [b"%d" % (size if path == b"/body" else min(size, 1)), b"well"],
                    )

    def test_chunks_of_all_sizes(self):
        for size in (1, 1000, 65_000, 300_000):
            with self.subTest(size=size):
                chunk = b"%x;some=thing\r\n" % size + b"x" * size + b"\r\n"
                connection = self.connect(self.server, CHUNKED, chunk[:7], chunk[7:], chunk)
                connection.sendall(b"0\r\nX-Trailer: y\r\n\r\n" + GET)
                self.assertEqual(read_body(connection, responses=2), [b"%d" % (2 * size), b"well"])

    def test_a_client_that_waits_for_100_continue(self):
        for framing, body in (
            (b"Content-Length: 5", b"abcde"),
            (b"Transfer-Encoding: chunked", b"5\r\nabcde\r\n0\r\n\r\n"),
        ):
            with self.subTest(framing):
                connection = self.connect(self.server, POST + framing + b"\r\nExpect: 100-continue\r\n\r\n")
                received = b""
                while not received.endswith(b"\r\n\r\n"):
                    received += connection.recv(1)
                self.assertEqual(received, b"HTTP/1.1 100 Continue\r\n\r\n")
                connection.sendall(body + GET)
                self.assertEqual(read_body(connection, responses=2), [b"5", b"well"])

    def test_more_uploads_than_may_be_at_once_are_all_taken(self):
        head = POST + b"Content-Length: 200000\r\n\r\n"
        uploads = [self.connect(self.server, head, b"x" * 100_000) for _ in range(12)]
        self.assert_serves(self.server)
        for upload in uploads:
            upload.sendall(b"x" * 100_000)
        for upload in uploads:
            self.assertEqual(read_body(upload), b"200000")

    def test_an_upload_that_is_there_makes_room_for_the_next_while_the_app_works(self):
        server = self.serve("--threads", "4")  # two of them for uploads
        head = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"
        slow = [self.connect(server, head, b"x" * 200_000) for _ in range(3)]
        wait_until(lambda: request("GET", server.url + "/slow").body == b"3", message="all three at work")
        request("POST", server.url + "/go")
        for connection in slow:
            self.assertEqual(read_body(connection), b"200000")

    def test_a_client_that_leaves_in_the_midst_leaves_nothing(self):
        for data in (GET[:20], POST + b"Content-Length: 5\r\n\r\nx", POST + b"Content-Length: 500000\r\n\r\nx"):
            for _ in range(20):
                self.connect(self.server, data).close()
        self.assert_serves(self.server)
        self.assertNotIn("Traceback", self.server.output())


MALFORMED = (
    b"zz\r\nabc\r\n0\r\n\r\n",
    b"5\r\nabcdefgh\r\n0\r\n\r\n",
    *([b"5;=\r\nabcde\r\n0\r\n\r\n"] if version_info >= (27,) else []),  # gunicorn took any extension before
    b"0\r\nbad trailer\r\n\r\n",
    b"%x\r\n%b\r\nzz\r\n" % (100_000, b"x" * 100_000),
)


class MalformedTest(RequestsTest):
    def assert_refused(self, server, path=b"/body", kind=b"text/plain", malformed=MALFORMED):
        for chunks in malformed:
            with self.subTest(chunks[:20], path=path):
                fields = b"Host: localhost\r\nContent-Type: " + kind
                head = CHUNKED.replace(b"/body", path).replace(b"Host: x", fields)
                answer = read_all(self.connect(server, head, chunks))
                self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
        self.assertNotIn("Traceback", server.output())

    def test_malformed_chunks_are_the_clients_fault(self):
        for path in PATHS:
            self.assert_refused(self.serve("--threads", "4"), path)

    def test_under_gunicorns_own_worker_too(self):
        hooks = "from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit\n"
        for path in PATHS:
            worker = ("-k", "gthread", "-w", "1")
            self.assert_refused(self.serve("--threads", "4", config=hooks, worker=worker), path)

    def test_the_board_refuses_them(self):
        for worker in ("gthread", "sse_threaded.worker.ThreadWorker"):
            args = ["-k", worker, "-w", "1"]
            config = "python:sse_threaded.board.gunicorn_conf"
            server = enter(self, GunicornServer(config=config, args=args, cwd=temporary_directory(self)))
            # The last is too long for the board, which says so.
            self.assert_refused(server, b"/boards/board-1/tasks", b"application/json", MALFORMED[:-1])


class LingeringTest(RequestsTest):
    def test_clients_that_do_not_close_hold_no_thread(self):
        server = self.serve("--threads", "1", config=PATIENT)
        request_bytes = GET.replace(b"Host", b"Connection: close\r\nHost")
        silent = [self.connect(server, request_bytes) for _ in range(60)]
        for connection in silent:
            self.assertTrue(read_all(connection).endswith(b"well"))
            self.assert_serves(server)

    def test_nor_do_those_whose_streams_end(self):
        server = self.serve("--threads", "1", config=PATIENT, LEASE="0.5")
        silent = [self.connect(server, b"GET /events HTTP/1.0\r\n\r\n") for _ in range(60)]
        for connection in silent:
            self.assertIn(b"retry: ", read_all(connection))
        wait_until(lambda: request("GET", server.url + "/streams").body == b"0", message="their ends")

    def test_the_whole_answer_comes_though_the_client_sends_on(self):
        server = self.serve("--threads", "2")
        for _ in range(20):
            connection = self.connect(server, b"GET / HTTP/1.0\r\n\r\n" + b"x" * 10_000)
            self.assertTrue(read_all(connection).endswith(b"well"))


class LogLinesTest(RequestsTest):
    def test_a_path_writes_no_line_of_its_own_into_the_access_log(self):
        hooks = "from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit\n"
        options = ("--threads", "4", "--access-logfile", "-", "--access-logformat", "ACCESS %(U)s %(q)s %(s)s")
        for worker in (WORKER, ("-k", "gthread", "-w", "1")):
            with self.subTest(worker):
                server = self.serve(*options, config=hooks, worker=worker)
                request("GET", server.url + "/a%0d%0aFORGED%C2%85?%0d%0aFORGED")
                wait_until(lambda s=server: "ACCESS /a" in s.output(), message="the line")
                self.assertNotRegex(server.output(), "(?m)^FORGED")

    def test_nor_into_the_boards(self):
        app = create_app(sqlite_url(temporary_directory(self)))
        app.hub.close()
        client = Client(app)
        with self.assertLogs("sse_threaded.board.app", "WARNING") as logs:
            client.patch("/boards/board-1/tasks/x%0d%0aFORGED", json={"title": "title"})
            with mock.patch.object(app, "_on_task", side_effect=RuntimeError):
                client.get("/boards/board-1/tasks/x%0d%0aFORGED")
        self.assertEqual(len(logs.records), 2)
        for record in logs.records:
            self.assertNotIn("\n", record.getMessage())
            self.assertIn("FORGED", record.getMessage())
