"""The worker's steps by themselves, without its loop: what each does with a connection, a poller, a request."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import unittest
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

from gunicorn.config import Config
from gunicorn.http.errors import InvalidChunkSize, NoMoreData
from gunicorn.workers import gthread

from sse_threaded import Hub
from sse_threaded.fanout.lifecycle import process_budget
from sse_threaded.server import accepting_worker, connection_worker, worker_lifecycle
from sse_threaded.server.accept_policy import AcceptPolicy
from sse_threaded.server.accepting_worker import AcceptingWorker
from sse_threaded.server.client_connection import ClientConnection
from sse_threaded.server.connection_worker import FinishedFuture
from sse_threaded.server.lazy_pool import LazyPool
from sse_threaded.server.request_body import MalformedBody, RequestTooSlow
from sse_threaded.worker import ThreadWorker

NOW = 1000.0


class FakePool:
    """Keeps tasks until the test runs them."""

    wake_after = 0.003

    def __init__(self) -> None:
        self.is_awaited = False
        self.brisk_until = 0.0
        self.tasks: list[Callable[[], None]] = []
        self.dispatched = 0
        self.must_dispatch_again = False

    def put(self, task: Callable[..., None], *arguments: Any) -> None:
        self.tasks.append(lambda: task(*arguments))

    def dispatch(self) -> bool:
        self.dispatched += 1
        return self.must_dispatch_again

    @property
    def waiting(self) -> int:
        return len(self.tasks)


class FakeQueue:
    """Keeps what is deferred to the main thread until the test runs it."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def defer(self, function: Callable[..., None], *arguments: Any) -> None:
        self.calls.append(lambda: function(*arguments))

    def run(self) -> None:
        while self.calls:
            self.calls.pop(0)()


class WorkerCase(unittest.TestCase):
    def setUp(self) -> None:
        self.now = NOW
        # Only these modules' own clock: other threads of this process go on with the real one.
        clock = mock.Mock(monotonic=lambda: self.now)
        for module in (accepting_worker, connection_worker, worker_lifecycle):
            patch = mock.patch.object(module, "time", clock)
            patch.start()
            self.addCleanup(patch.stop)
        patch = mock.patch.object(AcceptingWorker, "_shared_load", None)
        patch.start()
        self.addCleanup(patch.stop)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.addCleanup(self.listener.close)

    def make_worker(self, age: int = 1, **settings: Any) -> Any:
        """A worker as it is when its loop begins."""
        cfg = Config()
        for name, value in settings.items():
            cfg.set(name, value)
        with mock.patch("sse_threaded.server.startup_signals.expect_worker") as expect:
            worker: Any = ThreadWorker(age, os.getppid(), [self.listener], mock.Mock(), 30, cfg, mock.Mock())
        expect.assert_called_once_with()
        worker.tmp.close()
        worker.tmp = mock.Mock()
        worker.poller = selectors.DefaultSelector()
        self.addCleanup(worker.poller.close)
        worker.method_queue = FakeQueue()
        worker._lazy_pool = FakePool()
        with mock.patch.object(gthread.ThreadWorker, "run"), mock.patch.object(worker, "_fix_settings"):
            worker.run()
        return worker

    def make_connection(self, worker: Any, received: bytes = b"") -> tuple[Any, socket.socket]:
        """A connection that the worker counts, and its client."""
        client, sock = socket.socketpair()
        self.addCleanup(client.close)
        self.addCleanup(sock.close)
        client.settimeout(10)
        worker.nr_conns += 1
        conn = ClientConnection(worker.cfg, sock, ("127.0.0.1", 1), ("127.0.0.1", 2))
        conn.received = received
        return conn, client

    def watched(self, worker: Any) -> set[Any]:
        """The sockets that the poller watches."""
        return {key.fileobj for key in worker.poller.get_map().values()}

    def call_back(self, worker: Any, sock: socket.socket) -> None:
        key = worker.poller.get_key(sock)
        self.assertEqual(key.events, selectors.EVENT_READ)
        key.data(key.fileobj)


