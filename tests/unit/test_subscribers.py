"""Subscribers with a thread, without their threads: how much may wait, what is taken at once, idle looks, ends."""

from __future__ import annotations

import os
import queue
import selectors
import socket
import types
import unittest
from typing import Any
from unittest import mock

from sse_threaded.fanout.budget import Budget
from sse_threaded.fanout.socket_watcher import (
    SocketWatcher,
    is_watched_for_reading,
    is_watched_for_writing,
)
from sse_threaded.fanout.stream_state import EndReason, State
from sse_threaded.fanout.subscriber import WAITING_BYTES, WRITE_BYTES
from sse_threaded.fanout.thread_subscriber import ThreadSubscriber
from sse_threaded.protocol.batch import Batch

HEARTBEAT = Batch(b": heartbeat\n", 0)


def make_subscriber(size: int = 3, connection: Any = None, **options: Any) -> Any:
    subscriber = ThreadSubscriber(("a",), size, connection, **options)
    subscriber.sleeper = mock.Mock()
    return subscriber


class WaitingTest(unittest.TestCase):
    def test_as_many_events_may_wait_as_it_says(self) -> None:
        subscriber = make_subscriber(3)
        for number in range(1, 4):
            self.assertFalse(subscriber.deliver(Batch(b"x")))
            self.assertEqual(subscriber.waiting, number)
        self.assertRaises(queue.Full, subscriber.deliver, Batch(b"x"))
        self.assertEqual(subscriber.waiting, 3)
        self.assertEqual(len(subscriber.take_now()), 3)
        self.assertEqual(subscriber.waiting, 0)
        subscriber.deliver(Batch(b"x"))

    def test_where_nothing_waits_a_batch_may_have_more(self) -> None:
        subscriber = make_subscriber(3)
        subscriber.deliver(Batch(b"x", 10))
        self.assertRaises(queue.Full, subscriber.deliver, Batch(b"x"))
        subscriber = make_subscriber(3)
        subscriber.deliver(Batch(b"x"))
        subscriber.deliver(Batch(b"x", 2))
        subscriber = make_subscriber(3)
        subscriber.deliver(Batch(b"x"))
        self.assertRaises(queue.Full, subscriber.deliver, Batch(b"x", 3))

    def test_8_megabytes_may_wait_before_the_next_event_is_too_much(self) -> None:
        self.assertEqual(WAITING_BYTES, 8 * 1024 * 1024)
        subscriber = make_subscriber(10)
        subscriber.deliver(Batch(b"x" * WAITING_BYTES))
        subscriber.deliver(Batch(b"x"))
        self.assertRaises(queue.Full, subscriber.deliver, Batch(b"x"))
        subscriber.take_now()
        subscriber.take_now()
        subscriber.deliver(Batch(b"x"))

    def test_a_heartbeat_is_for_those_for_whom_nothing_waits(self) -> None:
        subscriber = make_subscriber()
        subscriber.deliver_heartbeat(HEARTBEAT)
        subscriber.deliver_heartbeat(HEARTBEAT)
        self.assertEqual(subscriber.waiting, 0)
        self.assertEqual(subscriber.take_now(), [HEARTBEAT])
        subscriber.deliver(Batch(b"x"))
        subscriber.deliver_heartbeat(HEARTBEAT)
        self.assertEqual(len(subscriber.take_now()), 1)
        silent = make_subscriber(has_heartbeats=False)
        self.assertFalse(silent.deliver_heartbeat(HEARTBEAT))
        self.assertEqual(silent.take_now(), [])

    def test_each_delivery_calls_its_thread(self) -> None:
        subscriber = make_subscriber()
        subscriber.deliver(Batch(b"x"))
        self.assertEqual(subscriber.sleeper.call.call_count, 1)
        subscriber.take_now()
        subscriber.deliver_heartbeat(HEARTBEAT)
        self.assertEqual(subscriber.sleeper.call.call_count, 2)
        subscriber.end(EndReason.LEASE, b"farewell")
        self.assertEqual(subscriber.sleeper.call.call_count, 3)


