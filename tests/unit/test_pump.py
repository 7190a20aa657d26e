"""The pump and its parked streams: replay, ends, and sockets that behave in strange ways."""

import contextlib
import gc
import re
import socket
import threading
import time
import tracemalloc
import unittest
from unittest import mock

from sse_threaded import HubClosed
from sse_threaded.fanout.budget import Budget
from sse_threaded.fanout.cursor import Cursor
from sse_threaded.fanout.pace import Pace
from sse_threaded.fanout.pump import Pump
from sse_threaded.fanout.registry import Registry
from sse_threaded.fanout.serial_wakeup import SerialWakeup, Sleeper
from sse_threaded.fanout.socket_subscriber import SocketSubscriber
from sse_threaded.fanout.socket_watcher import SocketWatcher, is_watched_for_reading, is_watched_for_writing
from sse_threaded.fanout.stream_state import EndReason, State
from sse_threaded.fanout.thread_subscriber import ThreadSubscriber
from sse_threaded.log import MemoryLog
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
        self.assertEqual((pump.stream_count, self.parking_budget.taken), (0, 0))

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

    def test_the_last_stream_wakes_it_at_the_end_only(self):
        for is_closing, expected in ((False, 0), (True, 1)):
            with self.subTest(is_closing=is_closing):
                pump = self.make_pump()
                subscriber = ThreadSubscriber(("a",), 10, None)
                pump.admit(subscriber)
                if is_closing:
                    pump._thread.is_closing = True  # as request_close() does, but it wakes the pump
                self.assertEqual(self.rings(pump.end_stream, subscriber), expected)


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