class PoolTest(WorkerCase):
    def test_it_has_a_lazy_pool_of_its_threads(self) -> None:
        worker = self.make_worker(threads=3)
        del worker._lazy_pool
        pool = worker.get_thread_pool()
        self.addCleanup(pool.shutdown)
        self.assertEqual(pool._max_workers, 3)
        self.assertIsInstance(worker._lazy_pool, LazyPool)

    def test_tasks_wait_for_a_thread_unless_the_worker_ends_at_once(self) -> None:
        worker = self.make_worker()
        self.assertFalse(worker.has_tasks)
        ran: list[int] = []
        worker.enqueue(lambda: ran.append(1))
        self.assertTrue(worker.has_tasks)
        worker.enqueue_next(lambda: ran.append(2))
        self.assertEqual(ran, [])
        worker._ends_at_once = True
        worker.enqueue(lambda: ran.append(3))
        self.assertEqual((ran, worker._lazy_pool.waiting), ([3], 2))

    def test_the_main_thread_is_woken_once_for_tasks_that_come_soon(self) -> None:
        worker = self.make_worker()
        for _ in range(2):
            worker.enqueue_soon(lambda: None)
            worker.enqueue_soon(lambda: None)
            self.assertEqual(len(worker.method_queue.calls), 1)
            dispatched = worker._lazy_pool.dispatched
            worker.method_queue.run()
            self.assertEqual(worker._lazy_pool.dispatched, dispatched + 1)
        self.assertEqual(worker._lazy_pool.waiting, 4)

    def test_a_connection_is_served_on_a_thread(self) -> None:
        worker = self.make_worker()
        conn, _ = self.make_connection(worker)
        with mock.patch.object(worker, "_serve") as serve:
            worker.enqueue_req(conn)
            serve.assert_not_called()
            worker._lazy_pool.tasks.pop()()
        serve.assert_called_once_with(conn)

    def test_a_thread_that_stops_has_the_main_thread_accept_or_dispatch(self) -> None:
        worker = self.make_worker()
        worker._on_idle_thread()
        worker.method_queue.run()
        self.assertEqual(worker._lazy_pool.dispatched, 1)
        worker._lazy_pool.is_awaited = True
        worker._on_idle_thread()
        worker.method_queue.run()
        self.assertEqual(worker._lazy_pool.dispatched, 1)
        self.assertFalse(worker._lazy_pool.is_awaited)


