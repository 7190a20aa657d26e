"""The worker without gunicorn's master: its settings, its beginning, its requests and its ends."""

from __future__ import annotations

import os
import signal
import socket
import threading
import unittest
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from sse_threaded import Hub
from sse_threaded.fanout.lifecycle import process_budget
from sse_threaded.server import thread_worker
from sse_threaded.worker import ThreadWorker
from tests.support import FAREWELL, wait_until

ENDS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1}
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Log(mock.Mock):
    """gunicorn's, as far as a worker looks at its class."""

    access = Logger.access


class WorkerCase(unittest.TestCase):
    def setUp(self) -> None:
        patch = mock.patch.object(ThreadWorker, "_shared_load", None)
        patch.start()
        self.addCleanup(patch.stop)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)

    def make_worker(self, age: int = 1, **settings: Any) -> Any:
        """A worker as it is before its loop begins."""
        cfg = Config()
        for name, value in settings.items():
            cfg.set(name, value)
        log = Log(access_log_enabled=False)
        log.error_log.isEnabledFor.return_value = False
        with mock.patch("sse_threaded.server.startup_signals.expect_worker") as expect:
            worker: Any = ThreadWorker(age, os.getppid(), [self.listener], mock.Mock(), 30, cfg, log)
        expect.assert_called_once_with()
        worker.tmp.close()
        worker.tmp = mock.Mock()
        worker.wsgi = self.app
        with (
            mock.patch.object(Worker, "load_wsgi"),
            mock.patch("sse_threaded.server.hooks.post_worker_init"),
            mock.patch.object(thread_worker.gc, "freeze"),
        ):
            worker.load_wsgi()
        return worker

    def app(self, environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "5")])
        return [b"hello"]


class RunningCase(WorkerCase):
    """A worker whose main thread is one of the test's."""

    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch.object(thread_worker, "_KEPT_AT_END", 0.05)
        patch.start()
        self.addCleanup(patch.stop)

    def begin(self, app: Any = None, **settings: Any) -> Any:
        self.worker = worker = self.make_worker(**settings)
        if app is not None:
            worker.wsgi = app
        self.outcome: list[BaseException | None] = []

        def run() -> None:
            try:
                worker.run()
            except BaseException as error:
                self.outcome.append(error)
            else:
                self.outcome.append(None)

        self.main = threading.Thread(target=run, daemon=True)
        self.main.start()
        self.addCleanup(self.end)
        return worker

    def end(self) -> None:
        """Tell the worker to end, and wait for that."""
        if hasattr(self.worker, "cfg"):
            self.worker.handle_exit(signal.SIGTERM, None)
        self.main.join(20)
        self.assertFalse(self.main.is_alive())

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.listener.getsockname(), timeout=10)
        self.addCleanup(client.close)
        return client

    def received(self, client: socket.socket, words: bytes) -> bytes:
        data = b""
        while words not in data:
            piece = client.recv(65536)
            if not piece:
                self.fail(f"the connection has ended after {data!r}")
            data += piece
        return data

    def ask(self, client: socket.socket, request: bytes = GET) -> bytes:
        client.sendall(request)
        return self.received(client, b"hello")


