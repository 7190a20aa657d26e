"""The pump and its parked streams: replay, ends, and sockets that behave in strange ways."""

import contextlib
import gc
import queue
import re
import select
import socket
import threading
import time
import tracemalloc
import types
import unittest
from functools import partial
from unittest import mock

from sse_threaded import HubClosed
from sse_threaded.errors import HistoryGone, LogUnavailable
from sse_threaded.fanout import log_reader, pump_thread
from sse_threaded.fanout import registry as registry_module
from sse_threaded.fanout.budget import Budget, Overloaded
from sse_threaded.fanout.cursor import Cursor
from sse_threaded.fanout.log_reader import LogReader
from sse_threaded.fanout.pace import Pace
from sse_threaded.fanout.pump import Pump
from sse_threaded.fanout.pump_thread import PumpThread
from sse_threaded.fanout.registry import DueTimers, Registry
from sse_threaded.fanout.serial_wakeup import SerialWakeup, Sleeper
from sse_threaded.fanout.socket_subscriber import SocketSubscriber
from sse_threaded.fanout.socket_watcher import SocketWatcher, is_watched_for_reading, is_watched_for_writing
from sse_threaded.fanout.stream_state import EndReason, State
from sse_threaded.fanout.thread_subscriber import ThreadSubscriber
from sse_threaded.fanout.timers import NEVER
from sse_threaded.fanout.wrapped_subscriber import WrappedSubscriber
from sse_threaded.log import MemoryLog, Page, Record
from sse_threaded.log.doorbell import Doorbell
from sse_threaded.protocol.batch import Batch
from tests.support import FAREWELL, wait_until
from tests.unit.fake_handover import FakeHandover


@contextlib.contextmanager
def counted_selects():
    """A list that grows with each wait of a pump in this process."""
    selects, select = [], SocketWatcher.select

    def counted(watcher, timeout):
        selects.append(timeout)
        return select(watcher, timeout)

    with mock.patch.object(SocketWatcher, "select", counted):
        yield selects


class PumpCase(unittest.TestCase):
    def make_pump(self, lease=None, heartbeat=None, **times):
        self.log = MemoryLog()
        self.addCleanup(self.log.close)
        pace = Pace(retry=5000, heartbeat=heartbeat, lease=lease)
        self.budget, self.parking_budget = Budget(), Budget()
        pump = Pump(self.log, pace, self.budget, self.parking_budget, lambda: False, **times)
        self.addCleanup(pump.join, 10)
        self.addCleanup(pump.request_close)
        return pump

    def park(self, pump, head=b"head", kind=socket.socket, *, last_event_id=None, send_buffer=None, hears=False):
        ours, theirs = socket.socketpair()
        ours = kind(fileno=ours.detach())
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        theirs.settimeout(10)
        if send_buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        finished = threading.Event()
        pump.reserve()
        cursor = Cursor(self.log, ["a"], last_event_id)
        handover = FakeHandover(finished.set, hears_hang_ups=hears)
        parked = SocketSubscriber(("a",), 100, ours, chunked=True, cursor=cursor, handover=handover)
        pump.park(parked, head)
        return parked, theirs, finished

    def received(self, theirs, last):
        """The body that a client has got, up to and with ``last``, without the framing."""
        data = b""
        while last not in data:
            piece = theirs.recv(65536)
            self.assertTrue(piece, data[-200:])
            data += piece
        return re.sub(rb"(\r\n)?[0-9a-f]+\r\n", b"", data)

    def numbers(self, theirs, last):
        """The numbers in the data of the events that a client has got, up to ``last``."""
        body = self.received(theirs, b"data: %d\n" % last)
        return [int(each) for each in re.findall(rb"data: ([0-9]+)\n", body)]


class ReplayTest(PumpCase):
    def append(self, numbers, channel="a"):
        with self.log.transaction() as transaction:
            for number in numbers:
                transaction.append(channel, str(number))

    def test_missed_events_leave_with_the_first_bytes_and_then_it_is_live(self):
        pump = self.make_pump()
        self.append(range(1, 6))
        _, theirs, _ = self.park(pump, b"head", last_event_id=self.log.event_id(2))
        self.assertRegex(theirs.recv(65536), rb"\Ahead(?s:.*)data: 5\n")
        self.append([6])
        self.assertEqual(self.numbers(theirs, 6), [6])

    def test_a_client_that_missed_more_than_the_memory_holds_gets_it_from_the_log(self):
        pump = self.make_pump()
        self.append(range(1, 5001))
        _, theirs, _ = self.park(pump, last_event_id=self.log.event_id(10))
        self.assertEqual(self.numbers(theirs, 5000), list(range(11, 5001)))
        self.append([5001])
        self.assertEqual(self.numbers(theirs, 5001), [5001])

    def test_a_replay_goes_on_when_the_client_reads_on(self):
        pump = self.make_pump()
        self.append(range(1, 8001))
        parked, theirs, _ = self.park(pump, last_event_id=self.log.event_id(0), send_buffer=4096)
        wait_until(lambda: is_watched_for_writing(parked), message="the socket to be full")
        with counted_selects() as selects:
            time.sleep(0.2)
        self.assertLess(len(selects), 10, "nothing to do until the client reads")
        self.assertEqual(self.numbers(theirs, 8000), list(range(1, 8001)))
        self.append([8001])
        self.assertEqual(self.numbers(theirs, 8001), [8001])

    def test_a_client_older_than_the_memory_that_missed_nothing_does_not_keep_the_pump_awake(self):
        pump = self.make_pump()
        self.append(range(1, 1001), channel="another")  # the memory begins with some hundred
        with counted_selects() as selects:
            _, theirs, _ = self.park(pump, last_event_id=self.log.event_id(1))
            self.assertEqual(theirs.recv(65536), b"head")
            time.sleep(0.3)
        self.assertLess(len(selects), 10)
        self.append([1001])
        self.assertEqual(self.numbers(theirs, 1001), [1001])

    def test_events_that_come_while_a_stream_is_parked_come_once(self):
        pump = self.make_pump()
        self.append([1])
        begin = SocketSubscriber.begin

        def begin_and_publish(parked, head, batch):
            is_sent = begin(parked, head, batch)
            self.append([2, 3])
            wait_until(lambda: pump.position == 3, message="the pump to be ahead of the stream")
            return is_sent

        with mock.patch.object(SocketSubscriber, "begin", begin_and_publish):
            _, theirs, _ = self.park(pump, last_event_id=self.log.event_id(1))
        self.assertEqual(self.numbers(theirs, 3), [2, 3])
        self.append([4])
        self.assertEqual(self.numbers(theirs, 4), [4])

    def test_an_id_of_another_log_is_answered_by_a_reset_and_then_it_is_live(self):
        pump = self.make_pump()
        self.append([1, 2])
        _, theirs, _ = self.park(pump, last_event_id="zzzzzz-1")
        body = self.received(theirs, self.log.event_id(2).encode())
        self.assertIn(f'event: reset\ndata: {{"reason":"epoch"}}\nid: {self.log.event_id(2)}\n'.encode(), body)
        self.append([3])
        self.assertEqual(self.numbers(theirs, 3), [3])

    def test_a_client_that_talks_while_its_replay_is_blocked_gets_the_rest_of_it(self):
        registry = Registry(MemoryLog(), PACE)
        subscriber, theirs = parked_alone(self)
        registry.add(subscriber)
        while not subscriber.is_blocked:
            subscriber.deliver(Batch(b"x" * 10_000))
        registry.watch(subscriber)
        self.assertTrue(is_watched_for_writing(subscriber))
        # Both in one turn of the pump: its socket takes everything, and the client has sent something.
        theirs.sendall(b"GET / HTTP/1.1\r\n")
        theirs.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                theirs.recv(65536)
                subscriber.continue_writing()
        self.assertFalse(subscriber.is_blocked)
        registry.hear(subscriber)
        self.assertTrue(is_watched_for_writing(subscriber), "or the pump would not see that it goes on")