class TakeTest(unittest.TestCase):
    def test_it_takes_64_kilobytes_and_the_event_that_goes_beyond(self) -> None:
        self.assertEqual(WRITE_BYTES, 64 * 1024)
        half, less = Batch(b"x" * (WRITE_BYTES // 2)), Batch(b"x" * (WRITE_BYTES // 2 - 1))
        for sizes, taken in (((half, half, half), 2), ((half, less, half, half), 3)):
            subscriber = make_subscriber(10)
            for batch in sizes:
                subscriber.deliver(batch)
            self.assertEqual(len(subscriber.take_now()), taken)
            self.assertEqual(subscriber.waiting, len(sizes) - taken)

    def test_it_sleeps_until_something_waits_unless_it_has_ended(self) -> None:
        subscriber = make_subscriber()
        subscriber.sleeper.sleep.side_effect = lambda todo, deadline: subscriber.deliver(Batch(b"x"))
        self.assertEqual(len(subscriber.take(7.0)), 1)
        self.assertEqual(subscriber.sleeper.sleep.call_args.args[1], 7.0)
        subscriber.end(EndReason.SHUTDOWN, b"farewell")
        subscriber.sleeper.sleep.reset_mock()
        self.assertEqual(subscriber.take(), [])
        subscriber.sleeper.sleep.assert_not_called()

    def test_what_waits_is_taken_before_the_end_but_not_where_it_is_too_slow(self) -> None:
        for reason, taken in ((EndReason.SHUTDOWN, 2), (EndReason.LEASE, 2), (EndReason.SLOW, 0)):
            subscriber = make_subscriber()
            subscriber.deliver(Batch(b"x"))
            subscriber.deliver(Batch(b"x"))
            subscriber.end(reason, b"farewell")
            self.assertEqual(len(subscriber.take()), taken)
            self.assertEqual(subscriber.take_now(), [])


class EndTest(unittest.TestCase):
    def test_the_first_reason_counts(self) -> None:
        for reason, state in ((EndReason.GONE, State.LOST), (EndReason.LEASE, State.ENDING)):
            subscriber = make_subscriber()
            subscriber.end(reason, b"first")
            subscriber.end(EndReason.SLOW, b"second")
            self.assertEqual((subscriber.end_reason, subscriber.farewell), (reason, b"first"))
            self.assertIs(subscriber.state, state)
            self.assertEqual(subscriber.sleeper.call.call_count, 1)

    def test_it_ends_where_as_much_waits_as_may(self) -> None:
        subscriber = make_subscriber(1)
        subscriber.deliver_heartbeat(HEARTBEAT)
        subscriber.deliver(Batch(b"x"))
        subscriber.end(EndReason.LEASE, b"farewell")
        self.assertEqual(len(subscriber.take()), 2)

    def test_its_thread_is_woken_if_it_sleeps(self) -> None:
        for sleeps in (True, False):
            subscriber = make_subscriber()
            subscriber.sleeper.stop.return_value = sleeps
            subscriber.free_thread()
            self.assertEqual(subscriber.sleeper.wake.called, sleeps)

    def test_it_gives_both_its_places_back(self) -> None:
        subscriber = make_subscriber()
        subscriber.budget, other = Budget(), Budget()
        subscriber.budget.take()
        other.take()
        subscriber.give_back()
        self.assertEqual((subscriber.budget.taken, other.taken), (0, 1))
        subscriber.budget.take()
        subscriber.thread_budget = other
        subscriber.give_back()
        self.assertEqual((subscriber.budget.taken, other.taken), (0, 0))


class IdleLooksTest(unittest.TestCase):
    def looks(self, subscriber: Any, count: int = 3) -> list[float]:
        return [subscriber.count_idle_looks() for _ in range(count)]

    def test_a_thread_for_which_nothing_waits_is_not_missed(self) -> None:
        self.assertEqual(self.looks(make_subscriber()), [0, 0, 0])

    def test_a_thread_that_does_not_come_is_missed_until_it_comes(self) -> None:
        subscriber = make_subscriber()
        subscriber.deliver(Batch(b"x"))
        self.assertEqual(self.looks(subscriber), [0, 1, 2])
        subscriber.take_now()
        self.assertEqual(self.looks(subscriber), [0, 0, 0])
        subscriber.deliver(Batch(b"x"))
        self.assertEqual(self.looks(subscriber), [1, 2, 3])

    def test_at_the_end_it_is_missed_though_nothing_waits(self) -> None:
        subscriber = make_subscriber()
        self.looks(subscriber, 1)
        subscriber.end(EndReason.LEASE, b"")
        subscriber.take_now()
        self.assertEqual(self.looks(subscriber), [1, 2, 3])

    def test_a_socket_may_have_the_number_of_the_standard_input(self) -> None:
        connection = mock.Mock()
        connection.fileno.return_value = 0
        self.assertEqual(self.looks(make_subscriber(connection=connection)), [0, 0, 0])

    def test_a_socket_says_more(self) -> None:
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        subscriber = make_subscriber(connection=ours)
        subscriber.deliver(Batch(b"x"))
        self.assertEqual(self.looks(subscriber), [0, 0, 0])
        ours.close()
        self.assertEqual(self.looks(subscriber, 1), [float("inf")])
        subscriber.lose_connection()
        self.assertEqual(self.looks(subscriber), [0, 1, 2])


class ConnectionTest(unittest.TestCase):
    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def test_after_it_was_shut_down_for_reading_the_end_can_be_sent(self) -> None:
        self.ours.settimeout(10)
        self.theirs.settimeout(10)
        subscriber = make_subscriber(connection=self.ours)
        subscriber.shut_down_reading()
        self.assertEqual(self.ours.recv(10), b"")
        self.ours.sendall(b"end")
        self.assertEqual(self.theirs.recv(10), b"end")
        subscriber.shut_down()
        self.assertEqual(self.theirs.recv(10), b"")
        self.assertRaises(OSError, self.ours.sendall, b"x")

    def test_without_a_connection_or_with_a_broken_one_that_is_no_error(self) -> None:
        self.ours.close()
        for connection in (None, self.ours):
            subscriber = make_subscriber(connection=connection)
            subscriber.shut_down_reading()
            subscriber.shut_down()

    def test_whether_the_client_has_hung_up(self) -> None:
        subscriber = make_subscriber(connection=self.ours)
        self.assertIsNone(subscriber.has_hung_up())
        self.theirs.sendall(b"x")
        for _ in range(2):
            self.assertIs(subscriber.has_hung_up(), False)
        self.ours.recv(1)
        self.theirs.close()
        self.assertIs(subscriber.has_hung_up(), True)
        self.ours.close()
        self.assertIs(subscriber.has_hung_up(), True)
        self.assertIsNone(make_subscriber().has_hung_up())


class WatcherTest(unittest.TestCase):
    def setUp(self) -> None:
        self.watcher = SocketWatcher()
        self.addCleanup(self.watcher.close)
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)
        self.subscriber: Any = types.SimpleNamespace(connection=self.ours, watched_events=0)

    def ready(self) -> list[tuple[Any, int]]:
        return [(key.data, events) for key, events in self.watcher.select(0)]

    def test_a_socket_is_watched_for_what_it_says(self) -> None:
        self.theirs.sendall(b"x")
        for reading, writing in ((True, False), (False, True), (True, True), (False, False)):
            with self.subTest(reading=reading, writing=writing):
                self.assertTrue(self.watcher.watch(self.subscriber, reading=reading, writing=writing))
                self.assertEqual(is_watched_for_reading(self.subscriber), reading)
                self.assertEqual(is_watched_for_writing(self.subscriber), writing)
                events = (selectors.EVENT_READ if reading else 0) | (selectors.EVENT_WRITE if writing else 0)
                self.assertEqual(self.ready(), [(self.subscriber, events)] if events else [])

    def test_after_that_it_is_not(self) -> None:
        self.watcher.watch(self.subscriber, reading=False, writing=True)
        self.watcher.unwatch(self.subscriber)
        self.assertEqual(self.ready(), [])
        self.watcher.unwatch(self.subscriber)
        self.subscriber.connection = None
        self.watcher.unwatch(self.subscriber)

    def test_the_selector_is_not_asked_for_what_was_never_watched(self) -> None:
        with mock.patch.object(self.watcher, "_selector") as selector:
            self.watcher.unwatch(self.subscriber)
        selector.get_key.assert_not_called()

    def test_each_beginning_closes_what_was_before(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            self.watcher.begin()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_a_socket_with_the_number_of_an_earlier_one_takes_its_place(self) -> None:
        self.watcher.watch(self.subscriber, reading=False, writing=True)
        later: Any = types.SimpleNamespace(connection=self.ours, watched_events=0)
        self.assertTrue(self.watcher.watch(later, reading=False, writing=True))
        self.watcher.unwatch(self.subscriber)  # the earlier one; it takes nothing from the later
        self.assertEqual(self.ready(), [(later, selectors.EVENT_WRITE)])

    def test_what_cannot_be_watched_is_told_and_what_has_no_socket_need_not_be(self) -> None:
        without: Any = types.SimpleNamespace(connection=None, watched_events=0)
        self.assertTrue(self.watcher.watch(without, reading=True, writing=True))
        self.ours.close()
        self.assertFalse(self.watcher.watch(self.subscriber, reading=True, writing=False))


if __name__ == "__main__":
    unittest.main()
