"""gunicorn's own HTTP/2, which answers the requests of a connection one after another, and a stream.

Our worker speaks HTTP/1.1 only, and says so.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import unittest

from gunicorn.config import Config
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded

from sse_threaded.testing import GunicornServer
from sse_threaded.testing.gunicorn_server import NO_CONTROL_SOCKET
from tests.support import enter, free_port, temporary_directory, wait_until

APP = """
from sse_threaded import Hub
hub = Hub("sqlite:///log.db")

def app(environ, start_response):
    if environ["PATH_INFO"] == "/events":
        return hub.stream(environ, "a")(environ, start_response)
    start_response("200 OK", [("Content-Length", "4")])
    return [b"well"]
"""

# gunicorn's settings. Those of HTTP/2 came with 25, without TLS with 26.
KNOWN = Config().settings

CONFIG = """
from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit
http_protocols = "h1,h2"
http2_cleartext = "both"
"""


class Http2Test(unittest.TestCase):
    def setUp(self):
        self.directory = temporary_directory(self)
        (self.directory / "shop.py").write_text(APP, encoding="utf-8")
        (self.directory / "conf.py").write_text(CONFIG, encoding="utf-8")

    def serve(self, worker):
        args = ["-k", worker, "-w", "1", "--threads", "8"]
        config = self.directory / "conf.py"
        return enter(self, GunicornServer("shop:app", config=config, args=args, cwd=self.directory))

    def ask(self, server, *requests):
        """The bodies of the answers, in the order of the requests, all on one connection."""
        connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        bodies, ended = {}, set()
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
            connection.initiate_connection()
            for number, (path, accept) in enumerate(requests):
                fields = {":method": "GET", ":scheme": "http", ":authority": "x", ":path": path, "accept": accept}
                connection.send_headers(number * 2 + 1, list(fields.items()), end_stream=True)
                bodies[number * 2 + 1] = b""
            sock.sendall(connection.data_to_send())
            while len(ended) < len(requests):
                data = sock.recv(65536)
                self.assertTrue(data, (bodies, ended))
                for event in connection.receive_data(data):
                    if isinstance(event, ResponseReceived):
                        self.assertIn((":status", "200"), event.headers)
                    elif isinstance(event, DataReceived):
                        bodies[event.stream_id] += event.data
                    elif isinstance(event, StreamEnded):
                        ended.add(event.stream_id)
                sock.sendall(connection.data_to_send())
        return list(bodies.values())

    def test_with_gthread(self):
        """The parts share a server. The first expects that no stream was refused before."""
        server = self.serve("gthread")
        parts = [self.over_http_1_1_streams_are_as_ever]
        if "http2_cleartext" in KNOWN:
            parts += [
                self.a_stream_is_told_to_come_back_and_others_are_answered,
                self.a_long_poll_is_answered_at_once,
            ]
        for part in parts:
            with self.subTest(part.__name__):
                part(server)

    def test_our_worker_says_that_it_speaks_http_1_1_only(self):
        server = self.serve("sse_threaded.worker.ThreadWorker")
        self.over_http_1_1_streams_are_as_ever(server)
        if "http_protocols" in KNOWN:
            self.assertIn("HTTP/1.1 only", server.output())
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
            sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            self.assertTrue(sock.recv(4096).startswith(b"HTTP/1.1 400 "))

    def test_with_our_worker_a_tls_client_gets_http_1_1(self):
        words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
        make = ["openssl", *words.split()]
        subprocess.run(make, cwd=self.directory, check=True, capture_output=True, timeout=60)
        with (self.directory / "conf.py").open("a") as config:
            config.write("certfile = 'cert.pem'\nkeyfile = 'key.pem'\n")
        context = ssl.create_default_context(cafile=str(self.directory / "cert.pem"))
        context.set_alpn_protocols(["h2", "http/1.1"])
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "-k", "sse_threaded.worker.ThreadWorker", "-c", "conf.py"]
        command += ["--threads", "8", "-b", f"127.0.0.1:{port}", *NO_CONTROL_SOCKET, "shop:app"]
        with open(self.directory / "output", "w+b") as output:
            server = subprocess.Popen(command, cwd=self.directory, stderr=output)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        answers = []

        def is_answered():
            try:
                plain = socket.create_connection(("127.0.0.1", port), timeout=30)
            except OSError:
                return False
            with plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
                answers.append(sock.selected_alpn_protocol())
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answers.append(sock.recv(4096))
            return True

        wait_until(is_answered, timeout=30, message="the server")
        self.assertIn(answers[0], ("http/1.1", None))
        self.assertTrue(answers[1].startswith(b"HTTP/1.1 200 "), answers)

    def over_http_1_1_streams_are_as_ever(self, server):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
            sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            while b"id: " not in received:
                piece = sock.recv(4096)
                self.assertTrue(piece, received)
                received += piece
        self.assertNotIn("http_protocols", server.output())

    def a_stream_is_told_to_come_back_and_others_are_answered(self, server):
        stream = ("/events", "text/event-stream")
        first, plain, second = self.ask(server, stream, ("/", "*/*"), stream)
        self.assertEqual(plain, b"well")
        for body in (first, second):
            self.assertIn(b"retry: ", body)
            self.assertIn(b"come back", body)
        self.assertEqual(server.output().count("set http_protocols to h1"), 1)

    def a_long_poll_is_answered_at_once(self, server):
        poll, plain = self.ask(server, ("/events?wait=60", "application/json"), ("/", "*/*"))
        self.assertIn(b'"events":[]', poll)
        self.assertEqual(plain, b"well")