class SocketTest(PumpCase):
    def test_one_that_cannot_be_watched_is_given_back(self):
        class Unwatchable(socket.socket):
            def fileno(self):
                return -1

        pump = self.make_pump()
        parked, theirs, finished = self.park(pump, kind=Unwatchable)
        self.assertTrue(finished.wait(10))
        self.assertEqual(theirs.recv(100), b"head")
        self.assertEqual((parked.is_complete, parked.end_reason), (False, EndReason.GONE))
        wait_until(lambda: (pump.stream_count, self.parking_budget.taken) == (0, 0), message="its place")

    def test_a_socket_that_is_readable_for_nothing_stays_watched(self):
        registry = Registry(MemoryLog(), PACE)
        subscriber, theirs = parked_alone(self)
        registry.add(subscriber)
        registry.hear(subscriber)
        self.assertIsNone(subscriber.end_reason)
        self.assertTrue(is_watched_for_reading(subscriber))
        theirs.close()
        registry.hear(subscriber)
        self.assertIs(subscriber.end_reason, EndReason.GONE)
        self.assertFalse(is_watched_for_reading(subscriber))

    def test_a_socket_that_is_writable_for_nothing_keeps_what_waits(self):
        subscriber, _ = parked_alone(self)
        while not subscriber.is_blocked:
            subscriber.deliver(Batch(b"x" * 10_000))
        before = subscriber.sent
        subscriber.continue_writing()
        self.assertEqual((subscriber.is_blocked, subscriber.sent), (True, before))

    def test_what_it_does_not_take_at_once_leaves_when_the_client_reads(self):
        pump = self.make_pump()
        _, theirs, _ = self.park(pump, b"x" * 4_000_000)
        left = 4_000_000
        while left:
            piece = theirs.recv(left)
            self.assertTrue(piece)
            left -= len(piece)

    def test_a_client_that_hangs_up_is_noticed_and_its_place_given_back(self):
        pump = self.make_pump()
        parked, theirs, finished = self.park(pump)
        theirs.close()
        self.assertTrue(finished.wait(10))
        self.assertEqual((parked.state, self.parking_budget.taken), (State.ABORTED, 0))


class HearTest(PumpCase):
    """The server watches the sockets of parked streams, and tells the pump when one is readable."""

    def park_heard(self, **times):
        pump = self.make_pump(**times)
        parked, theirs, finished = self.park(pump, hears=True)
        self.assertFalse(is_watched_for_reading(parked))
        self.received(theirs, b"head")
        return pump, parked, theirs, finished

    def test_the_pump_does_not_watch_it_for_reading_and_hears_of_a_hang_up(self):
        pump, parked, theirs, finished = self.park_heard()
        theirs.close()
        self.assertFalse(pump.hear(parked))
        self.assertTrue(finished.wait(10))
        self.assertEqual((parked.state, parked.end_reason), (State.ABORTED, EndReason.GONE))
        wait_until(lambda: (pump.stream_count, self.parking_budget.taken) == (0, 0), message="its place")

    def test_one_that_is_readable_for_nothing_is_watched_further(self):
        pump, parked, theirs, _ = self.park_heard()
        self.assertTrue(pump.hear(parked))
        self.log.append("a", "hello")
        self.assertIn(b"data: hello", theirs.recv(65536))

    def test_one_whose_client_talks_goes_on_and_can_tell_nothing_new(self):
        pump, parked, theirs, _ = self.park_heard()
        theirs.sendall(b"GET / HTTP/1.1\r\n")
        self.assertFalse(pump.hear(parked))
        self.log.append("a", "hello")
        self.assertIn(b"data: hello", theirs.recv(65536))
        self.assertIsNone(parked.end_reason)

    def test_before_it_is_parked_it_is_watched_further_and_after_its_end_no_more(self):
        pump = self.make_pump()
        parked, theirs = parked_alone(self)
        theirs.close()
        self.assertTrue(pump.hear(parked))
        self.assertIs(parked.state, State.OPEN)
        parked, theirs, finished = self.park(pump, hears=True)
        pump.request_close()
        self.assertTrue(finished.wait(10))
        parked.connection.close()
        theirs.close()
        self.assertFalse(pump.hear(parked))
        self.assertIs(parked.state, State.CLOSED)

    def test_a_client_that_hangs_up_after_its_farewell_gets_its_last_bytes(self):
        registry = Registry(MemoryLog(), PACE)
        parked, theirs = parked_alone(self, hears_hang_ups=True)
        registry.add(parked)
        while not parked.is_blocked:
            parked.deliver(Batch(b"x" * 10_000))
        registry.watch(parked)
        self.assertEqual((is_watched_for_reading(parked), is_watched_for_writing(parked)), (False, True))
        registry.tell_to_end(EndReason.LEASE, (parked,))
        theirs.shutdown(socket.SHUT_WR)
        self.assertFalse(registry.hear_from_server(parked))
        self.assertEqual((parked.state, parked.is_blocked), (State.ENDING, True))


class EndTest(PumpCase):
    def test_at_the_end_all_get_their_farewell_and_what_was_published_before(self):
        pump = self.make_pump()
        clients = [self.park(pump) for _ in range(5)]
        self.log.append("a", "last")
        pump.request_close()
        for parked, theirs, finished in clients:
            self.assertTrue(finished.wait(10))
            self.assertTrue(parked.is_complete)
            self.assertRegex(self.received(theirs, b"0\r\n\r\n"), rb"data: last\n(?s:.*)" + FAREWELL)
        pump.join(10)
        self.assertEqual((pump.stream_count, self.parking_budget.taken), (0, 0))

    def test_at_the_end_a_client_that_does_not_read_is_cut_after_the_short_grace(self):
        pump = self.make_pump(grace=600, shutdown_grace=0.1)
        parked, _, finished = self.park(pump, b"x" * 4_000_000)
        with self.assertLogs("sse_threaded.fanout", "INFO") as logs:
            pump.request_close()
            self.assertTrue(finished.wait(10))
        self.assertIn("cut the connection of a client that does not read (shutdown)", logs.output[0])
        self.assertEqual((parked.is_complete, parked.state), (False, State.ABORTED))
        pump.join(10)
        self.assertEqual((pump.stream_count, self.parking_budget.taken), (0, 0))

    def test_of_what_waits_for_a_slow_client_only_the_batch_that_has_begun_is_sent_to_its_end(self):
        subscriber, theirs = parked_alone(self)
        for letter in b"abc":
            subscriber.deliver(Batch(bytes([letter]) * 1_000_000))
        subscriber.end(EndReason.SLOW, b"farewell")
        theirs.setblocking(False)
        body = b""
        while not subscriber.is_over:
            subscriber.continue_writing()
            with contextlib.suppress(BlockingIOError):
                body += theirs.recv(1_000_000)
        with contextlib.suppress(BlockingIOError):
            body += theirs.recv(1_000_000)
        self.assertEqual((body.count(b"a"), body.count(b"b"), body.count(b"c")), (1_000_001, 0, 0))
        self.assertTrue(body.endswith(b"farewell\r\n0\r\n\r\n"), body[-50:])

    def test_a_stream_that_is_parked_after_the_end_gets_a_farewell_at_once(self):
        pump = self.make_pump()
        pump.reserve()
        pump.request_close()
        pump.join(10)
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        finished = mock.Mock()
        cursor = Cursor(self.log, ["a"], None)
        parked = SocketSubscriber(("a",), 100, ours, chunked=False, cursor=cursor, handover=FakeHandover(finished))
        pump.park(parked, b"head")
        self.assertRegex(theirs.recv(1000), rb"\Ahead" + FAREWELL + rb"\Z")
        finished.assert_called_once_with()
        self.assertTrue(parked.is_complete)
        self.assertEqual((pump.stream_count, self.parking_budget.taken), (0, 0))

    def test_at_the_end_a_client_that_does_not_read_does_not_keep_the_pump_awake(self):
        pump = self.make_pump(shutdown_grace=0.2)
        _, _, finished = self.park(pump, b"x" * 4_000_000)
        with counted_selects() as selects:
            pump.request_close()
            self.assertTrue(finished.wait(10))
        self.assertLess(len(selects), 20)

    def test_a_stream_that_ends_while_it_is_parked_gets_no_events(self):
        add = Registry.add

        def add_and_end(registry, subscriber, **options):
            is_earliest = add(registry, subscriber, **options)
            registry.tell_to_end(EndReason.LEASE, (subscriber,))
            pump.check_soon(subscriber)
            wait_until(lambda: pump.stream_count == 0, message="the pump to give the stream back")
            self.log.append("a", "too late")
            return is_earliest

        for last_event_id in (None, "unknown"):  # with all events, and with a replay to come
            pump = self.make_pump()
            with self.subTest(last_event_id), mock.patch.object(Registry, "add", add_and_end):
                _, theirs, finished = self.park(pump, last_event_id=last_event_id)
                self.assertTrue(finished.is_set())
                self.assertRegex(self.received(theirs, b"0\r\n\r\n"), FAREWELL)
                self.assertEqual((len(pump._registry._audiences), self.parking_budget.taken), (0, 0))

    def test_a_thread_that_waits_in_a_stream_is_woken_when_another_one_ends_it(self):
        pump = self.make_pump()
        for end in (pump.end_stream, pump.end_response):
            subscriber = ThreadSubscriber(("a",), 10, None)
            pump.admit(subscriber)
            thread = threading.Thread(target=subscriber.take, daemon=True)
            thread.start()
            wait_until(lambda subscriber=subscriber: subscriber.sleeper.is_asleep)
            end(subscriber)
            thread.join(10)
            self.assertFalse(thread.is_alive())
            end(subscriber)
            self.assertEqual((pump.stream_count, self.budget.taken), (0, 0))

    def test_who_joins_it_waits_for_its_last_stream(self):
        pump = self.make_pump()
        subscriber = ThreadSubscriber(("a",), 10, None)
        pump.admit(subscriber)
        pump.request_close()
        wait_until(lambda: subscriber.end_reason is EndReason.SHUTDOWN)
        threading.Timer(0.1, pump.end_stream, (subscriber,)).start()
        pump.join(10)
        self.assertEqual(pump.stream_count, 0)
        self.assertRaises(HubClosed, pump._registry.add, subscriber)

    def test_a_place_is_given_back_to_the_process_that_gave_it(self):
        pump = self.make_pump()
        reservation = pump.reserve()
        pump.release(reservation)
        self.assertEqual(self.parking_budget.taken, 0)
        pump.reserve()
        pump.release(Registry(self.log, PACE))  # as after a fork, which a child's count does not have
        self.assertEqual(self.parking_budget.taken, 1)

    def test_after_the_end_nothing_is_admitted(self):
        pump = self.make_pump()
        pump.request_close()
        for call in (pump.require_open, pump.reserve, lambda: pump.admit(ThreadSubscriber(("a",), 1))):
            self.assertRaises(HubClosed, call)
        self.assertEqual((self.budget.taken, self.parking_budget.taken), (0, 0))