class AcceptTest(WorkerCase):
    def setUp(self) -> None:
        super().setUp()
        self.worker = self.make_worker(worker_connections=100)
        self.pool = self.worker._lazy_pool
        self.policy = self.worker._accept_policy = AcceptPolicy(None, clock=lambda: self.now)

    def connect(self, number: int) -> list[socket.socket]:
        clients = [socket.create_connection(self.listener.getsockname()) for _ in range(number)]
        for client in clients:
            self.addCleanup(client.close)
        return clients

    def test_workers_share_their_loads_unless_each_has_a_listener_of_its_own(self) -> None:
        first, second = self.worker, self.make_worker(2)
        self.assertIs(first._load, second._load)
        for reuse_port, share in ((False, 0), (True, 64)):
            with self.subTest(reuse_port=reuse_port):
                worker = self.make_worker(3, reuse_port=reuse_port)
                worker._load.tell(1, 0)
                worker._load.look(3)
                self.assertEqual(worker._accept_policy.share(50), share)

    def test_the_arbiter_and_the_others_hear_from_it_four_times_a_second(self) -> None:
        worker = self.worker
        worker.nr_conns = 7
        worker._load = mock.Mock()
        for now, alive in ((NOW, True), (NOW + 0.2, True), (NOW + 0.25, False), (NOW + 0.375, True)):
            self.now = now
            worker.alive = alive
            worker.notify()
        self.assertEqual(worker.tmp.notify.call_count, 2)
        self.assertEqual(worker._load.tell.mock_calls, [mock.call(1, 7), mock.call(1, None)])
        self.assertEqual(worker._load.look.mock_calls, [mock.call(1)] * 2)

    def test_it_accepts_nothing_in_a_pause_or_while_it_awaits_a_thread(self) -> None:
        for enabled, is_awaited, paused_until, expected in (
            (True, False, 0.0, True),
            (False, False, 0.0, False),
            (True, True, 0.0, False),
            (True, False, NOW, True),
            (True, False, NOW + 0.1, False),
            (True, True, NOW + 0.1, False),
        ):
            with self.subTest(enabled=enabled, is_awaited=is_awaited, paused_until=paused_until):
                self.pool.is_awaited, self.policy.paused_until = is_awaited, paused_until
                self.worker.set_accept_enabled(enabled)
                self.assertIs(self.worker._accepting, expected)
                self.assertIs(self.listener in self.watched(self.worker), expected)

    def wait(self, timeout: float) -> tuple[float, bool]:
        """How long the worker waits for events, and whether it accepts afterwards without an event."""
        with (
            mock.patch.object(gthread.ThreadWorker, "wait_for_and_dispatch_events") as wait,
            mock.patch.object(self.worker, "_accept_more") as accept_more,
        ):
            self.worker.wait_for_and_dispatch_events(timeout)
        return wait.call_args.args[0], accept_more.called

    def test_it_waits_no_longer_than_the_pool_can(self) -> None:
        self.assertEqual(self.wait(1.0), (1.0, False))
        self.pool.must_dispatch_again = True
        self.assertEqual(self.wait(1.0), (self.pool.wake_after, False))
        self.assertEqual(self.wait(0.001), (0.001, False))
        self.pool.must_dispatch_again, self.pool.is_awaited = False, True
        self.pool.brisk_until = NOW + 0.001
        self.assertEqual(self.wait(1.0), (self.pool.wake_after, False))
        self.pool.brisk_until = NOW
        self.assertEqual(self.wait(1.0), (self.pool.wake_after, True))
        self.pool.is_awaited = False
        self.assertEqual(self.wait(1.0), (1.0, False))
        self.assertEqual(self.pool.dispatched, 6)

    def test_it_waits_no_longer_than_a_pause_and_accepts_after_it(self) -> None:
        self.policy.pause(0.5)
        self.assertEqual(self.wait(1.0), (0.5, False))
        self.assertEqual(self.wait(0.25), (0.25, False))
        self.assertFalse(self.worker._accepting)
        for alive, connections, expected in ((True, 99, True), (True, 100, False), (False, 99, False)):
            with self.subTest(alive=alive, connections=connections):
                self.worker.set_accept_enabled(False)
                self.worker.alive, self.worker.nr_conns = alive, connections
                self.policy.paused_until = self.now
                self.assertEqual(self.wait(1.0), (1.0, False))
                self.assertEqual(self.policy.paused_until, 0.0)
                self.assertIs(self.worker._accepting, expected)

    def test_it_accepts_what_waits_up_to_its_connections(self) -> None:
        clients = self.connect(5)
        self.worker.nr_conns = 97
        self.worker._load = mock.Mock()
        self.worker._reader = mock.Mock()
        self.assertEqual(self.worker.accept(self.listener), 3)
        self.assertEqual(self.worker.nr_conns, 100)
        self.worker._load.tell.assert_called_once_with(1, 100)
        accepted = [call.args[0] for call in self.worker._reader.receive.mock_calls]
        self.assertEqual([conn.client for conn in accepted], [client.getsockname() for client in clients[:3]])
        self.assertEqual({conn.server for conn in accepted}, {self.listener.getsockname()})
        self.worker.nr_conns, self.worker.alive = 50, False
        self.assertEqual(self.worker.accept(self.listener), 2)
        self.worker._load.tell.assert_called_with(1, None)
        self.assertEqual(self.worker.accept(self.listener), 0)
        for call in self.worker._reader.receive.mock_calls:
            call.args[0].close()

    def test_it_leaves_connections_to_another_worker(self) -> None:
        self.connect(1)
        self.worker.set_accept_enabled(True)
        with mock.patch.object(self.policy, "share", return_value=0) as share:
            self.worker.nr_conns = 9
            self.assertEqual(self.worker.accept(self.listener), 0)
        share.assert_called_once_with(9)
        self.assertFalse(self.worker._accepting)

    def test_without_room_for_a_connection_it_pauses(self) -> None:
        for code in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            with self.subTest(errno.errorcode[code]):
                self.policy.paused_until = 0.0
                self.worker.set_accept_enabled(True)
                listener = mock.Mock()
                listener.accept.side_effect = [OSError(code, "no room")]
                self.assertEqual(self.worker.accept(listener), 0)
                self.assertEqual(self.policy.paused_until, NOW + 1.0)
                self.assertFalse(self.worker._accepting)
        self.assertEqual(self.worker.log.warning.call_count, 4)

    def test_that_nothing_waits_is_no_error_and_others_are(self) -> None:
        self.worker.set_accept_enabled(True)
        listener = mock.Mock()
        for code in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
            listener.accept.side_effect = [OSError(code, "nothing")]
            self.assertEqual(self.worker.accept(listener), 0)
        listener.accept.side_effect = [OSError(errno.EBADF, "a defect")]
        with self.assertRaises(OSError):
            self.worker.accept(listener)
        self.assertEqual((self.policy.paused_until, self.worker._accepting), (0.0, True))
        self.worker.log.warning.assert_not_called()

    def test_where_many_come_at_once_it_lets_the_thread_at_work_finish(self) -> None:
        self.worker._reader = mock.Mock()
        for comes, brisk_until, expected in ((0, NOW + 1, False), (1, NOW, False), (1, NOW + 0.001, True)):
            with self.subTest(comes=comes, brisk_until=brisk_until):
                self.connect(comes)
                self.worker.set_accept_enabled(True)
                self.pool.brisk_until = brisk_until
                self.assertEqual(self.worker.accept(self.listener), comes)
                self.assertIs(self.pool.is_awaited, expected)
                self.assertIs(self.worker._accepting, not expected)
        # Then, as long as more come, it goes on so.
        self.connect(1)
        self.worker._accept_more()
        self.assertEqual((self.pool.is_awaited, self.worker._accepting), (True, False))
        self.worker._accept_more()
        self.assertEqual((self.pool.is_awaited, self.worker._accepting), (False, True))
        self.assertEqual(self.worker.nr_conns, 3)
        for call in self.worker._reader.receive.mock_calls:
            call.args[0].close()

    def test_full_or_at_its_end_it_accepts_no_more(self) -> None:
        for alive, connections in ((True, 100), (False, 1)):
            self.pool.is_awaited = True
            self.worker.alive, self.worker.nr_conns = alive, connections
            self.connect(1)
            self.worker._accept_more()
            self.assertEqual((self.pool.is_awaited, self.worker._accepting), (False, False))
            self.assertEqual(self.worker.nr_conns, connections)


