"""The worker's loop by itself: sockets in pairs, and a listener that gives one of each to the loop."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import unittest
from collections import deque
from collections.abc import Callable
from typing import Any
from unittest import mock

from gunicorn.config import Config

from sse_threaded.server import arrivals, deadlines, loop
from sse_threaded.server.accept_policy import AcceptPolicy
from sse_threaded.server.connection import Connection, Place
from sse_threaded.server.loop import Loop
from tests.support import wait_until

NOW = 1000.0
GET = b"GET / HTTP/1.1\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n"
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class FakeListener:
    """A listener whose clients are in this process. It may fail, as the test says."""

    def __init__(self, test: unittest.TestCase) -> None:
        self._test = test
        self._readable, self._bell = socket.socketpair()
        test.addCleanup(self._readable.close)
        test.addCleanup(self._bell.close)
        self._waiting: deque[socket.socket | OSError] = deque()

    def fileno(self) -> int:
        return self._readable.fileno()

    def setblocking(self, is_blocking: bool) -> None:
        assert not is_blocking

    def close(self) -> None:
        self._readable.close()

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 80)

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if not self._waiting:
            raise BlockingIOError(errno.EAGAIN, "nobody waits")
        self._readable.recv(1)
        found = self._waiting.popleft()
        if isinstance(found, OSError):
            raise found
        return found, ("192.0.2.1", found.fileno())

    def connect(self) -> socket.socket:
        """A new client."""
        client, sock = socket.socketpair()
        for end in (client, sock):
            self._test.addCleanup(end.close)
        client.settimeout(10)
        self.put(sock)
        return client

    def put(self, found: socket.socket | OSError) -> None:
        self._waiting.append(found)
        self._bell.send(b"\0")

    @property
    def waiting(self) -> int:
        return len(self._waiting)


class Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """The system's, which reports sockets that are not readable, or does not register one, as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts: list[float | None] = []
        self.also: list[socket.socket] = []
        self.refused: list[Exception] = []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self.refused:
            raise self.refused.pop(0)
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> Any:
        self.timeouts.append(timeout)
        also, self.also = self.also, []
        return [*super().select(timeout), *((self.get_key(sock), selectors.EVENT_READ) for sock in also)]

    def watches(self, conn: Connection) -> bool:
        return any(key.data is conn for key in self.get_map().values())