class EndingProcessTest(PumpCase):
    """The pump asks now and then whether its process is about to end."""

    def setUp(self):
        self.asked, self.is_ending = 0, False

    def ask(self):
        self.asked += 1
        return self.is_ending

    def make_asking_pump(self):
        pump = self.make_pump()
        pump._thread._is_ending = self.ask
        return pump

    def test_it_asks_though_events_come_without_a_pause_and_not_for_each(self):
        _, theirs, finished = self.park(self.make_asking_pump())
        for number in range(200):
            self.log.append("a", str(number))
            self.received(theirs, b"data: %d\n" % number)
        self.assertLess(self.asked, 100)
        self.is_ending = True
        wait_until(lambda: self.log.append("a", "more") and finished.is_set(), message="the end")

    def test_it_asks_once_a_second_if_nothing_happens(self):
        _, _, finished = self.park(self.make_asking_pump())
        wait_until(lambda: self.asked >= 3, message="three questions")
        self.is_ending = True
        self.assertTrue(finished.wait(10))

    def test_an_end_that_takes_long_keeps_no_core_busy(self):
        with counted_selects() as selects:
            pump = self.make_pump(shutdown_grace=30.0)
            parked, theirs, finished = self.park(pump, head=b"h" * 1_000_000, send_buffer=4096)
            pump.request_close()
            wait_until(lambda: parked.state is State.ENDING, message="the end")
            wait_until(lambda: selects[-1] > 0, message="a wait")
            for _ in range(3):
                before = len(selects)
                pump._thread.bell.ring()
                wait_until(lambda before=before: len(selects) > before and selects[-1] > 0, message="another wait")
        while not finished.is_set() and theirs.recv(65536):
            pass


class StrangeClientsTest(PumpCase):
    def test_a_defect_of_one_ends_all_and_the_pump_goes_on(self):
        class BrokenSocket(socket.socket):
            def send(self, data):
                if bytes(data) == b"head":
                    return super().send(data)
                raise MemoryError

        pump = self.make_pump(grace=0.1)
        with self.assertLogs("sse_threaded.fanout", "ERROR"):
            clients = [self.park(pump, b"head", kind) for kind in (BrokenSocket, *[socket.socket] * 5)]
            self.log.append("a", "x")
            for _, _, finished in clients:
                self.assertTrue(finished.wait(10))
        for _, theirs, _ in clients[1:]:
            self.assertTrue(theirs.recv(65536).endswith(b"0\r\n\r\n"))
        _, theirs, _ = self.park(pump, b"head")
        self.assertEqual(theirs.recv(65536), b"head")
        self.log.append("a", "y")
        self.assertIn(b"data: y", theirs.recv(65536))

    def test_one_that_hangs_up_while_its_last_bytes_wait_does_not_keep_the_pump_awake(self):
        pump = self.make_pump(lease=0.01)
        parked, theirs, finished = self.park(pump, b"x" * 4_000_000)
        wait_until(
            lambda: parked.end_reason is EndReason.LEASE and is_watched_for_writing(parked),
            message="the lease to end",
        )
        with counted_selects() as selects:
            theirs.shutdown(socket.SHUT_WR)
            finished.wait(1)
            self.assertLess(len(selects), 20)
        self.assertFalse(is_watched_for_reading(parked))
        # Not until its end: what is over is not closed here, so there may be none.
        theirs.setblocking(False)

        def reads_on():
            with contextlib.suppress(BlockingIOError):
                theirs.recv(65536)
            return finished.is_set()

        wait_until(reads_on, message="the end of it")
        self.assertTrue(parked.is_over)


class BellTest(PumpCase):
    """The pump need not wait for its next look, which may come a second later."""

    def rings(self, act, *arguments):
        with mock.patch.object(Doorbell, "ring") as ring:
            act(*arguments)
        return ring.call_count

    def test_a_stream_that_is_to_be_closed_wakes_it(self):
        self.assertEqual(self.rings(self.make_pump().close_later, mock.Mock()), 1)

    def test_its_end_and_a_stream_that_must_be_checked_wake_it(self):
        pump = self.make_pump()
        self.assertEqual(self.rings(pump.request_close), 1)
        self.assertEqual(self.rings(pump.check_soon, parked_alone(self)[0]), 1)

    def test_a_stream_with_a_thread_wakes_it_when_it_comes(self):
        pump = self.make_pump()
        for _ in range(2):
            subscriber = ThreadSubscriber(("a",), 10, None)
            self.addCleanup(pump.end_stream, subscriber)
            self.assertEqual(self.rings(pump.admit, subscriber), 1)

    def test_a_parked_stream_wakes_it_where_there_is_something_to_do(self):
        for heartbeat, options, expected in (
            (None, {}, 0),
            (60.0, {}, 0),
            (0.5, {}, 1),
            (None, {"head": b"x" * 4_000_000}, 1),
            (None, {"last_event_id": "unknown"}, 1),
        ):
            with self.subTest(heartbeat=heartbeat, options=list(options)):
                pump = self.make_pump(heartbeat=heartbeat)
                pump.reserve()
                self.assertEqual(self.rings(partial(self.park, pump, **options)), expected)

    def test_a_stream_that_is_parked_when_the_end_has_begun_wakes_it(self):
        pump = self.make_pump()
        with counted_selects() as selects:
            pump.reserve()
            wait_until(lambda: selects and selects[-1], message="the pump to wait")
        pump._thread.is_closing = True  # as request_close() does, but it wakes the pump
        with mock.patch.object(pump, "reserve"):
            self.assertEqual(self.rings(self.park, pump), 1)

    def test_the_last_stream_wakes_it_at_the_end_only(self):
        for is_closing, expected in ((False, 0), (True, 1)):
            with self.subTest(is_closing=is_closing):
                pump = self.make_pump()
                subscriber = ThreadSubscriber(("a",), 10, None)
                pump.admit(subscriber)
                if is_closing:
                    pump._thread.is_closing = True  # as request_close() does, but it wakes the pump
                self.assertEqual(self.rings(pump.end_stream, subscriber), expected)