class RequestsTest(RunningCase):
    def test_it_answers_and_the_connection_serves_on(self) -> None:
        self.begin()
        client = self.connect()
        for _ in range(3):
            self.assertIn(b"\r\nConnection: keep-alive\r\n", self.ask(client))

    def test_a_request_that_waits_holds_no_other_up(self) -> None:
        leave = threading.Event()
        self.addCleanup(leave.set)

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            if environ["PATH_INFO"] == "/slow":
                leave.wait(60)
            return self.app(environ, start_response)

        self.begin(app, threads=2)
        slow = self.connect()
        slow.sendall(GET.replace(b" / ", b" /slow "))
        for _ in range(3):
            self.ask(self.connect())
        leave.set()
        self.received(slow, b"hello")

    def test_the_next_upload_need_not_wait_for_an_app_that_has_read_its_own(self) -> None:
        leave = threading.Event()
        self.addCleanup(leave.set)
        has_read = threading.Semaphore(0)

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            environ["wsgi.input"].read()
            has_read.release()
            leave.wait(60)
            return self.app(environ, start_response)

        self.begin(app, threads=2)  # so one upload at a time
        with mock.patch.object(thread_worker, "_LOOK_SECONDS", 60.0):  # no help from the main thread
            for _ in range(2):
                head = b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
                client = self.connect()
                client.sendall(head)
                self.received(client, b"100 Continue")
                client.sendall(b"abcde")
                self.assertTrue(has_read.acquire(timeout=20))
        leave.set()

    def test_max_requests_ends_the_worker_and_its_connections(self) -> None:
        worker = self.begin(max_requests=2)
        first, second = self.connect(), self.connect()
        self.assertIn(b"\r\nConnection: keep-alive\r\n", self.ask(first))
        self.assertIn(b"\r\nConnection: close\r\n", self.ask(second))
        second.close()
        self.main.join(20)
        self.assertEqual((self.outcome, worker.nr, worker.alive), ([None], 2, False))
        worker.log.info.assert_any_call("Autorestarting worker after current request.")

    def test_an_exit_in_a_view_ends_the_worker(self) -> None:
        def app(environ: dict[str, Any], start_response: Any) -> Any:
            raise SystemExit(3)

        worker = self.begin(app)
        client = self.connect()
        client.sendall(GET)
        self.main.join(20)
        (error,) = self.outcome
        self.assertIsInstance(error, SystemExit)
        self.assertFalse(worker.alive)
        self.assertEqual(client.recv(100), b"")

    def test_its_parents_death_ends_it(self) -> None:
        worker = self.begin()
        self.ask(self.connect())
        worker.ppid = 0
        self.main.join(20)
        self.assertEqual(self.outcome, [None])
        worker.log.info.assert_any_call("Parent changed, shutting down: %s", worker)

    def test_the_arbiter_and_the_other_workers_hear_from_it(self) -> None:
        worker = self.begin(age=7)
        self.ask(self.connect())
        other = self.make_worker(8)
        wait_until(lambda: worker.tmp.notify.call_count > 2, message="the worker's signs of life")

        def lead() -> int | None:
            other._load.look(8)
            found: int | None = other._load.lead(5)
            return found

        wait_until(lambda: lead() == 4, message="the worker's load")
        self.end()
        self.assertIsNone(lead(), "it takes no more")


