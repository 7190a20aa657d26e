"""A wrapped stream: its thread comes and goes, and its socket has a deadline when the stream has ended."""

import socket
import time
import unittest
from unittest import mock

from sse_threaded.fanout.pace import Pace
from sse_threaded.fanout.registry import GRACE, Registry
from sse_threaded.fanout.serial_wakeup import SerialWakeup, Sleeper
from sse_threaded.fanout.socket_watcher import is_watched_for_writing
from sse_threaded.fanout.stream_state import EndReason, State
from sse_threaded.fanout.wrapped_subscriber import WrappedSubscriber
from sse_threaded.log import MemoryLog
from sse_threaded.protocol.batch import Batch

EVENT = Batch(b"data: x\n\n")


class WrappedCase(unittest.TestCase):
    def setUp(self):
        log = MemoryLog()
        self.addCleanup(log.close)
        self.registry = Registry(log, Pace(retry=5000, heartbeat=None, lease=None))
        ours, self.client = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(self.client.close)
        ours.setblocking(False)
        self.server, self.keeper = mock.Mock(), mock.Mock()
        self.subscriber = WrappedSubscriber(("a",), 10, ours, self.server, self.keeper)
        self.subscriber.sleeper = Sleeper(SerialWakeup())
        self.registry.add(self.subscriber)

    def fill(self):
        """Write more than the socket takes, as the thread that is at work."""
        self.subscriber.sendall(b"x" * 4_000_000)
        self.assertFalse(self.subscriber.flush())

    def drain(self):
        """Read all that the client was sent, and have the pump write the rest."""
        self.client.setblocking(False)
        read = 0
        while self.subscriber.is_blocked:
            try:
                read += len(self.client.recv(1_000_000))
            except BlockingIOError:
                pass
            self.subscriber.continue_writing()
        return read

    def resumed(self):
        """How often the pump has called a thread since the last question."""
        count = self.server.resume.call_count
        self.server.resume.reset_mock()
        return count


class ThreadTest(WrappedCase):
    def test_it_leaves_when_nothing_waits_and_is_called_for_the_next_event(self):
        self.assertTrue(self.subscriber.leave())
        self.subscriber.deliver(EVENT)
        self.assertEqual(self.resumed(), 1)
        self.subscriber.deliver(EVENT)
        self.assertEqual(self.resumed(), 0, "one is called already")
        self.assertFalse(self.subscriber.leave(), "events wait")
        self.assertEqual(self.subscriber.take_now(), [EVENT, EVENT])
        self.assertTrue(self.subscriber.leave())

    def test_while_its_socket_takes_nothing_no_thread_is_called(self):
        self.fill()
        self.assertTrue(self.subscriber.leave())
        self.keeper.check_soon.assert_called_once_with(self.subscriber)
        self.assertTrue(self.subscriber.is_blocked)
        self.subscriber.deliver(EVENT)
        self.assertEqual(self.resumed(), 0)
        self.drain()
        self.assertEqual(self.resumed(), 1)

    def test_after_an_interruption_it_goes_on_at_once(self):
        self.subscriber.interrupt()
        self.assertFalse(self.subscriber.leave())
        self.assertTrue(self.subscriber.leave())

    def test_an_end_calls_it_and_a_hang_up_tells_it_that_nobody_is_there(self):
        for reason, state in ((EndReason.LEASE, State.ENDING), (EndReason.GONE, State.LOST)):
            with self.subTest(reason):
                self.setUp()
                self.assertTrue(self.subscriber.leave())
                self.registry.tell_to_end(reason, [self.subscriber])
                self.assertEqual((self.resumed(), self.subscriber.state), (1, state))
                self.assertFalse(self.subscriber.leave())

    def test_where_the_wrapper_swallows_empty_chunks_it_stays(self):
        for _ in range(3):
            self.assertEqual(self.subscriber.take(), [])
        self.subscriber.deliver(EVENT)
        self.assertEqual(self.subscriber.take(), [EVENT])
        for _ in range(4):  # counted anew
            self.assertEqual(self.subscriber.take(), [])
        self.assertFalse(self.subscriber.keeps_thread)

        def keep_thread(subscriber):
            subscriber.keep_thread()
            subscriber.deliver(EVENT)

        self.keeper.keep_thread = keep_thread
        self.assertEqual(self.subscriber.take(), [EVENT], "from here on it waits")
        self.assertTrue(self.subscriber.keeps_thread)
        self.server.keep_thread.assert_called_once_with()
        self.assertEqual(self.resumed(), 0)


class RetiredTest(WrappedCase):
    def retire_blocked(self):
        self.fill()
        self.subscriber.leave()
        self.assertTrue(self.registry.end_stream(self.subscriber))
        self.registry.watch(self.subscriber)
        self.assertEqual((self.subscriber.state, len(self.registry)), (State.RETIRED, 1))
        self.assertTrue(is_watched_for_writing(self.subscriber))

    def test_it_counts_until_its_response_is_over(self):
        for _ in range(2):
            self.assertTrue(self.registry.end_stream(self.subscriber))
        self.assertEqual((self.subscriber.state, self.subscriber.end_reason), (State.RETIRED, EndReason.GONE))
        self.assertEqual(len(self.registry), 1)
        self.assertTrue(self.registry.end_response(self.subscriber))
        self.assertFalse(self.registry.end_response(self.subscriber))
        self.assertFalse(self.registry.end_stream(self.subscriber))
        self.assertEqual((self.subscriber.state, len(self.registry)), (State.CLOSED, 0))

    def test_it_has_all_the_time_while_its_socket_takes_bytes(self):
        self.registry.end_stream(self.subscriber)
        self.assertEqual(self.registry.run_timers(time.monotonic() + 1000).stuck, [])

    def test_a_socket_that_takes_nothing_is_cut_after_the_grace(self):
        self.retire_blocked()
        now = time.monotonic()
        self.assertEqual(self.registry.run_timers(now + GRACE - 1).stuck, [])
        self.assertEqual(self.registry.run_timers(now + GRACE + 1).stuck, [self.subscriber])
        self.assertIs(self.subscriber.state, State.CUT)
        self.assertEqual(self.resumed(), 1, "its thread is to find out")
        self.assertEqual(self.registry.run_timers(now + 3 * GRACE).stuck, [], "it is told once")
        self.registry.end_response(self.subscriber)
        self.assertIs(self.subscriber.state, State.ABORTED)

    def test_the_grace_is_over_when_the_socket_takes_all_or_is_lost(self):
        for is_lost in (False, True):
            with self.subTest(is_lost=is_lost):
                self.setUp()
                self.retire_blocked()
                if is_lost:
                    self.client.close()
                    self.subscriber.continue_writing()
                    self.assertIs(self.subscriber.state, State.RETIRED_LOST)
                else:
                    self.drain()
                self.registry.watch(self.subscriber)
                self.assertEqual(self.registry.run_timers(time.monotonic() + 1000).stuck, [])


if __name__ == "__main__":
    unittest.main()