class LogsEndTest(PumpCase):
    """Where a client without a last event ID begins: at the log's end, which is read if it is not known."""

    def opened(self, pump):
        """The id at which a client begins, and how often the log was asked for its end."""
        with mock.patch.object(self.log, "last_event_id", wraps=self.log.last_event_id) as asked:
            return pump.open_cursor(("a",), None).event_id, asked.call_count

    def wait_current(self, pump):
        wait_until(lambda: pump._thread.is_current, message="the pump has handed out all events")

    def test_it_is_known_while_no_bell_has_rung_that_the_pump_has_not_answered(self):
        pump = self.make_pump()
        self.assertEqual(self.opened(pump), (self.log.event_id(0), 1))  # the pump has not begun
        self.park(pump)
        self.wait_current(pump)
        self.assertEqual(self.opened(pump), (self.log.event_id(0), 0))
        last = self.log.append("a", "x")
        self.wait_current(pump)
        self.assertEqual(self.opened(pump), (last, 0))

    def test_an_event_that_was_published_before_is_never_delivered(self):
        pump = self.make_pump()
        self.park(pump)
        for step in ("select", "clear", "read"):  # the pump is stuck there, and then goes on
            with self.subTest(step):
                self.wait_current(pump)
                go_on, is_stuck, is_inside = threading.Event(), threading.Event(), threading.Event()
                where, name = {
                    "select": (SocketWatcher, "select"),
                    "clear": (Doorbell, "clear"),
                    "read": (self.log, "read"),
                }[step]
                usual = getattr(where, name)

                def stuck(*args, usual=usual, is_inside=is_inside, is_stuck=is_stuck, go_on=go_on, **options):
                    is_inside.set()
                    found = usual(*args, **options)
                    if threading.current_thread().name == "sse_threaded pump":
                        is_stuck.set()
                        go_on.wait(10)
                    return found

                with mock.patch.object(where, name, stuck):
                    if step == "select":
                        pump._thread.bell.ring()  # else it waits in the usual one
                        self.assertTrue(is_inside.wait(10))
                    last = self.log.append("a", step)
                    self.assertTrue(is_stuck.wait(10))
                    self.assertEqual(self.opened(pump), (last, 1))
                    go_on.set()
                self.wait_current(pump)
                self.assertEqual(self.opened(pump), (last, 0))

    def test_it_is_read_while_the_log_could_not_be_read(self):
        pump = self.make_pump()
        self.park(pump)
        self.wait_current(pump)
        with mock.patch.object(self.log, "read", side_effect=LogUnavailable("x", "away")):
            self.log.append("a", "x")
            wait_until(lambda: pump._thread._reader._failures, message="a failure")
            self.assertFalse(pump._thread.is_current)
            self.assertEqual(self.opened(pump)[1], 1)
        self.wait_current(pump)

    def test_a_log_that_rings_late_is_always_asked(self):
        pump = self.make_pump()
        self.park(pump)
        self.wait_current(pump)
        self.log.rings_first = False
        self.assertEqual(self.opened(pump), (self.log.event_id(0), 1))


class MemoryTest(PumpCase):
    def test_a_parked_stream_takes_little(self):
        for hears, most in ((True, 600), (False, 800)):
            pump = self.make_pump(lease=900, heartbeat=15)
            self.log.append("a", "x")
            pairs = [socket.socketpair() for _ in range(200)]
            for pair in pairs:
                for each in pair:
                    self.addCleanup(each.close)
            handovers = [FakeHandover(lambda: None, hears_hang_ups=hears) for _ in pairs]
            self.park(pump)  # what all share
            tracemalloc.start()
            self.addCleanup(tracemalloc.stop)
            before, _ = tracemalloc.get_traced_memory()
            for (ours, _), handover in zip(pairs, handovers, strict=True):
                pump.reserve()
                cursor = pump.open_cursor(("a",), None)
                parked = SocketSubscriber(("a",), 100, ours, chunked=True, cursor=cursor, handover=handover)
                pump.park(parked, b"head")
            del cursor, parked
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            with self.subTest(hears=hears):
                self.assertLess((after - before) / len(pairs), most)


class KeptThreadTest(PumpCase):
    def test_a_wrapped_stream_keeps_its_thread_if_one_more_may_be_held(self):
        pump = self.make_pump()
        with mock.patch("sse_threaded.fanout.pump.process_budget", Budget(1)) as threads:
            for is_free in (True, False):
                subscriber = WrappedSubscriber(("a",), 10, mock.Mock(), mock.Mock(), pump)
                subscriber.budget = self.budget
                pump.keep_thread(subscriber)
                self.assertEqual(subscriber.keeps_thread, is_free)
                self.assertIs(subscriber.end_reason, None if is_free else EndReason.OVERLOAD)
        self.assertEqual(threads.taken, 1)

    def test_a_stream_takes_a_place_of_the_hub_and_only_where_they_are_scarce_a_thread_of_the_process(self):
        pump = self.make_pump()
        with mock.patch("sse_threaded.fanout.pump.process_budget", Budget()) as threads:
            for options, taken in (({}, 0), ({"is_thread_scarce": True}, 1)):
                subscriber = ThreadSubscriber(("a",), 10, None)
                self.addCleanup(pump.end_stream, subscriber)
                pump.admit(subscriber, **options)
                self.assertEqual(threads.taken, taken)
        self.assertEqual((self.budget.taken, self.parking_budget.taken), (2, 0))


class BlockedHeartbeatTest(PumpCase):
    def test_a_heartbeat_that_the_socket_does_not_take_goes_out_when_it_does(self):
        pump = self.make_pump(heartbeat=0.3)
        parked, theirs, _ = self.park(pump, send_buffer=4096)
        self.received(theirs, b"head")
        with contextlib.suppress(BlockingIOError):
            while True:
                parked.connection.send(b"x" * 4096)
        wait_until(lambda: parked.is_blocked)
        received = b""
        while b"heartbeat" not in received:
            received = received[-20:] + theirs.recv(65536)


class ForkTest(PumpCase):
    def test_the_start_and_the_subscribers_are_locked_in_this_order(self):
        pump, calls = self.make_pump(), mock.Mock()
        with (
            mock.patch.object(PumpThread, "before_fork", calls.start),
            mock.patch.object(Registry, "before_fork", calls.subscribers),
        ):
            pump.before_fork()
        self.assertEqual(calls.mock_calls, [mock.call.start(), mock.call.subscribers()])

    def test_in_the_parent_it_goes_on_also_where_an_interrupt_came_before_the_locks(self):
        pump = self.make_pump()
        pump.after_fork(in_child=False)
        for _ in range(2):
            pump.before_fork()
            pump.after_fork(in_child=False)
            pump.after_fork(in_child=False)
        _, theirs, _ = self.park(pump)
        self.assertEqual(theirs.recv(100), b"head")

    def test_a_child_has_a_pump_and_subscribers_of_its_own(self):
        pump = self.make_pump()
        pump.before_fork()
        with mock.patch.object(SocketWatcher, "close", autospec=True, side_effect=SocketWatcher.close) as close:
            pump.after_fork(in_child=True)
        close.assert_called_once()
        _, theirs, _ = self.park(pump)
        self.assertEqual((theirs.recv(100), pump.stream_count), (b"head", 1))


