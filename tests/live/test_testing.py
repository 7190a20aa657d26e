"""The public test helpers, against small apps of their own: nothing here needs a hub.

The apps at the foot of this file are what gunicorn loads (``tests.live.test_testing:app``).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from werkzeug.wrappers import Request, Response

from sse_threaded.errors import SSEError
from sse_threaded.testing import (
    BadResponse,
    DecodedEvent,
    EventStreamClient,
    Fault,
    GunicornServer,
    LiveServer,
    ResumingClient,
    ServerFailed,
    StreamEnded,
    StreamTimeout,
    request,
)
from sse_threaded.testing.processes import process_table
from sse_threaded.testing.response_reader import ResponseReader
from tests.support import ROOT, enter, missing, temporary_directory, wait_until

# Longer than any of this takes on a slow machine; only a failing test waits so long.
LONG = 30.0

# So short that a test can wait for it to pass; nothing is asserted about how long it really was.
SHORT = 0.05


class Streams:
    """An app that streams what the test puts into it, one queue a connection."""

    def __init__(self) -> None:
        self.opened: queue.Queue[tuple[Request, queue.Queue[bytes | None]]] = queue.Queue()
        self.closed = threading.Semaphore(0)

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        pieces: queue.Queue[bytes | None] = queue.Queue()
        self.opened.put((Request(environ), pieces))
        start_response("200 OK", [("Content-Type", "text/event-stream; charset=utf-8")])
        return self.body(pieces)

    def body(self, pieces: queue.Queue[bytes | None]) -> Iterator[bytes]:
        try:
            yield b""  # Werkzeug sends the head with the first piece
            while (piece := pieces.get()) is not None:
                yield piece
        finally:
            self.closed.release()

    def next(self) -> tuple[Request, queue.Queue[bytes | None]]:
        return self.opened.get(timeout=LONG)


class ScriptedServer:
    """A raw socket that answers each connection with the next script, and then does what it says."""

    def __init__(self, test: unittest.TestCase, *scripts: Callable[[socket.socket], None]) -> None:
        self.heads: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}/events?a=1"
        self._thread = threading.Thread(target=self._serve, args=(scripts,), daemon=True)
        self._thread.start()
        test.addCleanup(self._end)

    def _end(self) -> None:
        with contextlib.suppress(OSError):  # wakes the thread if it still waits for a client
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(LONG)

    def _serve(self, scripts: Iterable[Callable[[socket.socket], None]]) -> None:
        for script in scripts:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(LONG)
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(4096)
                self.heads.append(head)
                with contextlib.suppress(OSError):
                    script(connection)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def sends(*pieces: bytes) -> Callable[[socket.socket], None]:
    def script(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return script


def then_waits(*pieces: bytes) -> Callable[[socket.socket], None]:
    """Sends and holds the connection until the client leaves."""

    def script(connection: socket.socket) -> None:
        sends(*pieces)(connection)
        connection.recv(1)

    return script


class ResponseReaderTest(unittest.TestCase):
    def read(self, data: bytes, step: int) -> tuple[ResponseReader, bytes]:
        reader = ResponseReader()
        body = b"".join(reader.feed(data[place : place + step]) for place in range(0, len(data), step))
        return reader, body

    def test_bodies(self) -> None:
        table = [
            ("length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
            ("no length", b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello", False),
            ("no body", b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
            (
                "chunks",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"5\r\nhe\r\nl\r\n0A;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n",
                b"he\r\nl0123456789",
                True,
            ),
            (
                "an interim response first",
                b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                b"ok",
                True,
            ),
        ]
        for name, data, expected, ended in table:
            for step in (1, 2, 3, len(data)):
                with self.subTest(name, step=step):
                    reader, body = self.read(data, step)
                    self.assertEqual((body, reader.ended, reader.complete), (expected, ended, ended))

    def test_half_a_chunk_is_given_as_it_comes(self) -> None:
        reader, body = self.read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhel", 1000)
        self.assertEqual(body, b"hel")
        reader.feed_end()
        self.assertEqual((reader.ended, reader.complete), (True, False))

    def test_a_close_is_the_end_of_a_body_without_length(self) -> None:
        reader, _ = self.read(b"HTTP/1.1 200 OK\r\n\r\nhello", 1000)
        reader.feed_end()
        self.assertTrue(reader.complete)

    def test_a_close_within_a_length_is_a_cut(self) -> None:
        reader, _ = self.read(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", 1000)
        reader.feed_end()
        self.assertEqual((reader.ended, reader.complete), (True, False))

    def test_what_is_not_http_is_refused(self) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for data in (
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 \xb2\xb2\xb2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"x" * 100_000,
            chunked + b"0x5\r\nhello\r\n",
            chunked + b"\r\n",
            chunked + b"2\r\nhello\r\n",
        ):
            with self.subTest(data[:60]), self.assertRaises(BadResponse):
                self.read(data, 7)


class FaultsTest(unittest.TestCase):
    def test_they_are_failures_to_unittest_and_errors_of_the_package(self) -> None:
        for kind in (StreamTimeout, StreamEnded, ServerFailed, BadResponse):
            with self.subTest(kind):
                self.assertTrue(issubclass(kind, Fault))
                self.assertTrue(issubclass(kind, SSEError))
                self.assertTrue(issubclass(kind, self.failureException))


class EventStreamClientTest(unittest.TestCase):
    def test_sends_what_a_browser_sends(self) -> None:
        server = ScriptedServer(self, then_waits(HEAD))
        headers = {"X-One": "1", "Accept": "*/*"}
        with EventStreamClient(server.url, last_event_id="k3x-ä", headers=headers) as client:
            self.assertEqual(client.status, 200)
        head = server.heads[0].decode()
        host = server.url.split("/")[2]
        self.assertTrue(head.startswith(f"GET /events?a=1 HTTP/1.1\r\nHost: {host}\r\n"), head)
        for line in ("Last-Event-ID: k3x-ä", "X-One: 1", "Accept: */*"):
            self.assertIn(f"\r\n{line}\r\n", head)
        self.assertNotIn("text/event-stream", head)

    def test_gives_events_headers_and_bytes(self) -> None:
        body = b"retry: 250\n\n: hello\nid: 1\ndata: a\n\nevent: add\ndata: b\n\nid: 9\n\n"
        server = ScriptedServer(self, then_waits(HEAD, body))
        with EventStreamClient(server.url, timeout=LONG) as client:
            self.assertEqual(client.headers["content-type"], "text/event-stream")
            self.assertEqual(client.wait_for_retry(), 250)
            self.assertEqual(client.next_event(), DecodedEvent("a", last_event_id="1"))
            self.assertEqual(client.events(1), [DecodedEvent("b", "add", "1")])
            client.wait_for(lambda: client.last_event_id == "9")
            self.assertEqual((client.raw, client.comments, client.pending()), (body, 1, []))
            self.assertFalse(client.ended)

    def test_an_event_is_there_with_its_last_byte(self) -> None:
        go_on = threading.Event()

        def script(connection: socket.socket) -> None:
            connection.sendall(HEAD + b"data: a\n\r")
            go_on.wait(LONG)

        server = ScriptedServer(self, script)
        self.addCleanup(go_on.set)
        with EventStreamClient(server.url) as client:
            self.assertEqual(client.next_event(LONG).data, "a")

    def test_a_silent_stream_is_a_timeout_that_shows_what_came(self) -> None:
        server = ScriptedServer(self, then_waits(HEAD, b": hello\n\n"))
        with EventStreamClient(server.url) as client:
            client.wait_for(lambda: client.comments == 1, LONG)
            with self.assertRaisesRegex(StreamTimeout, "an event did not come .* hello"):
                client.next_event(SHORT)
            with self.assertRaisesRegex(StreamTimeout, "the end of the stream"):
                client.wait_for_end(SHORT)

    def test_a_chattering_stream_without_events_is_a_timeout_too(self) -> None:
        stop = threading.Event()

        def script(connection: socket.socket) -> None:
            connection.sendall(HEAD)
            while not stop.is_set():
                connection.sendall(b": chatter\n")

        server = ScriptedServer(self, script)
        self.addCleanup(stop.set)
        with EventStreamClient(server.url) as client, self.assertRaises(StreamTimeout):
            client.next_event(SHORT)

    def test_a_response_that_never_comes_is_a_timeout(self) -> None:
        server = ScriptedServer(self, then_waits(b"HTTP/1.1 200 OK\r\n"))
        with self.assertRaisesRegex(StreamTimeout, "head"):
            EventStreamClient(server.url, timeout=SHORT).open()

    def test_after_a_timeout_it_can_go_on(self) -> None:
        go_on = threading.Event()

        def script(connection: socket.socket) -> None:
            connection.sendall(HEAD + b"data: ")
            go_on.wait(LONG)
            connection.sendall(b"a\n\n")

        server = ScriptedServer(self, script)
        with EventStreamClient(server.url) as client:
            with self.assertRaises(StreamTimeout):
                client.next_event(SHORT)
            go_on.set()
            self.assertEqual(client.next_event(LONG).data, "a")

    def test_the_end_is_told_after_the_events(self) -> None:
        server = ScriptedServer(self, sends(HEAD, b"data: a\n\ndata: b\n\ndata: c"))
        with EventStreamClient(server.url) as client:
            client.wait_for_end(LONG)
            self.assertEqual([event.data for event in client.events(2, LONG)], ["a", "b"])
            with self.assertRaisesRegex(StreamEnded, "as HTTP requires"):
                client.next_event(LONG)
            self.assertTrue(client.ended)

    def test_a_cut_is_told_from_an_end(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for name, pieces, complete in (
            ("end", [head, b"9\r\ndata: a\n\n\r\n0\r\n\r\n"], True),
            ("cut between chunks", [head, b"9\r\ndata: a\n\n\r\n"], False),
            ("cut within one", [head, b"99\r\ndata: a\n\n"], False),
        ):
            server = ScriptedServer(self, sends(*pieces))
            with self.subTest(name), EventStreamClient(server.url) as client:
                self.assertEqual(client.next_event(LONG).data, "a")
                client.wait_for_end(LONG)
                self.assertEqual(client.complete, complete)

    def test_a_refused_connection_is_an_os_error(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            client = EventStreamClient(f"http://127.0.0.1:{taken.getsockname()[1]}/")
            with self.assertRaises(ConnectionRefusedError):
                client.open()

    def test_a_host_with_several_addresses_is_tried_at_each(self) -> None:
        # As localhost is in most hosts files: ::1 first, where a server on 127.0.0.1 does not listen.
        server = ScriptedServer(self, sends(HEAD + b"data: a\n\n"))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            addresses = (taken.getsockname(), server.address)
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
            with mock.patch("socket.getaddrinfo", return_value=found), EventStreamClient(server.url) as client:
                self.assertEqual(client.next_event(LONG).data, "a")

    def test_another_answer_is_the_caller_s_to_judge(self) -> None:
        answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno"
        server = ScriptedServer(self, sends(answer))
        with EventStreamClient(server.url) as client:
            client.wait_for_end(LONG)
            self.assertEqual((client.status, client.raw, client.complete), (503, b"no", True))

    def test_close_and_abort_send_different_ends(self) -> None:
        for name, expected in (("close", "end"), ("abort", "reset")):
            seen: queue.Queue[str] = queue.Queue()

            def script(connection: socket.socket, seen: queue.Queue[str] = seen) -> None:
                connection.sendall(HEAD + b"data: a\n\n")
                try:
                    seen.put("bytes" if connection.recv(1) else "end")
                except ConnectionResetError:
                    seen.put("reset")

            server = ScriptedServer(self, script)
            with self.subTest(name), EventStreamClient(server.url) as client:
                client.next_event(LONG)
                getattr(client, name)()
                self.assertEqual(seen.get(timeout=LONG), expected)
                getattr(client, name)()  # a second time does nothing
                with self.assertRaises(StreamEnded):
                    client.next_event(LONG)

    def test_another_thread_may_interrupt_a_wait(self) -> None:
        server = ScriptedServer(self, then_waits(HEAD))
        with EventStreamClient(server.url) as client:
            timer = threading.Timer(SHORT, client.interrupt)
            timer.start()
            self.addCleanup(timer.join)
            with self.assertRaises(StreamEnded):
                client.next_event(LONG)

    def test_a_slow_consumer_stops_the_server(self) -> None:
        stalled = threading.Event()

        def script(connection: socket.socket) -> None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            connection.sendall(HEAD)
            connection.settimeout(0.2)
            try:
                connection.sendall(b"x" * 4_000_000)
            except TimeoutError:
                stalled.set()

        server = ScriptedServer(self, script)
        with EventStreamClient(server.url, receive_buffer=4096):
            self.assertTrue(stalled.wait(LONG))

    def test_only_http_urls(self) -> None:
        for url in ("https://127.0.0.1/", "127.0.0.1:80", "http:///x", ""):
            with self.subTest(url), self.assertRaises(ValueError):
                EventStreamClient(url)


class ResumingClientTest(unittest.TestCase):
    def test_comes_back_with_its_last_event_id(self) -> None:
        server = ScriptedServer(
            self,
            sends(HEAD, b"retry: 1\n\nid: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: lost"),
            sends(HEAD),
            then_waits(HEAD, b"id: 3\ndata: c\n\n"),
        )
        with ResumingClient(server.url, timeout=LONG) as client:
            self.assertEqual([event.data for event in client.wait_for_events(3)], ["a", "b", "c"])
            self.assertEqual((client.ids, client.last_event_id), (["1", "2", "3"], "3"))
            self.assertEqual((client.connections, client.retry, client.resets), (3, 1, []))
        lines = [head.decode().split("\r\n") for head in server.heads]
        self.assertFalse([line for line in lines[0] if line.startswith("Last-Event-ID")])
        self.assertIn("Last-Event-ID: 2", lines[1])
        self.assertIn("Last-Event-ID: 2", lines[2])

    def test_resumes_after_what_it_is_given(self) -> None:
        server = ScriptedServer(self, then_waits(HEAD))
        with ResumingClient(server.url, last_event_id="7", headers={"X-One": "1"}) as client:
            client.wait_for_connections(1, LONG)
        self.assertIn(b"\r\nLast-Event-ID: 7\r\n", server.heads[0])
        self.assertIn(b"\r\nX-One: 1\r\n", server.heads[0])

    def test_a_retry_that_comes_last_counts(self) -> None:
        server = ScriptedServer(
            self, sends(HEAD, b"retry: 3600000\n\nid: 1\ndata: a\n\nretry: 2\n\n"), then_waits(HEAD)
        )
        with ResumingClient(server.url) as client:
            client.wait_for_connections(2, LONG)
            self.assertEqual(client.retry, 2)

    def test_times_can_be_scaled(self) -> None:
        server = ScriptedServer(self, sends(HEAD, b"retry: 3600000\n\n"), then_waits(HEAD))
        with ResumingClient(server.url, retry_factor=0) as client:
            client.wait_for_connections(2, LONG)

    def test_resets_are_kept_apart(self) -> None:
        body = b"id: 1\ndata: a\n\nid: 5\nevent: reset\ndata: gone\n\nid: 6\ndata: b\n\n"
        server = ScriptedServer(self, then_waits(HEAD, body))
        with ResumingClient(server.url) as client:
            client.wait_for_events(3, LONG)
            self.assertEqual(client.ids, ["1", "6"])
            self.assertEqual([event.data for event in client.resets], ["gone"])

    def test_survives_refused_connections(self) -> None:
        with socket.socket() as reserved:
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind(("127.0.0.1", 0))
            port = reserved.getsockname()[1]
            with ResumingClient(f"http://127.0.0.1:{port}/", retry_factor=0.001) as client:
                with self.assertRaisesRegex(StreamTimeout, "0 events on 0 connections"):
                    client.wait_for_events(1, SHORT)
                with socket.create_server(("127.0.0.1", port)) as listener:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(HEAD + b"data: a\n\n")
                        client.wait_for_events(1, LONG)

    def test_gives_up_where_a_browser_does(self) -> None:
        for answer in (
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/event-stream\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n",
        ):
            server = ScriptedServer(self, sends(answer))
            with self.subTest(answer), ResumingClient(server.url) as client:
                with self.assertRaisesRegex(StreamEnded, "for good"):
                    client.wait_for_events(1, LONG)
                self.assertIsNotNone(client.failure)

    def test_stopping_does_not_wait_for_the_stream(self) -> None:
        server = ScriptedServer(self, then_waits(HEAD))
        with ResumingClient(server.url) as client:
            client.wait_for_connections(1, LONG)
        client.stop()


class LiveServerTest(unittest.TestCase):
    def test_serves_an_app_on_a_free_port(self) -> None:
        with LiveServer(app) as server:
            self.assertEqual(server.url, f"http://{server.host}:{server.port}")
            status, headers, body = request("GET", server.url + "/hello")
            self.assertEqual((status, body), (200, b"/hello"))
            self.assertEqual(headers["content-type"], "text/plain; charset=utf-8")
        with self.assertRaises(OSError):
            request("GET", server.url + "/hello")

    def test_requests(self) -> None:
        with LiveServer(app) as server:
            echoed = request("POST", server.url + "/echo?q=1", json={"a": "ä"}, headers={"X-One": "1"}).json()
            self.assertEqual(json.loads(echoed["body"]), {"a": "ä"})
            self.assertEqual((echoed["method"], echoed["query"]), ("POST", "q=1"))
            self.assertEqual((echoed["type"], echoed["one"]), ("application/json", "1"))
            raw = request("PUT", server.url + "/echo", body=b"{", headers={"Content-Type": "text/x"}).json()
            self.assertEqual((raw["method"], raw["type"], raw["body"]), ("PUT", "text/x", "{"))

    def test_streams_as_it_goes(self) -> None:
        streams = Streams()
        with LiveServer(streams) as server, EventStreamClient(server.url + "/", last_event_id="4") as client:
            asked, pieces = streams.next()
            self.assertEqual(asked.headers["Last-Event-ID"], "4")
            for data in ("a", "b"):
                pieces.put(f"data: {data}\n\n".encode())
                self.assertEqual(client.next_event(LONG).data, data)
            self.assertEqual(server.connections, 1)
            pieces.put(None)
            client.wait_for_end(LONG)
            self.assertTrue(client.complete)
            wait_until(lambda: not server.connections, timeout=LONG)

    def test_ends_with_streams_open(self) -> None:
        streams = Streams()
        with contextlib.ExitStack() as clients:
            with LiveServer(streams) as server:
                opened = [clients.enter_context(EventStreamClient(server.url)) for _ in range(20)]
                pieces = [streams.next()[1] for _ in opened]
            for client in opened:
                client.wait_for_end(LONG)
                self.assertFalse(client.complete)
            for one in pieces:
                one.put(b": the write that finds the connection cut\n")
            for _ in opened:
                self.assertTrue(streams.closed.acquire(timeout=LONG))

    def test_can_be_entered_again(self) -> None:
        server = LiveServer(app)
        for _ in range(2):
            with server:
                self.assertEqual(request("GET", server.url + "/hello").status, 200)


class GunicornServerTest(unittest.TestCase):
    def server(self, target: str = "app", *args: str, **options: Any) -> GunicornServer:
        arguments = ["-k", "gthread", "--threads", "4", *args]
        return GunicornServer(f"tests.live.test_testing:{target}", args=arguments, cwd=ROOT, **options)

    def assert_nothing_left(self, *pids: int) -> None:
        groups = {process.pid: process for process in process_table()}
        self.assertEqual([groups[pid] for pid in pids if pid in groups], [])

    def test_serves_and_leaves_nothing_behind(self) -> None:
        with self.server("app", "--workers", "2", env={"GREETING": "good day"}) as server:
            wait_until(lambda: len(server.worker_pids()) == 2, timeout=LONG)
            pids = [server.pid, *server.worker_pids()]
            status, _, body = request("GET", server.url + "/greeting")
            self.assertEqual((status, body), (200, b"good day"))
            answered = {int(request("GET", server.url + "/pid").body) for _ in range(3)}
            self.assertLessEqual(answered, set(pids[1:]))
        self.assert_nothing_left(*pids)
        self.assertIn("Booting worker", server.output())
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), LONG)

    def test_a_factory_a_config_and_no_control_socket(self) -> None:
        directory = temporary_directory(self)
        config = directory / "gunicorn.conf.py"
        config.write_text(
            "wsgi_app = 'tests.live.test_testing:make_app()'\nbind = '127.0.0.1:1'\n", encoding="utf-8"
        )
        env = {"HOME": str(directory), "XDG_RUNTIME_DIR": str(directory)}
        with GunicornServer(config=config, cwd=ROOT, env=env) as server:
            self.assertEqual(request("GET", server.url + "/hello").body, b"/hello")
            made = {path.name for path in directory.rglob("*") if "__pycache__" not in path.parts}
            self.assertEqual(made, {"gunicorn.conf.py"})

    def test_kill_and_restart_on_the_same_port(self) -> None:
        with self.server("stream_app", "--workers", "2") as server:
            url = server.url
            for _ in range(2):
                wait_until(lambda: len(server.worker_pids()) == 2, timeout=LONG)
                pids = [server.pid, *server.worker_pids()]
                with EventStreamClient(url + "/") as client:
                    client.next_event(LONG)
                    server.kill()
                    client.wait_for_end(LONG)
                    self.assertFalse(client.complete)
                self.assert_nothing_left(*pids)
                with self.assertRaises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", server.port), LONG)
                server.restart()
                self.assertEqual(server.url, url)
                self.assertNotIn(server.pid, pids)
                with EventStreamClient(url + "/") as client:
                    client.next_event(LONG)

    def test_restart_hup_and_the_end_of_a_worker(self) -> None:
        with self.server() as server:
            for part in (
                self.restart_of_a_running_server,
                self.hup_starts_new_workers,
                self.a_killed_worker_is_replaced,
            ):
                with self.subTest(part.__name__):
                    part(server)

    def restart_of_a_running_server(self, server: GunicornServer) -> None:
        before = server.pid
        server.restart()
        self.assertNotEqual(server.pid, before)
        self.assertEqual(request("GET", server.url + "/hello").status, 200)

    def hup_starts_new_workers(self, server: GunicornServer) -> None:
        (before,) = server.worker_pids()
        server.hup()
        wait_until(lambda: server.worker_pids() not in ([], [before]), timeout=LONG)
        wait_until(lambda: before not in server.worker_pids(), timeout=LONG)
        self.assertEqual(request("GET", server.url + "/hello").status, 200)

    def a_killed_worker_is_replaced(self, server: GunicornServer) -> None:
        (before,) = server.worker_pids()
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: server.worker_pids() not in ([], [before]), timeout=LONG)
        server.wait_until_ready()
        self.assertEqual(request("GET", server.url + "/hello").status, 200)

    def test_terminate_and_wait(self) -> None:
        with self.server() as server:
            with self.assertRaisesRegex(ServerFailed, "has not ended in time(.|\n)*Booting worker"):
                server.wait(SHORT)
            server.terminate()
            self.assertEqual(server.wait(LONG), 0)
            self.assertEqual(server.wait(LONG), 0)
            server.terminate()  # there is nobody to ask any more

    def test_workers_of_a_killed_master_are_killed_too(self) -> None:
        with self.server("app", "--workers", "2") as server:
            wait_until(lambda: len(server.worker_pids()) == 2, timeout=LONG)
            workers = server.worker_pids()
            os.kill(server.pid, signal.SIGKILL)
            self.assertEqual(server.wait(LONG), -signal.SIGKILL)
            self.assert_nothing_left(*workers)
            server.restart()
            self.assertEqual(request("GET", server.url + "/hello").status, 200)

    def test_an_app_that_cannot_be_loaded_is_told_at_once(self) -> None:
        server = self.server("nonesuch", timeout=3600.0)
        with self.assertRaisesRegex(ServerFailed, "gunicorn ended with status(.|\n)*nonesuch"):
            server.__enter__()
        self.assertIn("nonesuch", server.output())

    def test_a_server_that_does_not_answer_is_told_at_the_deadline(self) -> None:
        with self.assertRaisesRegex(ServerFailed, "does not answer in time"):
            self.server("sleeping_app()", timeout=SHORT).__enter__()

    def test_streams_that_do_not_end_hold_nobody_up(self) -> None:
        with contextlib.ExitStack() as clients:
            with self.server("stream_app") as server:
                client = clients.enter_context(EventStreamClient(server.url + "/"))
                client.next_event(LONG)
                pids = [server.pid, *server.worker_pids()]
            self.assert_nothing_left(*pids)
            client.wait_for_end(LONG)

    def test_output_is_shown_on_failure(self) -> None:
        shown = io.StringIO()
        with contextlib.redirect_stderr(shown), self.assertRaises(ZeroDivisionError), self.server() as server:
            request("GET", server.url + "/print?words")
            raise ZeroDivisionError
        self.assertIn("printed by the app: words", shown.getvalue())

    def test_nothing_is_left_when_the_tests_themselves_are_killed(self) -> None:
        script = (
            "import sys, tests.live.test_testing as t\n"
            "with t.GunicornServer('tests.live.test_testing:app', args=['--workers', '2']) as server:\n"
            "    t.wait_until(lambda: len(server.worker_pids()) == 2, timeout=30)\n"
            "    print(server.pid, *server.worker_pids(), flush=True)\n"
            "    sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as tests:
            self.addCleanup(tests.kill)
            assert tests.stdout is not None
            pids = [int(word) for word in tests.stdout.readline().split()]
            self.assertEqual(len(pids), 3)
            tests.kill()
        wait_until(lambda: not {process.pid for process in process_table()} & set(pids), timeout=LONG)

    def test_outside_the_with_it_is_not_running(self) -> None:
        with self.assertRaisesRegex(ServerFailed, "context manager"):
            self.server().worker_pids()


class SupportTest(unittest.TestCase):
    def test_waiting_has_an_end(self) -> None:
        with self.assertRaisesRegex(AssertionError, "the moon"):
            wait_until(lambda: False, timeout=SHORT, message="the moon")

    def test_a_server_of_a_whole_test_is_told_of_its_failure(self) -> None:
        told: list[object] = []

        class Manager(contextlib.AbstractContextManager[str]):
            def __enter__(self) -> str:
                return "entered"

            def __exit__(self, kind: object, *rest: object) -> None:
                told.append(kind)

        class Inner(unittest.TestCase):
            def test_good(self) -> None:
                self.assertEqual(enter(self, Manager()), "entered")

            def test_bad(self) -> None:
                self.fail(enter(self, Manager()))

        for name in ("test_good", "test_bad"):
            Inner(name).run(unittest.TestResult())
        self.assertEqual(told, [None, AssertionError])

    def test_what_is_missing_is_a_skip_or_a_failure(self) -> None:
        for variables, expected in (
            ({}, unittest.SkipTest),
            ({"CI": "", "SSE_TESTS_NO_SKIP": "0"}, unittest.SkipTest),
            ({"CI": "true"}, AssertionError),
            ({"SSE_TESTS_NO_SKIP": "1"}, AssertionError),
        ):
            with (
                self.subTest(variables),
                mock.patch.dict(os.environ, variables, clear=True),
                self.assertRaisesRegex(expected, "a browser"),
            ):
                missing("a browser")

    def test_the_package_under_test_is_the_installed_one_under_tests_run(self) -> None:
        if "SSE_TESTS_CHECKOUT" in os.environ:
            self.assertFalse((ROOT / "sse_threaded").exists())
            self.assertFalse((Path.cwd() / "sse_threaded").exists())


@Request.application
def app(asked: Request) -> Response:
    """Answers with what was asked."""
    if asked.path == "/echo":
        echo = {
            "method": asked.method,
            "query": asked.query_string.decode(),
            "type": asked.headers.get("Content-Type"),
            "one": asked.headers.get("X-One"),
            "body": asked.get_data(as_text=True),
        }
        return Response(json.dumps(echo))
    if asked.path == "/print":
        sys.stdout.write(f"printed by the app: {asked.query_string.decode()}\n")
    answers = {"/pid": str(os.getpid()), "/greeting": os.environ.get("GREETING", "")}
    return Response(answers.get(asked.path, asked.path))


def make_app() -> Any:
    """A factory, for ``module:factory()``."""
    return app


def sleeping_app() -> Any:
    """A factory that takes longer than its server is given."""
    time.sleep(LONG)
    return app


@Request.application
def stream_app(asked: Request) -> Response:
    """One event, and then a stream that never ends by itself."""

    def body() -> Iterator[bytes]:
        yield b"data: a\n\n"
        threading.Event().wait()

    return Response(body(), content_type="text/event-stream")


if __name__ == "__main__":
    unittest.main()