class ConnectionTest(WorkerCase):
    def setUp(self) -> None:
        super().setUp()
        self.worker = self.make_worker(worker_connections=100, keepalive=3)
        self.conn, self.client = self.make_connection(self.worker)
        self.sock = self.conn.sock

    def assert_closed(self) -> None:
        self.assertEqual((self.sock.fileno(), self.worker.nr_conns), (-1, 0))

    def assert_closing(self) -> None:
        """It waits for the client to close, and counts until then."""
        self.assertEqual(self.client.recv(65536), b"")
        self.assertEqual((len(self.worker._closing), self.worker.nr_conns), (1, 1))
        self.client.close()
        self.call_back(self.worker, self.sock)
        self.assert_closed()

    def test_a_future_that_is_done(self) -> None:
        for again in (False, True):
            self.assertIs(FinishedFuture(again).cancelled(), False)
            self.assertIs(FinishedFuture(again).result(), again)
        with self.assertRaises(ZeroDivisionError):
            FinishedFuture(True, ZeroDivisionError()).result()

    def test_so_many_may_wait_for_their_clients_to_close(self) -> None:
        for connections, most in ((1, 16), (64, 16), (68, 17), (1000, 250)):
            with mock.patch.object(connection_worker, "ClosingConnections") as closing:
                worker = self.make_worker(worker_connections=connections)
            self.assertEqual(closing.call_args.args, (worker.poller, most, worker._count_out))

    def test_the_first_byte_has_five_seconds_beside_the_keepalive(self) -> None:
        self.worker._reader.receive(self.conn)
        self.assertEqual(self.conn.timeout, NOW + 5 + 3)
        self.assertEqual(list(self.worker.pending_conns), [self.conn])
        self.client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        self.call_back(self.worker, self.sock)
        self.assertEqual((list(self.worker.pending_conns), self.watched(self.worker)), ([], set()))
        self.assertEqual(self.worker._lazy_pool.waiting, 1)

    def test_one_that_cannot_be_watched_is_dropped(self) -> None:
        with mock.patch.object(self.worker, "poller") as poller:
            poller.register.side_effect = OSError
            self.worker._await_request(self.conn)
        self.assertEqual(list(self.worker.pending_conns), [])
        self.assert_closed()

    def test_a_next_request_is_read(self) -> None:
        self.worker._await_next_request(self.conn)
        self.assertEqual(list(self.worker.keepalived_conns), [self.conn])
        self.client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        self.call_back(self.worker, self.sock)
        self.assertEqual((list(self.worker.keepalived_conns), self.watched(self.worker)), ([], set()))
        self.assertEqual(self.worker._lazy_pool.waiting, 1)
        self.assertEqual(self.conn.received, b"GET / HTTP/1.1\r\n\r\n")

    def test_a_next_request_is_awaited_for_the_keepalive_and_less_at_the_end(self) -> None:
        with mock.patch.object(self.conn, "set_timeout", lambda: setattr(self.conn, "timeout", NOW + 3)):
            self.sock.setblocking(True)
            self.worker._await_next_request(self.conn)
            self.assertEqual(self.conn.timeout, NOW + 3)
            self.assertFalse(self.sock.getblocking())
            self.assertEqual(self.worker.method_queue.calls, [])
            self.worker.poller.unregister(self.sock)
            self.worker.alive = False
            self.worker._await_next_request(self.conn)
            self.assertEqual(self.conn.timeout, NOW + gthread.STOP_KEEPALIVE_LINGER)

    def test_one_whose_next_request_cannot_be_awaited_is_closed(self) -> None:
        self.client.close()
        self.sock.close()
        self.worker._await_next_request(self.conn)
        self.assertEqual(list(self.worker.keepalived_conns), [])
        self.worker.method_queue.run()
        self.assert_closed()

    def test_deadlines_are_seen_to_four_times_a_second(self) -> None:
        self.worker._closing = mock.Mock()
        self.worker._reader = mock.Mock()
        self.worker._handshaking.add(self.conn)
        for number, (ends, is_over) in enumerate(((None, False), (0.0, False), (-0.1, True))):
            self.now = NOW + number
            self.conn.handshake_ends = None if ends is None else self.now + ends
            self.worker.murder_pending()
            self.client.setblocking(False)
            if is_over:
                self.assertEqual(self.client.recv(1), b"")
            else:
                self.assertRaises(BlockingIOError, self.client.recv, 1)
        self.sock.close()
        for later in (2.2, 2.25, 2.3):
            self.now = NOW + later
            self.worker.murder_pending()
        looks = [mock.call(NOW + seconds) for seconds in (0, 1, 2, 2.25)]
        self.assertEqual(self.worker._closing.expire.mock_calls, looks)
        self.assertEqual(self.worker._reader.expire.mock_calls, looks)

    def test_at_the_end_no_request_is_awaited_for_longer(self) -> None:
        self.worker._reader = mock.Mock()
        other, _ = self.make_connection(self.worker)
        third, _ = self.make_connection(self.worker)
        self.conn.timeout, other.timeout, third.timeout = NOW + 5, NOW + 1, NOW + 5
        self.worker.keepalived_conns.extend([other, self.conn])
        self.worker.pending_conns.append(third)
        self.worker._cap_keepalive(NOW + 2)
        self.assertEqual([each.timeout - NOW for each in (other, self.conn, third)], [1, 2, 2])
        self.worker._reader.cap.assert_called_once_with(NOW + 2)

    def test_a_refusal_waits_for_the_client_to_close(self) -> None:
        self.sock.setblocking(True)
        self.worker._refuse(self.conn)
        self.assertIn(b"HTTP/1.1 408 Request Timeout\r\n", self.client.recv(65536))
        self.assert_closing()

    def test_a_refusal_of_one_that_has_gone_is_its_end(self) -> None:
        self.client.close()
        self.worker._refuse(self.conn)
        self.assertEqual(len(self.worker._closing), 0)
        self.assert_closed()

    def test_what_was_read_ahead_is_the_next_request(self) -> None:
        self.conn.init()
        self.conn.parser.unreader.buf.write(b"GET / HTTP/1.1\r\n")
        self.worker.give_back(self.conn, True)
        self.assertEqual(self.watched(self.worker), set())
        self.assertEqual(len(self.worker.method_queue.calls), 1)
        self.worker.method_queue.run()
        self.assertFalse(self.sock.getblocking())
        self.assertEqual(self.watched(self.worker), {self.sock})
        self.assertEqual(list(self.worker.keepalived_conns), [])
        self.client.sendall(b"\r\n")
        self.call_back(self.worker, self.sock)
        self.assertEqual(self.conn.received, b"GET / HTTP/1.1\r\n\r\n")

    def test_given_back_it_waits_for_its_next_request(self) -> None:
        self.conn.init()
        self.worker._streaming.add(self.conn)
        self.worker.give_back(self.conn, True)
        self.assertEqual(self.worker._streaming, set())
        self.assertEqual(list(self.worker.keepalived_conns), [self.conn])
        self.assertEqual((self.watched(self.worker), self.worker.method_queue.calls), ({self.sock}, []))

    def test_at_the_end_and_with_another_protocol_gunicorn_waits_for_it(self) -> None:
        self.conn.init()
        for alive, may_read in ((False, True), (True, False)):
            self.worker.alive = alive
            with (
                mock.patch.object(self.worker._reader, "may_read", return_value=may_read),
                mock.patch.object(self.worker, "finish_request") as finish,
            ):
                self.worker.give_back(self.conn, True)
                self.worker.method_queue.run()
            self.assertIs(finish.call_args.args[0], self.conn)
            self.assertIs(finish.call_args.args[1].result(), True)
            self.assertEqual(list(self.worker.keepalived_conns), [])

    def test_a_failure_is_gunicorns(self) -> None:
        with mock.patch.object(self.worker, "finish_request") as finish:
            self.worker.give_back(self.conn, False, ZeroDivisionError())
            self.worker.method_queue.run()
        with self.assertRaises(ZeroDivisionError):
            finish.call_args.args[1].result()
        self.assertNotEqual(self.sock.fileno(), -1)

    def test_given_back_for_its_end_it_waits_for_the_client(self) -> None:
        self.worker.give_back(self.conn, False)
        self.worker.method_queue.run()
        self.assert_closing()

    def test_given_back_for_its_end_when_the_client_has_gone_it_is_closed(self) -> None:
        self.client.close()
        self.worker.give_back(self.conn, False)
        self.assertEqual((self.sock.fileno(), self.worker.nr_conns), (-1, 1))
        self.worker.method_queue.run()
        self.assert_closed()

    def serve(self, result: Any) -> tuple[Any, ...]:
        """What the connection is given back with."""
        with (
            mock.patch.object(self.worker, "handle", side_effect=[result]) as handle,
            mock.patch.object(self.worker, "give_back") as give_back,
        ):
            self.worker._serve(self.conn)
        handle.assert_called_once_with(self.conn)
        return tuple(give_back.call_args.args) if give_back.called else ()

    def test_served_it_is_given_back_and_another_upload_may_begin(self) -> None:
        ended = mock.Mock()
        for result in (True, False):
            self.conn.upload_ended = ended
            self.assertEqual(self.serve(result), (self.conn, result, None))
        self.assertEqual(ended.call_count, 2)
        error = ZeroDivisionError()
        self.assertEqual(self.serve(error), (self.conn, False, error))
        self.assertEqual(self.worker._streaming, set())

    def test_a_stream_leaves_the_thread(self) -> None:
        counted = []
        self.conn.upload_ended = ended = mock.Mock()
        self.assertEqual(self.serve(lambda: counted.append(self.conn in self.worker._streaming)), ())
        self.assertEqual(counted, [True])
        ended.assert_called_once_with()

    def test_a_thread_notes_the_handshake_with_tls_only(self) -> None:
        noted = []

        def handle(conn: Any) -> bool:
            noted.append(conn in self.worker._handshaking)
            return True

        for is_ssl in (True, False):
            self.worker.cfg = mock.Mock(is_ssl=is_ssl)
            with mock.patch.object(self.worker, "handle", handle), mock.patch.object(self.worker, "give_back"):
                self.worker._serve(self.conn)
            self.assertEqual(self.worker._handshaking, set())
        self.assertEqual(noted, [True, False])

    def test_a_body_that_is_malformed_or_cut_gets_no_second_answer(self) -> None:
        self.assertIs(self.worker._keepalive_after(self.conn, max), max)
        self.assertIs(self.worker._keepalive_after(self.conn, False), False)
        self.conn.parser = mock.Mock()
        for finish, expected in (
            ([True], True),
            ([False], False),
            ([InvalidChunkSize(b"zz")], False),
            ([NoMoreData()], False),
        ):
            self.conn.parser.finish_body.side_effect = finish
            self.assertIs(self.worker._keepalive_after(self.conn, True), expected)