class StreamsTest(RunningCase):
    def setUp(self) -> None:
        super().setUp()
        self.hub = Hub(heartbeat=600, max_streams=10)
        self.addCleanup(self.hub.close)

    def stream(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/":
            return self.app(environ, start_response)
        response = self.hub.stream(environ, "a")(environ, start_response)
        return response if environ["PATH_INFO"] == "/bare" else (chunk.upper() for chunk in response)

    def open(self, path: str) -> socket.socket:
        client = self.connect()
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.received(client, b"{}\n\n\r\n")
        return client

    def test_streams_hold_no_thread_and_do_not_count(self) -> None:
        worker = self.begin(self.stream, threads=1)
        clients = [self.open(path) for path in ("/bare", "/wrapped", "/bare")]
        self.ask(self.connect())
        self.hub.publish("a", "news")
        for client in clients:
            self.assertIn(b"NEWS", self.received(client, b"\n\n\r\n").upper())
        self.assertEqual(worker.nr, 1)
        for client in clients:
            client.close()
        wait_until(lambda: self.hub.streams == 0, message="the hang-ups to be noticed")

    def test_at_the_end_clients_have_their_farewell(self) -> None:
        self.begin(self.stream)
        client = self.open("/bare")
        self.hub.request_close()  # as the signal's handler does
        self.assertRegex(self.received(client, b"\r\n0\r\n\r\n"), FAREWELL)
        client.close()
        self.end()
        self.assertEqual(self.outcome, [None])

    def test_an_end_at_once_waits_for_the_farewell_of_streams(self) -> None:
        hook = mock.Mock()
        worker = self.begin(self.stream, post_request=lambda worker, req, environ, resp: hook())
        client = self.open("/bare")

        def end() -> None:
            worker.conclude_streams()
            raise SystemExit(0)

        worker.call_soon(end)
        self.assertRegex(self.received(client, b"\r\n0\r\n\r\n"), FAREWELL)
        self.main.join(20)
        self.assertIsInstance(self.outcome[0], SystemExit)
        hook.assert_called_once_with()


class EndTest(RunningCase):
    def test_at_work_requests_have_their_answer_and_the_others_are_closed(self) -> None:
        leave, begun = threading.Event(), threading.Event()
        self.addCleanup(leave.set)

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            begun.set()
            leave.wait(60)
            return self.app(environ, start_response)

        worker = self.begin(app)
        silent, at_work = self.connect(), self.connect()
        at_work.sendall(GET)
        self.assertTrue(begun.wait(10))
        worker.handle_exit(signal.SIGTERM, None)
        self.assertEqual(silent.recv(10), b"")
        leave.set()
        self.assertIn(b"\r\nConnection: close\r\n", self.received(at_work, b"hello"))
        at_work.close()
        self.main.join(20)
        self.assertEqual((self.outcome, self.listener.fileno()), ([None], -1))

    def test_it_waits_no_longer_than_the_setting_says(self) -> None:
        leave, begun = threading.Event(), threading.Event()
        self.addCleanup(leave.set)

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            begun.set()
            leave.wait(60)
            return self.app(environ, start_response)

        self.begin(app, graceful_timeout=0)
        silent, at_work = self.connect(), self.connect()
        at_work.sendall(GET)
        self.assertTrue(begun.wait(10))
        self.end()
        self.assertEqual((self.outcome, silent.recv(10)), ([None], b""))

    def test_a_signal_before_it_runs_ends_it(self) -> None:
        worker = self.make_worker()
        worker.handle_exit(signal.SIGTERM, None)
        worker.run()
        self.assertEqual(self.listener.fileno(), -1)

    def test_it_waits_for_its_streams_a_second_and_a_half_at_most(self) -> None:
        now = 1000.0

        def watch(seconds: float) -> None:
            nonlocal now
            now += seconds

        for graceful, streams, expected in ((30, 1, 1.5), (1, 1, 1.0), (30, 0, 0.0)):
            with self.subTest(graceful=graceful, streams=streams):
                worker = self.make_worker(graceful_timeout=graceful)
                for _ in range(streams):
                    worker.begin_stream(mock.Mock())
                begun = now
                with (
                    mock.patch.object(thread_worker, "Crew") as crew,
                    mock.patch.object(thread_worker, "Loop", return_value=mock.Mock(events=None)) as loop,
                    mock.patch.object(thread_worker, "Answering"),
                    mock.patch.object(thread_worker, "time", mock.Mock(monotonic=lambda: now)),
                    mock.patch.object(thread_worker, "request_close_all") as close,
                    mock.patch.object(worker, "notify", side_effect=SystemExit),
                    self.assertRaises(SystemExit),
                ):
                    crew.return_value.watch = watch
                    worker.run()
                self.assertAlmostEqual(now - begun, expected, delta=0.03)
                worker.conclude_streams()  # the second time it does nothing
                close.assert_called_once_with()
                loop.return_value.stop_accepting.assert_called_once()
                self.assertFalse(worker.alive)

    def test_whatever_ends_the_loop_its_streams_are_concluded(self) -> None:
        for failure in (None, ZeroDivisionError):
            worker = self.make_worker()
            with (
                mock.patch.object(thread_worker, "Crew") as crew,
                mock.patch.object(worker, "notify", side_effect=SystemExit(3)),
                mock.patch.object(worker, "conclude_streams", side_effect=failure) as conclude,
                self.assertRaises(SystemExit),
            ):
                worker.run()
            crew.return_value.begin.assert_called_once_with()
            conclude.assert_called_once_with()


class CountTest(WorkerCase):
    def setUp(self) -> None:
        super().setUp()
        self.worker = self.make_worker(threads=4, worker_connections=100)
        self.worker._loop = mock.Mock(idle=0)
        self.worker._crew = mock.Mock()
        self.worker._answering = mock.Mock()

    def test_streams_do_not_count_and_those_open_leave_less_room(self) -> None:
        worker = self.worker
        limit = 100 - 4  # of worker_connections, one for each thread is kept
        for idle, streams, alive, keepalive, is_stream, expected in (
            (0, 0, True, 2, True, (False, 0)),
            (0, 0, True, 2, False, (False, 1)),
            (0, 0, False, 2, True, (True, 0)),
            (limit - 1, 1, True, 2, False, (True, 1)),
            (limit - 2, 1, True, 2, False, (False, 1)),
            (0, 0, True, 0, False, (True, 1)),
        ):
            with self.subTest(idle=idle, streams=streams, alive=alive, keepalive=keepalive), ExitStack() as stack:
                worker.alive, worker._loop.idle = alive, idle
                worker.cfg.set("keepalive", keepalive)
                for _ in range(streams):
                    conn: Any = mock.Mock()
                    worker.begin_stream(conn)
                    stack.callback(worker.give_back, conn, True)
                resp, before = mock.Mock(), worker.nr
                worker.count_request(resp, is_stream)
                self.assertEqual((resp.force_close.called, worker.nr - before), expected)

    def test_a_connection_goes_to_the_loop_and_comes_back(self) -> None:
        conn: Any = mock.Mock()
        self.worker.park(conn)
        self.worker.unpark(conn)
        self.worker.give_back(conn, False)
        self.assertEqual(self.worker._loop.mock_calls, [mock.call.park(conn), mock.call.unpark(conn)])
        self.worker._answering.give_back.assert_called_once_with(conn, False)

    def test_tasks_are_the_crews(self) -> None:
        tasks: list[Callable[[], None]] = [mock.Mock(), mock.Mock()]
        self.worker.enqueue(tasks[0])
        self.worker.permits.ask(tasks[1])
        self.assertEqual(self.worker._crew.put.call_args_list[0], mock.call(tasks[0]))
        self.assertEqual(self.worker._crew.put.call_count, 2)
        self.worker._crew.has_tasks = True
        self.assertTrue(self.worker.has_tasks)

    def test_it_warns_once_of_each_kind(self) -> None:
        for kind in ("a", "b", "a"):
            self.worker.warn_once(kind, lambda: "words")
        self.assertEqual(self.worker.log.warning.mock_calls, [mock.call("%s", "words")] * 2)

    def test_streams_with_a_thread_leave_fewer_permits(self) -> None:
        worker = self.make_worker(threads=8)  # six are for streams
        for taken, limit in ((0, 6), (4, 2), (100, 1)):
            with mock.patch.object(process_budget, "taken", taken):
                worker._crew = mock.Mock()
                begun = worker._crew.put.call_count
                for _ in range(10):
                    worker.permits.ask(mock.Mock())
                self.assertEqual(worker._crew.put.call_count - begun, limit)
            worker = self.make_worker(threads=8)


class BeginningTest(WorkerCase):
    def test_signals_are_blocked_while_it_sets_its_handlers(self) -> None:
        worker = self.make_worker()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        during: list[Any] = []

        def init_signals(worker: Any) -> None:
            during.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

        with mock.patch.object(Worker, "init_signals", init_signals):
            worker.init_signals()
        self.assertLessEqual(ENDS, set(during[0]))
        self.assertEqual(signal.pthread_sigmask(signal.SIG_BLOCK, ()), before)

    def test_at_its_end_the_apps_own_hook_comes_first(self) -> None:
        calls = mock.Mock()
        calls.own.side_effect = ZeroDivisionError
        worker = self.make_worker(worker_exit=lambda server, worker: calls.own(server, worker, 2))
        with (
            mock.patch.object(Worker, "init_process", calls.init),
            mock.patch("sse_threaded.server.hooks.worker_exit", calls.ours),
        ):
            worker.init_process()
            calls.init.assert_called_once_with()
            self.assertRaises(ZeroDivisionError, worker.cfg.settings["worker_exit"].get(), 1, worker)
        self.assertEqual(calls.mock_calls[1:], [mock.call.own(1, worker, 2), mock.call.ours(1, worker)])

    def test_the_app_is_loaded_between_the_room_for_it_and_the_hooks(self) -> None:
        worker = self.make_worker(worker_connections=500, threads=3)
        for connections, warnings in ((500, 0), (499, 1)):
            calls = mock.Mock()
            calls.make_room.return_value = mock.Mock(connections=connections, idle=77, files=1000)
            with (
                mock.patch.object(thread_worker, "make_room", calls.make_room),
                mock.patch.object(Worker, "load_wsgi", calls.load),
                mock.patch("sse_threaded.server.hooks.post_worker_init", calls.hook),
                mock.patch.object(thread_worker.gc, "freeze", calls.freeze),
            ):
                worker.load_wsgi()
            expected = [mock.call.make_room(500, 3), mock.call.load(), mock.call.hook(worker, parks=True)]
            self.assertEqual(calls.mock_calls, [*expected, mock.call.freeze()])
            self.assertEqual(worker.worker_connections, connections)
            self.assertEqual(worker.log.warning.call_count, warnings)

    def test_workers_share_their_loads_unless_each_has_a_listener_of_its_own(self) -> None:
        first, second = self.make_worker(), self.make_worker(2)
        first._load.tell(1, 0)
        for reuse_port, share in ((False, 0), (True, 64)):
            with (
                self.subTest(reuse_port=reuse_port),
                mock.patch.object(thread_worker, "Loop", return_value=mock.Mock(events=None)) as loop,
                mock.patch.object(thread_worker, "Answering"),
                mock.patch.object(thread_worker, "Crew"),
            ):
                second = self.make_worker(2, reuse_port=reuse_port)
                second._load.look(2)
                second.alive = False
                loop.return_value.connections = 0
                second.run()
                self.assertEqual(loop.call_args.kwargs["policy"].share(50), share)
                self.assertEqual(loop.call_args.kwargs["limit"], second.worker_connections)
                self.listener = socket.create_server(("127.0.0.1", 0))
                self.addCleanup(self.listener.close)


class SettingsTest(WorkerCase):
    def settle(self, worker: Any) -> None:
        """Run it to its end, at once."""
        worker.alive = False
        with (
            mock.patch.object(thread_worker, "Loop", return_value=mock.Mock(events=None)) as loop,
            mock.patch.object(thread_worker, "Answering"),
            mock.patch.object(thread_worker, "Crew"),
        ):
            loop.return_value.connections = 0
            worker.run()

    def test_the_end_of_a_request_matters_to_a_log_or_a_hook(self) -> None:
        plain = type("Plain", (), {"access": Logger.access, "access_log_enabled": False, "info": mock.Mock()})
        own = type("Own", (plain,), {"access": lambda self: None})
        enabled = type("Enabled", (plain,), {"access_log_enabled": True})
        for log, hook, expected in (
            (plain(), None, False),
            (own(), None, True),
            (plain(), lambda worker, req, environ, resp: None, True),
            (enabled(), None, True),
        ):
            worker = self.make_worker()
            worker.log = log
            if hook is not None:
                worker.cfg.set("post_request", hook)
            self.settle(worker)
            self.assertIs(worker.tells_ends, expected)

    def test_http2_is_left_out_and_warned_of(self) -> None:
        for settings, warns in (
            ({}, False),
            ({"http_protocols": "h1"}, False),
            ({"http_protocols": "h2,h1"}, True),
            ({"http2_cleartext": "both"}, True),
        ):
            with self.subTest(settings=settings):
                worker = self.make_worker()
                if not settings.keys() <= worker.cfg.settings.keys():
                    continue  # this gunicorn has no such HTTP/2
                for name, value in settings.items():
                    worker.cfg.set(name, value)
                log = mock.Mock()
                ThreadWorker.check_config(worker.cfg, log)
                self.assertIs(log.warning.called, warns)
                self.settle(worker)
                self.assertNotIn("h2", getattr(worker.cfg, "http_protocols", ()))


if __name__ == "__main__":
    unittest.main()