class LoopCase(unittest.TestCase):
    def setUp(self) -> None:
        self.now = NOW
        # Only these modules' own clock: other threads of this process go on with the real one.
        clock = mock.Mock(monotonic=lambda: self.now)
        for module in (loop, arrivals):
            patch = mock.patch.object(module, "time", clock)
            patch.start()
            self.addCleanup(patch.stop)
        self.log = mock.Mock()
        self.served: list[Connection] = []
        self.served_elsewhere: list[Connection] = []
        self.told: list[int] = []
        self.make_loop()

    def make_loop(self, limit: int = 100, load: Any = None, cfg: Any = None, **settings: Any) -> Loop:
        if cfg is None:
            cfg = Config()
            for name, value in settings.items():
                cfg.set(name, value)
        self.listener = FakeListener(self)
        self.policy = AcceptPolicy(load, clock=lambda: self.now)
        self.selector = Selector()
        self.addCleanup(self.selector.close)
        with mock.patch.object(loop.selectors, "DefaultSelector", lambda: self.selector):
            self.loop = Loop(
                cfg,
                self.log,
                listeners=[self.listener],  # type: ignore[list-item]
                limit=limit,
                policy=self.policy,
                serve=self.served.append,
                serve_elsewhere=self.served_elsewhere.append,
                told=self.told.append,
            )
        return self.loop

    def lead(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            self.loop.lead(0.0)

    def pass_time(self, seconds: float) -> None:
        """Deadlines are looked at four times a second."""
        self.now += seconds
        self.lead()

    def connect(self, data: bytes = b"") -> socket.socket:
        client = self.listener.connect()
        client.sendall(data)
        self.lead()
        return client

    def connection(self, data: bytes = GET) -> tuple[Connection, socket.socket]:
        """One that the loop gives to a thread, as its request has come."""
        client = self.connect(data)
        if not self.served:
            self.lead()  # where it only waits for a first byte
        return self.served.pop(), client

    def assert_closed(self, client: socket.socket, left: int = 0) -> None:
        self.assertEqual(client.recv(65536), b"")
        with self.assertRaises(BrokenPipeError):
            client.sendall(b"x")
        self.assertEqual(self.loop.connections, left)

    def assert_open(self, client: socket.socket) -> None:
        client.setblocking(False)
        self.assertRaises(BlockingIOError, client.recv, 1)
        client.settimeout(10)


class EventsTest(LoopCase):
    def test_another_thread_can_wait_for_events_only_with_epoll(self) -> None:
        loop = self.make_loop()
        self.assertIsInstance(loop.events, int)
        with mock.patch.object(loop, "_selector", selectors.PollSelector()):
            self.assertIsNone(loop.events)
        with mock.patch.object(selectors, "EpollSelector", create=True):
            del selectors.EpollSelector
            self.assertIsNone(loop.events)


class AcceptTest(LoopCase):
    def test_it_accepts_those_that_wait_up_to_its_limit(self) -> None:
        self.make_loop(3)
        clients = [self.listener.connect() for _ in range(5)]
        for client in clients:
            client.sendall(GET)
        self.lead(2)
        self.assertEqual((self.loop.connections, self.listener.waiting, self.told), (3, 2, [3]))
        for conn in self.served:
            self.assertEqual((conn.client[0], conn.server), ("192.0.2.1", ("127.0.0.1", 80)))
            self.assertIsNone(conn.sock.gettimeout())
        self.loop.close(self.served[0])
        self.lead(2)
        self.assertEqual((self.loop.connections, self.listener.waiting, self.told), (3, 1, [3, 3]))

    def test_a_thread_that_leads_accepts_again_when_another_one_has_made_room(self) -> None:
        self.make_loop(2)
        conn, _ = self.connection()
        self.connect(GET)
        self.listener.connect()
        self.lead()
        leads = threading.Thread(target=self.loop.lead, args=(60.0,), daemon=True)
        leads.start()
        self.loop.close(conn)
        leads.join(10)
        self.assertFalse(leads.is_alive())
        self.lead()
        self.assertEqual((self.loop.connections, self.listener.waiting), (2, 0))

    def test_it_leaves_connections_to_a_worker_with_fewer_for_a_moment(self) -> None:
        self.make_loop(load=mock.Mock(lead=lambda connections: connections + 6))
        for _ in range(9):
            self.listener.connect()
        self.lead(3)
        self.assertEqual((self.loop.connections, self.told), (0, []))
        self.pass_time(0.02)
        self.assertEqual((self.loop.connections, self.told), (4, [4]))

    def test_without_room_for_a_connection_it_pauses_and_serves_the_others(self) -> None:
        for code in (*NO_ROOM, errno.EPERM):
            with self.subTest(errno.errorcode[code]):
                self.log.reset_mock()
                self.make_loop()
                other = self.connect()
                self.listener.put(OSError(code, "no room"))
                self.listener.connect()
                other.sendall(GET)
                self.lead(2)
                self.assertEqual((len(self.served), self.loop.connections), (1, 1))
                self.log.warning.assert_called_once()
                words, error, advice = self.log.warning.call_args.args
                self.assertEqual("ulimit" in words % (error, advice), code in NO_ROOM)
                self.pass_time(0.9)
                self.assertEqual(self.loop.connections, 1)
                self.pass_time(0.1)
                self.assertEqual(self.loop.connections, 2)
                self.served.clear()

    def test_that_nothing_waits_any_more_is_no_error(self) -> None:
        for code in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
            self.listener.put(OSError(code, "nothing"))
            self.lead()
        self.listener.connect()
        self.lead()
        self.assertEqual((self.loop.connections, self.told), (1, [1]))
        self.log.warning.assert_not_called()

    def test_a_listener_for_which_the_kernel_has_no_room_is_registered_later(self) -> None:
        self.selector.refused = [OSError(errno.ENOSPC, "no room")]
        self.assertRaises(OSError, self.lead)
        self.connect()
        self.assertEqual(self.loop.connections, 1)

    def test_a_socket_blocks_whatever_the_app_has_set_as_the_default(self) -> None:
        client, sock = socket.socketpair()
        self.addCleanup(client.close)
        self.addCleanup(sock.close)
        sock.settimeout(5)
        client.sendall(GET)
        self.listener.put(sock)
        self.lead()
        self.assertIsNone(self.served[0].sock.gettimeout())

    def test_one_that_is_broken_already_is_closed(self) -> None:
        client, sock = socket.socketpair()
        client.close()
        self.listener.put(sock)
        self.lead()
        self.assertEqual((self.loop.connections, self.told), (0, [0]))

    def test_an_interrupt_ends_the_wait(self) -> None:
        for _ in range(2):
            leads = threading.Thread(target=self.loop.lead, args=(60.0,), daemon=True)
            leads.start()
            self.loop.interrupt()
            leads.join(10)
            self.assertFalse(leads.is_alive())
        for _ in range(100_000):  # more than the pipe takes
            self.loop.interrupt()

    def test_it_waits_until_the_next_look_at_deadlines_or_the_end_of_a_pause(self) -> None:
        for begin, expected in (
            (lambda: None, 1.0),
            (lambda: self.policy.pause(0.1), 0.1),
            (lambda: self.policy.pause(10.0), 0.25),
            (lambda: self.policy.pause(-1.0), 1.0),
            (lambda: self.connect(b"GET"), 0.25),
        ):
            self.make_loop()
            begin()
            self.loop.interrupt()  # so it waits no longer
            self.loop.lead()
            self.assertAlmostEqual(self.selector.timeouts[-1] or 0.0, expected)

    def test_it_looks_at_deadlines_without_events_too(self) -> None:
        client = self.connect()
        self.now += 100
        self.loop.lead()
        self.assert_closed(client)


class RequestTest(LoopCase):
    def test_a_whole_request_goes_to_a_thread_as_it_came(self) -> None:
        conn, _ = self.connection()
        self.assertEqual((conn.received, conn.missing, conn.is_whole), (GET, 0, True))
        self.assertEqual((conn.partial_request, conn.place), (None, Place.THREAD))

    def test_the_first_byte_has_five_seconds_beside_the_keepalive(self) -> None:
        self.make_loop(keepalive=3)
        client = self.connect()
        self.pass_time(7.9)
        self.assert_open(client)
        self.pass_time(0.2)
        self.pass_time(0.25)
        self.assert_closed(client)

    def test_one_in_pieces_goes_to_a_thread_when_it_has_all_come(self) -> None:
        client = self.connect(b"POST / HTTP/1.1\r\nContent-")
        client.sendall(b"Length: 5\r\n\r\nab")
        self.lead()
        self.assertEqual(self.served, [])
        client.sendall(b"cde")
        self.lead()
        (conn,) = self.served
        self.assertEqual(conn.received, b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde")
        self.assertEqual((conn.missing, conn.is_whole, conn.partial_request), (0, True, None))
        self.assertIsNone(conn.upload_ended)

    def test_a_connection_that_is_said_to_be_readable_and_is_not_waits_on(self) -> None:
        conn, client = self.connection()
        self.loop.keep(conn)
        for data in (b"", b"GET / HTTP/1.1\r\n"):
            conn.requests = 1
            client.sendall(data)
            self.lead()
            self.selector.also.append(conn.sock)
            self.lead()
            self.assertEqual((self.served, self.loop.connections), ([], 1))
        client.sendall(b"\r\n")
        self.lead()
        self.assertEqual((self.served, conn.received), ([conn], GET))
        fresh = self.connect()
        self.loop.close(conn)
        key = next(key for key in self.selector.get_map().values() if type(key.data) is Connection)
        self.selector.also.append(key.fileobj)  # type: ignore[arg-type]
        self.lead()
        fresh.sendall(GET)
        self.lead()
        self.assertEqual(len(self.served), 2)

    def test_one_that_ends_before_or_in_the_midst_of_a_request_is_closed(self) -> None:
        for data in (b"", b"GET / HTTP/1.1\r\n", UPLOAD[:-2]):
            client = self.connect(data)
            client.close()
            self.lead()
            self.assertEqual((self.served, self.loop.connections), ([], 0))

    def test_a_request_that_takes_too_long_is_refused(self) -> None:
        for data, seconds in (
            (b"GET / HTTP/1.1\r\n", deadlines.HEAD_SECONDS),
            (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na", deadlines.body_seconds(1)),
        ):
            client = self.connect(data)
            self.pass_time(seconds - 0.5)
            self.assert_open(client)
            self.pass_time(0.6)
            self.pass_time(0.25)
            self.assertTrue(client.recv(65536).startswith(b"HTTP/1.1 408 Request Timeout\r\n"))
            self.assertEqual(client.recv(65536), b"")
            self.assertEqual(self.loop.connections, 1, "it waits for the client to close")
            client.close()
            self.lead()
            self.assertEqual((self.served, self.loop.connections), ([], 0))
        self.assertEqual(self.log.info.call_count, 2)

    def test_a_refusal_does_not_wait_for_a_client_that_reads_nothing(self) -> None:
        conn, client = self.connection()
        conn.sock.setblocking(False)
        with self.assertRaises(BlockingIOError):
            while True:
                conn.sock.send(b"x" * 65536)
        conn.sock.setblocking(True)
        self.loop.keep(conn)
        client.sendall(b"GET / HTTP/1.1\r\n")
        self.lead()
        self.pass_time(deadlines.HEAD_SECONDS + 1)
        self.pass_time(deadlines.LINGER_SECONDS + 1)
        self.assertEqual(self.loop.connections, 0)

    def test_of_an_upload_the_thread_reads_the_rest(self) -> None:
        conn, client = self.connection(UPLOAD + b"x" * 1000)
        self.assertEqual((conn.missing, conn.is_whole), (999_000, False))
        self.assertIsNotNone(conn.upload_ended)
        client.sendall(b"y")
        self.lead(2)
        self.assertEqual(conn.sock.recv(1), b"y")

    def test_half_of_the_threads_may_read_uploads_and_the_others_wait_their_turn(self) -> None:
        for threads, most in ((1, 1), (3, 1), (4, 2), (5, 2)):
            with self.subTest(threads=threads):
                self.make_loop(threads=threads)
                for _ in range(6):
                    self.connect(UPLOAD)
                self.assertEqual(len(self.served), most)
                for conn in self.served:
                    conn.end_upload()
                    conn.end_upload()
                self.assertEqual(len(self.served_elsewhere), most, "this thread goes on with its own request")
                self.served.clear()
                self.served_elsewhere.clear()

    def test_uploads_do_not_wait_for_a_thread_without_end(self) -> None:
        first, second = self.connect(UPLOAD), self.connect(UPLOAD)
        second.sendall(b"x")
        self.lead(2)  # nothing is read of it, and the loop does not run hot
        self.pass_time(deadlines.HEAD_SECONDS + 1)
        self.assertIn(b" 408 ", second.recv(65536))
        self.served[0].end_upload()
        self.assertEqual(self.served_elsewhere, [])
        self.assert_open(first)

    def test_32_megabytes_may_wait(self) -> None:
        self.connect(UPLOAD)
        first, _ = self.connection(GET)
        second, client = self.connection(GET)
        head = UPLOAD.replace(b"1000000", b"99999999")
        self.loop.add(first, head.ljust(32 * 2**20, b"x"))
        self.assertEqual(first.place, Place.UPLOAD)
        self.loop.add(second, head)
        self.assertEqual(second.place, Place.CLOSING)
        self.assertIn(b" 408 ", client.recv(65536))

    def test_a_next_request_is_awaited_for_the_keepalive(self) -> None:
        self.make_loop(keepalive=3)
        conn, client = self.connection()
        other, silent = self.connection()
        for each in (conn, other):
            each.requests = 1
            self.loop.keep(each)
        self.assertEqual(self.loop.idle, 2)
        self.pass_time(2.9)
        client.sendall(GET)
        self.lead()
        self.assertEqual((self.served, self.loop.idle), ([conn], 1))
        self.assert_open(silent)
        self.pass_time(0.3)
        self.assert_closed(silent, left=1)
        self.assertEqual(self.loop.idle, 0)

    def test_bytes_that_were_read_ahead_are_the_next_request(self) -> None:
        conn, client = self.connection()
        self.loop.add(conn, GET)
        self.assertEqual((self.served, conn.received, conn.is_whole), ([conn], GET, True))
        self.served.clear()
        self.loop.add(conn, b"GET / HTTP/1.1\r\n")
        self.assertEqual((self.served, conn.place), ([], Place.ARRIVING))
        client.sendall(b"\r\n")
        self.lead()
        self.assertEqual((self.served, conn.received), ([conn], GET))
        self.loop.add(conn, b"GET / HTTP/1.1\r\n")
        self.pass_time(deadlines.HEAD_SECONDS + 1)
        self.assertIn(b" 408 ", client.recv(65536))

    def test_bytes_that_come_while_a_thread_answers_are_read_after_that(self) -> None:
        conn, client = self.connection()
        self.loop.keep(conn)
        client.sendall(GET)
        self.lead()
        client.sendall(GET)
        for _ in range(2):
            self.lead()
            self.assertFalse(self.selector.watches(conn), "the loop would run hot")
        self.assertEqual(self.served, [conn])
        self.loop.keep(conn)
        self.lead()
        self.assertEqual(self.served, [conn, conn])

    def test_the_one_that_has_waited_longest_comes_first(self) -> None:
        clients = []
        for _ in range(3):
            clients.append(self.connect())
            self.now += 0.01
        for client in reversed(clients):
            client.sendall(b"GET /%d HTTP/1.1\r\n\r\n" % clients.index(client))
        self.lead()
        self.assertEqual([conn.received[5:6] for conn in self.served], [b"0", b"1", b"2"])

    def test_one_that_cannot_be_watched_is_closed(self) -> None:
        for error in (OSError(errno.ENOSPC, "no room"), ValueError("closed")):
            for data in (b"", b"GET / HTTP/1.1\r\n"):
                with self.subTest(error=error, data=data):
                    self.lead()
                    self.selector.refused = [error]
                    client = self.connect(data)
                    self.assert_closed(client)

    def test_with_tls_and_other_protocols_a_thread_reads_from_the_first_byte_on(self) -> None:
        for changes, reads in (
            ({}, True),
            ({"is_ssl": True}, False),
            ({"protocol": "uwsgi"}, False),
        ):
            with self.subTest(changes=changes):
                cfg = mock.Mock(**{"is_ssl": False, "protocol": "http", "threads": 2, "keepalive": 2, **changes})
                self.make_loop(cfg=cfg)
                self.assertIs(self.loop.reads, reads)
                client = self.connect()
                client.sendall(GET)
                self.lead()
                conn = self.served.pop()
                self.assertEqual(conn.received if reads else conn.sock.recv(100), GET)
                self.assertIs(conn.is_whole, reads)
                self.assertIs(self.selector.watches(conn), reads)
                self.loop.add(conn, GET)
                self.assertEqual((self.served.pop(), conn.received), (conn, GET))
                self.loop.linger(conn)
                client.sendall(b"x")
                self.lead()
                client.close()
                self.lead()
                self.assertEqual(self.loop.connections, 0, "it hears of all that its client does")


class HandshakeTest(LoopCase):
    def test_it_has_its_time(self) -> None:
        self.make_loop(cfg=mock.Mock(is_ssl=True, threads=2, keepalive=2))
        (late, client), (done, other) = self.connection(), self.connection()
        for conn in (late, done):
            self.loop.begin_handshake(conn)
        self.loop.end_handshake(done)
        self.pass_time(deadlines.HEAD_SECONDS)
        self.assert_open(client)
        for _ in range(2):
            self.pass_time(0.5)
            self.assertEqual(client.recv(1), b"")
        self.assert_open(other)
        late.sock.close()  # as its thread finds out
        self.pass_time(0.5)
        self.loop.end_handshake(late)
        self.assertEqual(self.loop.connections, 2)


class ParkTest(LoopCase):
    def setUp(self) -> None:
        super().setUp()
        self.conn, self.client = self.connection()
        self.parked = mock.Mock()
        self.parked.hear.return_value = True

    def park(self) -> None:
        self.conn.parked = self.parked
        self.loop.park(self.conn)

    def test_a_parked_stream_hears_of_its_client_as_long_as_it_wants_to(self) -> None:
        self.park()
        self.lead()
        self.parked.hear.assert_not_called()
        self.client.sendall(b"x")
        self.lead(2)
        self.assertEqual(self.parked.hear.call_count, 2)
        self.parked.hear.return_value = False
        self.lead(3)
        self.assertEqual(self.parked.hear.call_count, 3)
        self.loop.unpark(self.conn)
        self.loop.keep(self.conn)
        self.lead()
        self.assertEqual((self.parked.hear.call_count, self.conn.partial_request is None), (3, False))

    def test_one_that_has_ended_before_it_was_watched_is_not(self) -> None:
        self.conn.parked = self.parked
        self.loop.unpark(self.conn)
        self.loop.keep(self.conn)
        self.loop.park(self.conn)
        self.client.sendall(GET)
        self.lead()
        self.assertEqual(self.served, [self.conn])
        self.parked.hear.assert_not_called()

    def test_one_that_ends_while_it_hears_is_watched_for_its_next_request(self) -> None:
        def end() -> bool:
            self.loop.unpark(self.conn)
            self.loop.keep(self.conn)
            return False

        self.parked.hear.side_effect = end
        self.park()
        self.client.sendall(GET)
        self.lead(2)
        self.assertEqual(self.served, [self.conn])

    def test_one_that_cannot_be_watched_goes_on(self) -> None:
        self.selector.refused = [OSError(errno.ENOSPC, "no room")]
        self.park()
        self.client.sendall(b"x")
        self.lead(2)
        self.parked.hear.assert_not_called()
        self.assertEqual((self.conn.place, self.loop.connections), (Place.PARKED, 1))
        self.loop.unpark(self.conn)
        self.loop.linger(self.conn)
        self.client.close()
        self.lead(2)
        self.assertEqual(self.loop.connections, 0)

    def test_it_has_no_deadline(self) -> None:
        self.loop.keep(self.conn)
        self.client.sendall(GET)
        self.lead()
        self.park()
        self.pass_time(10_000)
        self.assert_open(self.client)


class CloseTest(LoopCase):
    def test_it_waits_until_the_client_has_closed(self) -> None:
        conn, client = self.connection()
        self.loop.linger(conn)
        self.assertEqual(client.recv(10), b"")
        client.sendall(b"x" * 10_000)
        self.selector.also.append(conn.sock)  # a second event, for which there is nothing to read
        self.lead(2)
        self.assertEqual(self.loop.connections, 1)
        client.close()
        self.lead()
        self.assertEqual((self.loop.connections, conn.sock.fileno()), (0, -1))

    def test_one_whose_client_has_closed_need_not_wait(self) -> None:
        conn, client = self.connection()
        client.close()
        self.loop.linger(conn)
        self.assertEqual((self.loop.connections, conn.sock.fileno()), (0, -1))

    def test_one_that_has_sent_all_it_may_is_closed_at_once(self) -> None:
        conn, client = self.connection()
        self.loop.linger(conn)
        for size in (*[65_536] * 15, 65_535):
            client.sendall(b"x" * size)
            self.lead(2)
            self.assertEqual(self.loop.connections, 1)
        client.sendall(b"x")
        self.lead()
        self.assertEqual(self.loop.connections, 0)

    def test_none_waits_longer_than_it_may(self) -> None:
        conn, client = self.connection()
        self.loop.linger(conn)
        for seconds in (deadlines.LINGER_SECONDS - 0.1, 0.2):  # the second one is before the next look
            self.pass_time(seconds)
            self.assertEqual(self.loop.connections, 1)
        self.pass_time(0.06)
        self.assert_closed(client)

    def test_of_too_many_the_oldest_is_closed(self) -> None:
        for limit, most in ((50, 16), (64, 16), (68, 17), (100, 25)):
            with self.subTest(limit=limit):
                self.make_loop(limit)
                conns = [self.connection() for _ in range(most + 2)]
                for conn, _ in conns:
                    self.loop.linger(conn)
                self.assertEqual(self.loop.connections, most)
                self.assertEqual([conn.sock.fileno() for conn, _ in conns[:2]], [-1, -1])

    def test_it_counts_once_however_often_it_is_closed(self) -> None:
        conn, client = self.connection()
        self.loop.keep(conn)
        for _ in range(2):
            self.loop.close(conn)
        self.assert_closed(client)
        self.loop.keep(conn)
        self.loop.linger(conn)
        self.lead()
        self.assertEqual((self.loop.connections, self.loop.idle), (0, 0))

    def test_one_that_the_app_has_closed(self) -> None:
        for then in ("keep", "linger", "close"):
            with self.subTest(then):
                conn, _ = self.connection()
                conn.sock.close()
                getattr(self.loop, then)(conn)
                self.assertEqual((self.loop.connections, self.loop.idle), (0, 0))

    def test_the_number_of_a_socket_that_the_app_has_closed_may_come_again(self) -> None:
        conn, _ = self.connection()
        self.loop.keep(conn)  # so the loop watches it
        number = conn.sock.fileno()
        client, sock = socket.socketpair()
        self.addCleanup(client.close)
        self.addCleanup(sock.close)
        conn.sock.close()
        self.listener.put(socket.socket(fileno=os.dup2(sock.fileno(), number)))
        self.lead()
        client.sendall(GET)
        self.lead()
        (second,) = self.served
        self.assertIsNot(second, conn)
        self.loop.keep(second)
        self.pass_time(100)
        self.assertEqual(self.loop.connections, 0)

    def test_one_that_was_closed_may_still_have_an_event_in_the_same_round(self) -> None:
        pairs = [self.connection() for _ in range(3)]

        def close_all() -> bool:
            for conn, _ in pairs:
                self.loop.close(conn)
            return False

        for conn, client in pairs:
            conn.parked = mock.Mock(hear=close_all)
            self.loop.park(conn)
            client.close()
        self.lead(2)
        self.assertEqual(self.loop.connections, 0)


class EndTest(LoopCase):
    def test_no_client_is_awaited_for_longer_than_the_end(self) -> None:
        self.make_loop(keepalive=60)
        self.connect()
        self.connect(b"GET / HTTP/1.1\r\n")
        kept, _ = self.connection()
        self.loop.keep(kept)
        later, silent = self.connection()
        self.listener.connect()
        self.loop.stop_accepting(NOW + 2)
        self.loop.keep(later)
        self.pass_time(1.9)
        self.assertEqual((self.loop.connections, self.listener.waiting), (4, 1))
        self.pass_time(0.25)
        self.assert_closed(silent, left=1)
        self.pass_time(deadlines.LINGER_SECONDS + 1)
        self.assertEqual(self.loop.connections, 0, "that which was refused")

    def test_an_earlier_deadline_stays(self) -> None:
        conn, client = self.connection()
        self.loop.keep(conn)
        self.loop.stop_accepting(NOW + 60)
        self.pass_time(2.5)
        self.assert_closed(client)

    def test_a_thread_that_leads_hears_of_the_end(self) -> None:
        leads = threading.Thread(target=self.loop.lead, args=(60.0,), daemon=True)
        leads.start()
        wait_until(lambda: len(self.selector.get_map()) > 1, message="the listener to be watched")
        self.loop.stop_accepting(NOW)
        leads.join(10)
        self.assertFalse(leads.is_alive())

    def test_those_that_wait_for_a_request_are_closed_and_those_at_work_go_on(self) -> None:
        fresh = self.connect()
        kept, client = self.connection()
        self.loop.keep(kept)
        _, at_work = self.connection()
        self.loop.close_kept()
        for each, left in ((fresh, 1), (client, 1)):
            self.assert_closed(each, left)
        self.assert_open(at_work)

    def test_one_whose_request_comes_while_those_that_wait_are_closed_is_served_or_closed(self) -> None:
        pairs = [self.connection() for _ in range(50)]
        for conn, client in pairs:
            self.loop.keep(conn)
            client.sendall(GET)
        leads = threading.Thread(target=self.lead, daemon=True)
        leads.start()
        self.loop.close_kept()
        leads.join(10)
        for conn in self.served:
            self.loop.keep(conn)
        self.loop.close_kept()
        self.assertEqual(self.loop.connections, 0)


def each_way(calls: list[Callable[[], None]]) -> None:
    """Call all, each on a thread, and wait for them."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)


class RaceTest(LoopCase):
    def test_several_threads_close_one_connection_and_it_counts_once(self) -> None:
        for _ in range(100):
            conn, _ = self.connection()
            start = threading.Barrier(3)

            def end(way: str, conn: Connection = conn, start: threading.Barrier = start) -> None:
                start.wait(10)
                getattr(self.loop, way)(conn)

            each_way([lambda: end("linger"), lambda: end("close"), lambda: end("close")])
            self.loop.close(conn)
            self.assertEqual(self.loop.connections, 0)


if __name__ == "__main__":
    unittest.main()