class RequestTest(WorkerCase):
    """One request through the worker, on the test's thread."""

    def setUp(self) -> None:
        super().setUp()
        self.hook = mock.Mock()
        self.begun = mock.Mock()
        self.worker = self.make_worker(
            threads=4,
            pre_request=lambda worker, req: self.begun(req.path),
            post_request=lambda worker, req, environ, resp: self.hook(resp),
        )
        self.worker.wsgi = self.app
        self.environ: dict[str, Any] = {}
        self.body: Any = [b"hello"]
        self.headers: list[tuple[str, str]] = [("Content-Length", "5")]

    def app(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.environ = environ
        start_response("200 OK", self.headers)
        return self.body

    def ask(self, request: bytes = b"GET / HTTP/1.1\r\n\r\n", **options: Any) -> tuple[Any, Any, socket.socket]:
        """What the worker returns, the connection, and the client."""
        conn, client = self.make_connection(self.worker, request)
        for name, value in options.items():
            setattr(conn, name, value)
        conn.init()
        return self.worker.handle_request(next(conn.parser), conn), conn, client

    def test_a_request_is_answered_and_the_connection_may_be_used_again(self) -> None:
        again, _, client = self.ask()
        self.assertIs(again, True)
        answer = client.recv(65536)
        self.assertIn(b"\r\nConnection: keep-alive\r\n", answer)
        self.assertTrue(answer.endswith(b"\r\n\r\nhello"), answer)
        self.assertIs(self.environ["wsgi.multithread"], True)
        self.worker.log.access.assert_called_once()
        self.begun.assert_called_once_with("/")
        self.hook.assert_called_once()
        again, _, client = self.ask(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        self.assertIs(again, False)

    def test_a_chunked_body_that_has_come_is_read_before_the_app_is_called(self) -> None:
        head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.ask(head + b"5\r\nabcde\r\n0\r\n\r\n", is_whole=True)
        self.assertEqual(self.environ["wsgi.input"].read(), b"abcde")
        self.environ = {}
        with self.assertRaises(InvalidChunkSize):
            self.ask(head + b"zz\r\n", is_whole=True)
        self.assertEqual(self.environ, {})
        self.hook.assert_called_with(None)

    def test_other_bodies_are_gunicorns(self) -> None:
        again, _, _ = self.ask(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde", is_whole=True)
        self.assertIs(again, True)
        self.assertEqual(type(self.environ["wsgi.input"]).__module__, "gunicorn.http.body")

    def test_a_fault_of_the_client_that_the_app_lets_through(self) -> None:
        malformed, late = MalformedBody(InvalidChunkSize(b"zz")), RequestTooSlow()
        self.worker.wsgi = mock.Mock(side_effect=malformed)
        self.assertRaises(InvalidChunkSize, self.ask)
        self.worker.wsgi = mock.Mock(side_effect=late)
        again, _, client = self.ask()
        self.assertIs(again, False)
        self.assertIn(b"HTTP/1.1 408 Request Timeout\r\n", client.recv(65536))
        self.worker.wsgi = self.app
        for fault in (malformed, late):
            self.body = (chunk if chunk else self.fail_with(fault) for chunk in (b"he", b""))
            again, conn, client = self.ask()
            self.assertIs(again, False)
            conn.close()
            self.assertTrue(client.recv(65536).endswith(b"he"))

    def test_an_answer_to_one_that_came_too_late_and_has_gone(self) -> None:
        def app(environ: dict[str, Any], start_response: Any) -> Any:
            environ["gunicorn.socket"].close()
            raise RequestTooSlow

        self.worker.wsgi = app
        self.assertIs(self.ask()[0], False)

    def test_an_apps_failure_is_an_answer_only_before_the_head(self) -> None:
        self.worker.wsgi = mock.Mock(side_effect=ZeroDivisionError)
        with self.assertRaises(ZeroDivisionError):
            self.ask()
        self.worker.log.exception.assert_not_called()
        self.worker.wsgi = self.app
        for error in (ZeroDivisionError, SystemExit):
            self.body = (chunk if chunk else self.fail_with(error) for chunk in (b"he", b""))
            again, _, client = self.ask()
            self.assertIs(again, False)
            self.assertTrue(client.recv(65536).endswith(b"he"))
        self.assertEqual(self.worker.log.exception.call_count, 2)
        self.assertEqual(self.hook.call_count, 3)

    def fail_with(self, error: BaseException | type[BaseException]) -> bytes:
        raise error

    def test_max_requests_ends_the_worker_and_its_connections(self) -> None:
        self.worker.max_requests = 2
        for alive, word in ((True, b"keep-alive"), (False, b"close"), (False, b"close")):
            _, _, client = self.ask()
            self.assertIn(b"\r\nConnection: " + word + b"\r\n", client.recv(65536))
            self.assertIs(self.worker.alive, alive)
        self.assertEqual(self.worker.nr, 3)

    def test_streams_do_not_count_and_those_open_leave_less_room(self) -> None:
        worker = self.worker
        for changes, is_stream, closes, counted in (
            ({}, True, False, 0),
            ({}, False, False, 1),
            ({"alive": False}, True, True, 0),
            ({"max_keepalived": 2, "_streaming": {1}, "keepalived_conns": [1]}, False, True, 1),
            ({"max_keepalived": 3, "_streaming": {1}, "keepalived_conns": [1]}, False, False, 1),
            ({"cfg": mock.Mock(keepalive=0)}, False, True, 1),
        ):
            with self.subTest(changes=changes), ExitStack() as stack:
                for name, value in changes.items():
                    stack.enter_context(mock.patch.object(worker, name, value))
                resp, before = mock.Mock(), worker.nr
                worker.count_request(resp, is_stream)
                self.assertEqual((resp.force_close.called, worker.nr - before), (closes, counted))

    def test_it_warns_once_of_each_kind(self) -> None:
        for kind in ("a", "b", "a"):
            self.worker.warn_once(kind, lambda: "words")
        self.assertEqual(self.worker.log.warning.mock_calls, [mock.call("%s", "words")] * 2)

    def test_streams_with_a_thread_leave_fewer_permits(self) -> None:
        counts = []
        for taken in (0, 1, 100):
            with mock.patch.object(process_budget, "taken", taken):
                counts.append(self.worker._permit_limit())
        self.assertEqual(counts[0] - counts[1], 1 if counts[0] > 1 else 0)
        self.assertEqual(counts[2], 1)

    def test_a_stream_leaves_and_comes_back_for_the_next_request(self) -> None:
        hub = Hub(heartbeat=600)
        self.addCleanup(hub.close)
        self.worker.wsgi = lambda environ, start: hub.stream(environ, "a")(environ, start)
        leave, _, client = self.ask()
        self.hook.assert_not_called()
        leave()
        self.assertIn(b"stream-start", client.recv(65536))
        self.assertEqual(self.worker.nr, 0)


class LifecycleTest(WorkerCase):
    def test_signals_are_blocked_while_it_sets_its_handlers(self) -> None:
        worker = self.make_worker()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        during = []
        with mock.patch.object(
            gthread.ThreadWorker,
            "init_signals",
            lambda worker: during.append(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        ):
            worker.init_signals()
        self.assertLessEqual({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1}, set(during[0]))
        self.assertEqual(signal.pthread_sigmask(signal.SIG_BLOCK, ()), before)

    def test_at_its_end_the_apps_own_hook_comes_first(self) -> None:
        calls = mock.Mock()
        calls.own.side_effect = ZeroDivisionError
        worker = self.make_worker(worker_exit=lambda server, worker: calls.own(server, worker, 2))
        with (
            mock.patch.object(gthread.ThreadWorker, "init_process", calls.init),
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
                mock.patch.object(worker_lifecycle, "make_room", calls.make_room),
                mock.patch.object(gthread.ThreadWorker, "load_wsgi", calls.load),
                mock.patch("sse_threaded.server.hooks.post_worker_init", calls.hook),
                mock.patch.object(worker_lifecycle.gc, "freeze", calls.freeze),
            ):
                worker.load_wsgi()
            self.assertEqual(
                calls.mock_calls,
                [
                    mock.call.make_room(500, 3),
                    mock.call.load(),
                    mock.call.hook(worker, parks=True),
                    mock.call.freeze(),
                ],
            )
            self.assertEqual((worker.worker_connections, worker.max_keepalived), (connections, 77))
            self.assertEqual(worker.log.warning.call_count, warnings)

    def test_the_end_of_a_request_matters_to_a_log_or_a_hook(self) -> None:
        worker = self.make_worker()
        logger = type("Plain", (), {"access": worker_lifecycle.Logger.access, "access_log_enabled": False})
        own = type("Own", (logger,), {"access": lambda self: None})
        for log, hook, expected in (
            (logger(), None, False),
            (own(), None, True),
            (logger(), lambda worker, req, environ, resp: None, True),
            (type("Enabled", (logger,), {"access_log_enabled": True})(), None, True),
        ):
            worker.cfg, worker.log, worker.tells_ends = Config(), log, None
            worker.cfg.set("do_handshake_on_connect", True)
            if hook is not None:
                worker.cfg.set("post_request", hook)
            worker._fix_settings()
            self.assertIs(worker.tells_ends, expected)
            self.assertIs(worker.cfg.settings["do_handshake_on_connect"].get(), False)
            self.assertIn("keepalive", vars(worker.cfg))

    def test_whatever_ends_the_loop_its_streams_are_concluded(self) -> None:
        worker = self.make_worker()
        for failure in (None, ZeroDivisionError):
            with (
                mock.patch.object(gthread.ThreadWorker, "run", side_effect=SystemExit(3)),
                mock.patch.object(worker, "_fix_settings") as fix,
                mock.patch.object(worker, "conclude_streams", side_effect=failure) as conclude,
                self.assertRaises(SystemExit),
            ):
                worker.run()
            fix.assert_called_once_with()
            conclude.assert_called_once_with()

    def test_it_waits_for_its_streams_a_second_and_a_half_at_most(self) -> None:
        for graceful, streams, waits in ((30, 1, 6), (1, 1, 4), (30, 0, 0)):
            with self.subTest(graceful=graceful, streams=streams):
                worker = self.make_worker(graceful_timeout=graceful)
                worker.set_accept_enabled(True)
                worker._streaming.update(range(streams))
                waited: list[float] = []

                def wait(seconds: float, waited: list[float] = waited) -> None:
                    self.now += seconds
                    waited.append(seconds)

                with (
                    mock.patch.object(worker_lifecycle, "request_close_all") as close,
                    mock.patch.object(worker, "wait_for_and_dispatch_events", wait),
                ):
                    worker.conclude_streams()
                    worker.conclude_streams()
                close.assert_called_once_with()
                self.assertEqual(waited, [0.25] * waits)
                self.assertEqual((worker.alive, worker._ends_at_once, worker._accepting), (False, True, False))


if __name__ == "__main__":
    unittest.main()