class TimesTest(unittest.TestCase):
    """When the pump looks at a stream, on a clock that the test sets."""

    def setUp(self):
        clock = types.SimpleNamespace(monotonic=lambda: 1000.03)
        chance = types.SimpleNamespace(random=lambda: 0.0)
        for name, value in (("time", clock), ("random", chance)):
            patch = mock.patch.object(registry_module, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def make_registry(self, heartbeat):
        return Registry(MemoryLog(), Pace(retry=5000, heartbeat=heartbeat, lease=None))

    def test_a_look_comes_later_by_a_fiftieth_of_the_heartbeat_and_a_quarter_of_a_second_at_most(self):
        for heartbeat, due in ((5.0, 1005.1), (100.0, 1100.25), (None, NEVER)):
            registry = self.make_registry(heartbeat)
            registry.add(parked_alone(self)[0])
            self.assertAlmostEqual(registry.next_timer(), due)

    def test_the_pump_must_wake_up_for_the_earliest_timer_of_the_next_second(self):
        for heartbeat, is_earliest in ((0.5, True), (1.0, False), (1.5, False), (None, False)):
            registry = self.make_registry(heartbeat)
            self.assertIs(registry.add(parked_alone(self)[0]), is_earliest, heartbeat)
            self.assertIs(registry.add(parked_alone(self)[0]), False, "the first one comes first")


class RegistryTest(unittest.TestCase):
    """Steps of the registry, without a pump."""

    def setUp(self):
        self.log = MemoryLog()
        self.addCleanup(self.log.close)
        self.registry = self.make_registry()

    def make_registry(self, *, events=0, heartbeat=None, lease=None, **times):
        with self.log.transaction() as transaction:
            for number in range(1, events + 1):
                transaction.append("a", str(number))
        registry = Registry(self.log, Pace(retry=5000, heartbeat=heartbeat, lease=lease), **times)
        registry.begin(self.log.last_sequence())
        return registry

    def parked(self, last_event_id=None):
        parked, _ = parked_alone(self)
        if last_event_id is not None:
            parked.cursor = Cursor(self.log, ["a"], last_event_id)
        return parked

    def with_thread(self):
        subscriber = ThreadSubscriber(("a",), 10)
        subscriber.sleeper = mock.Mock()
        return subscriber

    def to_check(self):
        return list(iter(self.registry.next_to_check, None))

    def test_a_replay_comes_from_memory_as_far_as_that_goes(self):
        self.registry = self.make_registry(events=600)  # of which the newest 512 are in memory
        for after, numbers in ((87, None), (88, range(89, 601)), (598, (599, 600)), (600, ())):
            with self.subTest(after=after):
                parked = self.parked(self.log.event_id(after))
                batch = self.registry.missed(parked)
                if numbers is None:
                    self.assertIsNone(batch)
                    self.assertEqual(parked.cursor.after, after)
                    continue
                self.assertEqual(batch.count, len(numbers))
                self.assertEqual([int(each) for each in re.findall(rb"data: (\d+)", batch.body)], list(numbers))
                self.assertEqual(parked.cursor.after, 600)

    def test_there_is_none_without_a_position_in_this_log(self):
        self.registry = self.make_registry(events=5)
        self.assertIsNone(self.registry.missed(self.parked()))
        self.assertIsNone(self.registry.missed(self.parked("unknown")), "a reset comes from the log")
        self.log.append("a", "the pump has not read this")
        self.assertIsNone(self.registry.missed(self.parked(self.log.event_id(6))))
        before = self.parked(self.log.event_id(5))
        self.log.after_fork(in_child=True)  # it has another epoch
        self.assertIsNone(self.registry.missed(before))
        self.assertIsNone(self.registry.missed(self.parked(self.log.event_id(5))))

    def test_one_that_has_all_events_is_attached(self):
        self.registry = self.make_registry(events=5)
        behind, ready = self.parked(self.log.event_id(4)), self.parked(self.log.event_id(5))
        self.assertFalse(self.registry.attach_if_caught_up(behind))
        self.assertTrue(self.registry.attach_if_caught_up(ready))
        self.assertFalse(self.registry.attach_if_caught_up(ready), "it has no cursor any more")
        self.assertEqual((behind.cursor.after, ready.cursor, ready.after), (4, None, 5))
        self.log.append("a", "6")
        ((_, broadcast, others),) = self.registry.deliveries(self.log.read(5))
        self.assertEqual((len(others), self.registry.position), (0, 6))
        self.assertIs(ready.broadcast, broadcast)
        late = self.parked(self.log.event_id(6))
        self.log.after_fork(in_child=True)
        self.assertFalse(self.registry.attach_if_caught_up(late))

    def test_events_of_another_log_are_not_delivered(self):
        self.registry = self.make_registry(events=5)
        self.log.append("a", "6")
        page = self.log.read(5)
        self.log.after_fork(in_child=True)
        with self.assertRaises(HistoryGone) as raised:
            self.registry.deliveries(page)
        self.assertEqual((raised.exception.reason, self.registry.position), ("epoch", 5))

    def test_after_a_gap_all_end_and_the_memory_begins_there(self):
        self.registry = self.make_registry(events=5)
        parked = self.parked()
        self.registry.add(parked)
        self.registry.skip_to(9)
        self.assertEqual((parked.end_reason, self.registry.position), (EndReason.BEHIND, 9))
        self.assertEqual(self.to_check(), [parked])
        for after in (5, 8):
            late = self.parked()
            late.cursor = types.SimpleNamespace(epoch=self.log.epoch, after=after, reset=None)
            self.assertIsNone(self.registry.missed(late))
        late.cursor.after = 9
        nothing = self.registry.missed(late)
        self.assertEqual((nothing.body, nothing.count), (b"", 0))

    def test_one_that_has_ended_is_attached_to_nothing(self):
        self.registry = self.make_registry(events=5)
        subscriber = self.with_thread()
        self.registry.add(subscriber)
        self.registry.tell_to_end(EndReason.LEASE, (subscriber,))
        self.assertEqual(self.registry.attach(subscriber, 3), 5)
        self.log.append("a", "6")
        self.assertEqual(self.registry.deliveries(self.log.read(5)), [])

    def test_one_that_ends_gets_no_more_events(self):
        self.registry = self.make_registry(events=5)
        subscriber = self.with_thread()
        self.registry.add(subscriber)
        self.registry.attach(subscriber, 5)
        self.registry.tell_to_end(EndReason.LEASE, (subscriber,))
        self.log.append("a", "6")
        self.assertEqual(self.registry.deliveries(self.log.read(5)), [])

    def test_one_whose_stream_has_ended_gets_no_events_while_its_response_goes_on(self):
        self.registry = self.make_registry(events=5)
        subscriber = WrappedSubscriber(("a",), 10, parked_alone(self)[0].connection, mock.Mock(), mock.Mock())
        self.registry.add(subscriber)
        self.registry.attach(subscriber, 5)
        self.log.append("a", "6")
        self.assertEqual(len(self.registry.deliveries(self.log.read(5))), 1)
        self.registry.end_stream(subscriber)
        self.log.append("a", "7")
        self.assertEqual(self.registry.deliveries(self.log.read(6)), [])

    def test_the_end_of_each_is_checked_once(self):
        subscribers = [self.with_thread(), self.parked()]
        for subscriber in subscribers:
            self.registry.add(subscriber)
        self.assertEqual(self.to_check(), [])
        self.registry.tell_all_to_end(EndReason.SHUTDOWN)
        self.assertEqual(set(self.to_check()), set(subscribers))
        self.registry.tell_all_to_end(EndReason.LEASE)
        self.registry.tell_to_end(EndReason.LEASE, subscribers)
        self.assertEqual(self.to_check(), [])
        self.assertEqual({subscriber.end_reason for subscriber in subscribers}, {EndReason.SHUTDOWN})

    def test_who_is_to_be_checked_is_in_order(self):
        first, second, third = (self.with_thread() for _ in range(3))
        self.registry.check_soon(first)
        self.registry.check_all_soon([second, third])
        self.assertEqual(self.to_check(), [first, second, third])

    def test_one_that_cannot_be_watched_is_lost_and_checked(self):
        for step in ("add", "watch", "hear"):
            with self.subTest(step):
                parked, theirs = parked_alone(self)
                theirs.sendall(b"x")
                if step != "add":
                    self.registry.add(parked)
                with mock.patch.object(self.registry.watcher, "watch", return_value=False):
                    getattr(self.registry, step)(parked)
                self.assertTrue(parked.state.is_lost)
                self.assertEqual(self.to_check(), [parked])

    def test_it_shuts_when_all_have_left(self):
        subscriber = self.with_thread()
        self.registry.add(subscriber)
        self.assertFalse(self.registry.shut_if_empty())
        other = self.with_thread()
        self.registry.add(other)
        for each in (subscriber, other):
            self.assertTrue(self.registry.end_stream(each))
            self.assertFalse(self.registry.end_stream(each))
            self.assertFalse(self.registry.end_response(each))
        self.assertTrue(self.registry.shut_if_empty())
        self.assertRaises(HubClosed, self.registry.add, self.with_thread())
        self.assertEqual(len(self.registry), 0)

    def test_an_end_has_its_grace_and_less_at_a_shutdown(self):
        for reason, grace in ((EndReason.LEASE, 50.0), (EndReason.SHUTDOWN, 20.0)):
            with self.subTest(reason=reason):
                self.registry = self.make_registry(grace=50.0, shutdown_grace=20.0)
                subscriber = self.with_thread()
                self.registry.add(subscriber)
                before = time.monotonic()
                self.registry.tell_to_end(reason, (subscriber,))
                after = time.monotonic()
                self.assertEqual(self.to_check(), [subscriber])
                due = self.registry.next_timer()
                self.assertEqual(due, subscriber.deadline)
                self.assertTrue(before + grace <= due <= after + grace)
                self.assertEqual(self.registry.run_timers(due - 1.0).stuck, [])
                self.assertEqual(self.registry.run_timers(due).stuck, [subscriber])
                self.assertIs(subscriber.state, State.CUT)
                self.assertEqual(self.to_check(), [subscriber])
                self.assertEqual(self.registry.next_timer(), due + 50.0, "the next look, whether it is closed")
                self.assertEqual(self.registry.run_timers(due + 50.0).stuck, [], "it is told once")

    def test_a_lease_ends_when_it_is_due(self):
        self.registry = self.make_registry(lease=100.0)
        subscriber = self.with_thread()
        self.registry.add(subscriber)
        self.registry.run_timers(subscriber.deadline - 0.01)
        self.assertIsNone(subscriber.end_reason)
        self.registry.run_timers(self.registry.next_timer())
        self.assertIs(subscriber.end_reason, EndReason.LEASE)

    def test_a_heartbeat_that_a_socket_does_not_take_is_to_be_checked(self):
        for is_full in (False, True):
            self.registry = self.make_registry(heartbeat=10.0)
            parked = self.parked()
            self.registry.add(parked)
            if is_full:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        parked.connection.send(b"x" * 10_000)
            self.registry.run_timers(time.monotonic() + 20.0)
            self.assertEqual((parked.is_blocked, self.to_check()), (is_full, [parked] * is_full))

    def test_which_threads_are_missed(self):
        for looks, abandoned, is_doubtful in ((0, False, False), (2, False, True), (6, True, True)):
            with self.subTest(looks=looks):
                self.registry = self.make_registry(heartbeat=10.0)
                first, second = self.with_thread(), self.with_thread()
                for each in (first, second):
                    self.registry.add(each)
                counted = {first: looks, second: 0}
                with mock.patch.object(ThreadSubscriber, "count_idle_looks", lambda each, of=counted: of[each]):
                    found = self.registry.run_timers(time.monotonic() + 20.0)
                self.assertEqual(found.abandoned, [first] if abandoned else [])
                self.assertIs(found.is_one_doubtful, is_doubtful)
                self.assertEqual((len(first.take_now()), len(second.take_now())), (0 if abandoned else 1, 1))


class PumpThreadTest(unittest.TestCase):
    """Turns of the pump's thread, each part of it a stand-in, on a clock that the test sets."""

    def setUp(self):
        self.slept = []
        clock = types.SimpleNamespace(monotonic=lambda: 1000.0, sleep=self.slept.append)
        patch = mock.patch.object(pump_thread, "time", clock)
        patch.start()
        self.addCleanup(patch.stop)
        self.parts = mock.Mock()
        self.registry, self.reader = self.parts.registry, self.parts.reader
        self.registry.next_timer.return_value = self.reader.due = self.parts.wakeup.due = NEVER
        self.registry.next_to_check.return_value = None
        self.registry.run_timers.return_value = DueTimers([], False, [])
        self.registry.shut_if_empty.return_value = True
        self.parts.is_ending.return_value = False
        self.replay = mock.MagicMock()
        self.replay.__bool__.return_value = False
        self.log = MemoryLog()
        self.addCleanup(self.log.close)
        self.thread = PumpThread(
            self.log,
            self.registry,
            reader=self.reader,
            replay=self.replay,
            wakeup=self.parts.wakeup,
            abandoned=self.parts.abandoned,
            is_ending=self.parts.is_ending,
            close_abandoned=self.parts.close_abandoned,
        )

    def run_turns(self, *turns):
        """Run the thread: what its wait gives in each turn, or raises. The last turn is the end's."""
        left = [*turns]

        def select(timeout):
            if not left or len(left) == 1:
                self.thread.is_closing = True
            turn = left.pop(0) if left else []
            if isinstance(turn, Exception):
                raise turn
            return turn

        self.registry.watcher.select.side_effect = select
        self.thread.start()
        self.thread.join(10)
        self.assertEqual(left, [])
        return [call.args[0] for call in self.registry.watcher.select.call_args_list]

    def key(self, data):
        return types.SimpleNamespace(data=data)

    def test_it_waits_for_the_earliest_and_a_second_at_most(self):
        for due, waits in ((NEVER, 1.0), (1002.0, 1.0), (1000.25, 0.25), (1000.0, 0.0), (999.0, 0.0)):
            for part in ("timer", "reader", "wakeup"):
                with self.subTest(due=due, part=part):
                    self.setUp()
                    if part == "timer":
                        self.registry.next_timer.return_value = due
                    else:
                        getattr(self.parts, part).due = due
                    # In its first turn it asks at once whether the process ends.
                    self.assertEqual(self.run_turns([], []), [0.0, waits])

    def test_while_a_replay_goes_on_it_does_not_wait(self):
        self.replay.__bool__.return_value = True
        self.assertEqual(self.run_turns([]), [0.0])

    def test_at_the_end_it_tells_all_at_once_and_then_waits_for_them(self):
        self.registry.shut_if_empty.side_effect = [False, False, True]
        self.thread.is_closing = True
        self.assertEqual(self.run_turns([], [], []), [0.0, 1.0, 1.0])
        self.assertEqual(self.registry.tell_all_to_end.mock_calls, [mock.call(EndReason.SHUTDOWN)] * 3)
        self.assertEqual(
            self.reader.read.mock_calls, [mock.call(was_rung=False, is_own=False, is_closing=True)] * 3
        )

    def test_a_turn_in_order(self):
        self.replay.run = self.parts.replay_run
        self.registry.next_timer.return_value = 1000.0
        self.run_turns([], [])
        names = [name for name, _, _ in self.parts.mock_calls if "watcher" not in name]
        turn = [
            "registry.next_timer",
            "reader.read",
            "abandoned.close_all",
            "registry.run_timers",
            "wakeup.advance",
            "replay_run",
            "registry.next_to_check",
        ]
        end = [*turn[:2], "registry.tell_all_to_end", *turn[2:], "registry.shut_if_empty"]
        self.assertEqual(names, ["registry.begin", *turn, "is_ending", *end])

    def test_where_the_process_ends_the_hub_ends(self):
        for is_ending, turns in ((True, 2), (False, 20)):
            self.setUp()
            self.parts.is_ending.return_value = is_ending
            waits = self.registry.watcher.select

            def select(timeout, waits=waits):
                self.thread.is_closing |= waits.call_count == 20
                return []

            waits.side_effect = select
            self.thread.start()
            self.thread.join(10)
            self.assertEqual(waits.call_count, turns)
            self.registry.tell_all_to_end.assert_called_once_with(EndReason.SHUTDOWN)

    def test_which_bell_has_rung(self):
        self.thread.bell.ring()
        self.run_turns([(self.key(self.thread.bell), 1)], [])
        reads = [mock.call(was_rung=False, is_own=False, is_closing=closing) for closing in (False, True)]
        self.assertEqual(self.reader.read.mock_calls, reads)
        self.assertFalse(is_readable(self.thread.bell))
        self.setUp()
        doorbell = self.log.open_doorbell()
        doorbell.ring()
        with mock.patch.object(self.log, "open_doorbell", return_value=doorbell):
            self.run_turns([(self.key(doorbell), 1)], [])
        self.assertEqual(self.reader.read.mock_calls[0], mock.call(was_rung=True, is_own=False, is_closing=False))
        self.assertEqual(self.reader.read.mock_calls[1], reads[1])
        self.assertFalse(is_readable(doorbell))
        self.assertTrue(doorbell.closed)
        watched = [call.args[0] for call in self.registry.watcher.watch_doorbell.call_args_list]
        self.assertEqual(watched, [doorbell, self.thread.bell])

    def test_what_a_socket_is_ready_for(self):
        subscriber = mock.Mock()
        subscriber.continue_writing.return_value = 0, 0
        for events, writes, hears in ((1, False, True), (2, True, False), (3, True, True)):
            self.setUp()
            subscriber.reset_mock()
            self.run_turns([(self.key(subscriber), events)])
            self.assertIs(subscriber.continue_writing.called, writes)
            self.assertEqual(self.registry.check_soon.mock_calls, [mock.call(subscriber)] * writes)
            self.assertEqual(self.registry.hear.mock_calls, [mock.call(subscriber)] * hears)

    def test_after_a_defect_all_end_once_and_it_pauses(self):
        with self.assertLogs("sse_threaded.fanout.pump_thread", "ERROR") as logs:
            self.run_turns(RuntimeError("a defect"), [], [])
        self.assertEqual(len(logs.output), 1)
        self.assertEqual(self.slept, [0.1])
        self.reader.postpone.assert_called_once_with(1.0)
        ends = [mock.call(EndReason.BEHIND), mock.call(EndReason.SHUTDOWN)]
        self.assertEqual(self.registry.tell_all_to_end.mock_calls, ends)

    def test_what_the_timers_find(self):
        left, stuck = mock.Mock(), mock.Mock(end_reason=EndReason.SLOW, channels=("a",))
        for found, collects in ((DueTimers([left], True, []), True), (DueTimers([], False, [stuck]), False)):
            self.setUp()
            self.registry.run_timers.return_value = found
            self.registry.next_timer.return_value = 1000.0
            told = self.assertLogs if found.stuck else self.assertNoLogs
            with told("sse_threaded.fanout.pump_thread", "INFO"):
                self.run_turns([])
            self.registry.run_timers.assert_called_once_with(1000.0)
            self.assertEqual(self.parts.close_abandoned.mock_calls, [mock.call(each) for each in found.abandoned])
            self.assertEqual(self.parts.abandoned.collect.mock_calls, [mock.call(1000.0)] * collects)

    def check(self, **values):
        """Have it check one subscriber; returns the subscriber."""
        given = {"is_over": False, "is_blocked": False, "cursor": None, "watched_events": 1, **values}
        state = types.SimpleNamespace(is_closed=False, is_lost=False)
        vars(state).update(given.pop("state", {}))
        subscriber = mock.Mock(state=state, **given)
        self.setUp()
        self.registry.next_to_check.side_effect = [subscriber, None]
        return subscriber

    def test_one_that_is_over_is_given_back(self):
        for is_registered in (True, False):
            subscriber = self.check(is_over=True)
            self.registry.end_response.return_value = is_registered
            self.run_turns([])
            self.registry.end_response.assert_called_once_with(subscriber)
            self.assertEqual((subscriber.give_back.called, subscriber.finish.called), (is_registered,) * 2)

    def test_one_that_is_closed_or_goes_on_is_left_alone(self):
        is_closed = {"state": {"is_closed": True}, "is_over": True}
        for values in (is_closed, {}, {"is_blocked": True, "watched_events": 3}):
            subscriber = self.check(**values)
            self.run_turns([])
            self.assertFalse(self.registry.end_response.called or self.registry.watch.called)
            self.assertFalse(self.registry.tell_to_end.called or subscriber.give_back.called)

    def test_all_are_checked_whatever_became_of_the_first(self):
        closed = types.SimpleNamespace(state=types.SimpleNamespace(is_closed=True))
        subscriber = self.check(is_over=True)
        self.registry.next_to_check.side_effect = [closed, subscriber, None]
        self.run_turns([])
        self.registry.end_response.assert_called_once_with(subscriber)

    def test_one_that_is_lost_is_told_to_end(self):
        subscriber = self.check(state={"is_lost": True})
        self.run_turns([])
        self.registry.tell_to_end.assert_called_once_with(EndReason.GONE, (subscriber,))

    def test_one_that_is_blocked_or_not_any_more_is_watched_for_that_and_its_replay_goes_on(self):
        for is_blocked, cursor, is_replayed in ((True, "a", False), (False, "a", True), (False, None, False)):
            subscriber = self.check(is_blocked=is_blocked, cursor=cursor, watched_events=1 if is_blocked else 3)
            self.run_turns([])
            self.registry.watch.assert_called_once_with(subscriber)
            self.assertEqual(self.replay.add.mock_calls, [mock.call(subscriber)] * is_replayed)

    def test_it_starts_once_at_the_logs_end_and_keeps_no_process_from_its_end(self):
        self.log.append("a", "x")
        begun, ends = threading.Event(), threading.Event()
        self.registry.shut_if_empty.side_effect = lambda: begun.set() or ends.wait(10)
        self.thread.is_closing = True
        self.registry.watcher.select.return_value = []
        self.assertFalse(self.thread.is_started)
        self.thread.start()
        self.assertTrue(begun.wait(10))
        self.thread.start()
        self.assertTrue(self.thread.is_started)
        self.registry.begin.assert_called_once_with(1)
        (pump,) = [each for each in threading.enumerate() if each.name == "sse_threaded pump"]
        self.assertTrue(pump.daemon)
        ends.set()
        self.thread.join(10)
        self.assertFalse(pump.is_alive())

    def test_what_the_system_refuses_is_tried_again(self):
        refused = OSError(24, "Too many open files")
        with mock.patch.object(self.log, "open_doorbell", side_effect=refused):
            self.assertRaisesRegex(Overloaded, "Too many open files", self.thread.start)
        doorbell = self.log.open_doorbell()
        with (
            mock.patch.object(self.log, "open_doorbell", return_value=doorbell),
            mock.patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread")),
        ):
            self.assertRaisesRegex(Overloaded, "no more threads", self.thread.start)
        self.assertTrue(doorbell.closed)
        self.assertFalse(self.thread.is_started)
        self.run_turns([])
        self.assertTrue(self.thread.is_started)


class LogReaderTest(unittest.TestCase):
    """The reading of the log, on a clock that the test sets."""

    def setUp(self):
        self.now = 0.5  # as just after the machine's start
        clock = types.SimpleNamespace(monotonic=lambda: self.now)
        patch = mock.patch.object(log_reader, "time", clock)
        patch.start()
        self.addCleanup(patch.stop)
        self.log = mock.Mock(poll_interval=None, url="memory://")
        self.log.read.return_value = Page()
        self.registry = mock.Mock(position=7, place=("abcdef", 7))
        self.registry.deliveries.return_value = []
        self.reader = LogReader(self.log, self.registry, mock.Mock())

    def reads(self, *, was_rung=False, is_closing=False):
        """Whether it reads the log now."""
        self.log.read.reset_mock()
        self.reader.read(was_rung=was_rung, is_closing=is_closing)
        return self.log.read.called

    def test_it_reads_at_once_then_at_each_ring_and_for_the_end(self):
        self.assertTrue(self.reads())
        self.log.read.assert_called_once_with(7)
        self.assertEqual(self.reader.due, NEVER)
        self.assertTrue(self.reads(was_rung=True))
        self.now = 1e9
        self.assertFalse(self.reads())
        self.assertTrue(self.reads(was_rung=True))
        self.assertFalse(self.reads())
        self.assertTrue(self.reads(is_closing=True))

    def test_a_log_that_must_be_asked_is_asked_again_and_again(self):
        self.log.poll_interval = 2.0
        self.assertTrue(self.reads())
        self.assertEqual(self.reader.due, 2.5)
        self.assertFalse(self.reads())
        self.now = 2.5
        self.assertTrue(self.reads())

    def test_after_a_full_page_comes_the_next_at_once(self):
        page = Page([Record(8, "a", None, "x")])
        page.full = True
        self.log.read.return_value = page
        for _ in range(3):
            self.assertTrue(self.reads())
        self.assertEqual(self.registry.deliveries.mock_calls, [mock.call(page)] * 3)

    def test_after_events_it_pauses_for_half_the_time_that_they_took(self):
        self.log.read.return_value = Page([Record(8, "a", None, "x")])

        def send(batch):
            self.now += 0.01
            return []

        self.registry.deliveries.return_value = [(Batch(b"x"), mock.MagicMock(send=send), ())]
        self.assertTrue(self.reads())
        self.assertFalse(self.reads(was_rung=True))
        self.assertAlmostEqual(self.reader.due, self.now + 0.005)
        self.now = self.reader.due
        self.assertTrue(self.reads())

    def test_it_can_be_told_to_read_later(self):
        self.reader.postpone(1.0)
        self.assertEqual(self.reader.due, 1.5)
        self.assertFalse(self.reads())

    def test_a_log_that_cannot_be_read_is_tried_again_after_longer_and_longer_times(self):
        doubling = [1, 2, 4, 8, 16, 32, 64, 64]
        for options, delays in (
            ({"first_retry": 0.01}, [0.01 * each for each in doubling]),
            ({}, [0.1 * each for each in doubling[:6]] + [5.0] * 2),
        ):
            self.reader = LogReader(self.log, self.registry, mock.Mock(), **options)
            for _ in range(2):  # and when it could be read, from the first on
                self.log.read.side_effect = LogUnavailable("memory://", "away")
                with self.assertLogs("sse_threaded.fanout.log_reader", "ERROR") as logs:
                    for delay in delays:
                        self.assertTrue(self.reads(is_closing=True))
                        self.assertAlmostEqual(self.reader.due, self.now + delay)
                self.assertEqual(len(logs.output), 1)
                self.log.read.side_effect = None
                with self.assertLogs("sse_threaded.fanout.log_reader", "WARNING") as logs:
                    self.assertTrue(self.reads(is_closing=True))
                    self.assertTrue(self.reads(is_closing=True))
                self.assertEqual(len(logs.output), 1)

    def test_where_events_are_gone_it_goes_on_at_the_end_as_soon_as_that_is_known(self):
        self.log.read.side_effect = HistoryGone("expired")
        self.log.last_sequence.side_effect = LogUnavailable("memory://", "away")
        with self.assertLogs("sse_threaded.fanout.log_reader", "ERROR"):
            self.assertTrue(self.reads())
        self.assertAlmostEqual(self.reader.due, self.now + 0.1)
        self.log.read.side_effect = self.log.last_sequence.side_effect = None
        self.log.last_sequence.return_value = 42
        # A log may have begun another epoch since then, and says so at the next reading.
        self.assertTrue(self.reads(is_closing=True))
        self.registry.deliveries.assert_not_called()
        self.registry.skip_to.assert_called_once_with(42, [])  # the log has another epoch now
        self.assertTrue(self.reads())

    def test_who_has_to_be_checked_or_is_too_slow_is_told(self):
        self.log.read.return_value = Page([Record(8, "a", None, "x")])
        first, second, third, slow = (mock.Mock(pump_writes=True) for _ in range(4))
        second.deliver.return_value, third.deliver.return_value = True, False
        slow.deliver.side_effect = queue.Full
        broadcast = mock.MagicMock()
        broadcast.__len__.return_value = 1
        broadcast.send.return_value = [first]
        batch = Batch(b"x")
        self.registry.deliveries.return_value = [(batch, broadcast, (slow, second)), (batch, None, (third,))]
        with self.assertLogs("sse_threaded.fanout.log_reader", "INFO"):
            self.assertTrue(self.reads())
        self.registry.check_all_soon.assert_called_once_with([first, second])
        self.registry.tell_to_end.assert_called_once_with(EndReason.SLOW, [slow])
        third.deliver.assert_called_once_with(batch)
        third.deliver.side_effect = MemoryError
        self.registry.check_all_soon.reset_mock()
        self.assertRaises(MemoryError, self.reads, is_closing=True)
        self.registry.check_all_soon.assert_called_once_with([first, second])


class HeartbeatTest(unittest.TestCase):
    def test_for_a_stalled_thread_one_waits_and_no_more(self):
        registry = Registry(MemoryLog(), Pace(retry=5000, heartbeat=1.0, lease=None))
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        subscriber = ThreadSubscriber(("a",), 10, ours)
        subscriber.sleeper = Sleeper(SerialWakeup())
        registry.add(subscriber)
        now = time.monotonic()
        for beat in range(1, 20):
            registry.run_timers(now + 2 * beat)
        self.assertEqual(subscriber.waiting, 0, "it is no event")
        self.assertEqual([batch.body for batch in subscriber.take_now()], [b": heartbeat\n"])
        registry.run_timers(now + 100)
        self.assertEqual(len(subscriber.take_now()), 1, "the next comes when that one was taken")
        subscriber.deliver(Batch(b"data: x\n\n"))
        registry.run_timers(now + 200)
        self.assertEqual([batch.body for batch in subscriber.take_now()], [b"data: x\n\n"])

    def test_for_a_parked_client_that_does_not_read_no_heartbeat_waits(self):
        registry = Registry(MemoryLog(), Pace(retry=5000, heartbeat=1.0, lease=None))
        subscriber, _ = parked_alone(self)
        registry.add(subscriber)
        while not subscriber.is_blocked:
            subscriber.deliver(Batch(b"x" * 10_000))
        sent, waiting = subscriber.sent, subscriber.waiting
        now = time.monotonic()
        for beat in range(1, 20):
            registry.run_timers(now + 2 * beat)
        self.assertEqual((subscriber.sent, subscriber.waiting), (sent, waiting))


PACE = Pace(retry=5000, heartbeat=None, lease=None)


def is_readable(doorbell):
    return bool(select.select([doorbell], [], [], 0)[0])


def parked_alone(test, *, hears_hang_ups=False):
    """A parked subscriber without a pump, and its client's socket."""
    ours, theirs = socket.socketpair()
    test.addCleanup(ours.close)
    test.addCleanup(theirs.close)
    ours.setblocking(False)
    handover = FakeHandover(lambda: None, hears_hang_ups=hears_hang_ups)
    return SocketSubscriber(("a",), 100, ours, chunked=True, cursor=None, handover=handover), theirs


if __name__ == "__main__":
    unittest.main()
