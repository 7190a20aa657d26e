"""Iterating a stream in ways that a server would not: from two threads, twice, after its end, across a fork."""

from __future__ import annotations

import gc
import itertools
import os
import socket
import threading
import unittest
from unittest import mock

from sse_threaded import Hub
from sse_threaded.fanout.handover import ENVIRON_KEY
from sse_threaded.fanout.lifecycle import parking_budget, process_budget
from sse_threaded.fanout.pump import Pump
from tests.support import wait_until
from tests.unit.fake_handover import FakeHandover

MAX_STREAMS = 8


class IteratingTest(unittest.TestCase):
    def setUp(self):
        self.hub = Hub(heartbeat=600, max_streams=MAX_STREAMS)
        self.addCleanup(self.hub.close)

    def free_places(self):
        """How many streams may be opened now."""
        opened = []
        while b"stream-start" in next(stream := self.stream()):
            opened.append(stream)
        stream.close()
        for each in opened:
            each.close()
        return len(opened)

    def stream(self, **environ):
        return self.hub.stream({"REQUEST_METHOD": "GET", **environ}, "a").response

    def in_thread(self, function, *args):
        """Call it on another thread; returns a list for its result or its exception, and the thread."""
        found = []

        def run():
            try:
                found.append(function(*args))
            except BaseException as error:
                found.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return found, thread

    def waiting(self):
        """A stream, what the thread that waits in it has found, and that thread."""
        stream = self.stream()
        self.assertIn(b"stream-start", next(stream))
        found, thread = self.in_thread(next, stream)
        wait_until(
            lambda: stream.subscriber is not None and stream.subscriber.sleeper.is_asleep, message="it waits"
        )
        return stream, found, thread

    def test_a_second_thread_is_refused_and_the_first_gets_its_event(self):
        stream, found, thread = self.waiting()
        with self.assertRaises(ValueError):
            next(stream)
        self.assertEqual(self.hub.streams, 1)
        self.hub.publish("a", "hello")
        thread.join(10)
        self.assertIn(b"data: hello", found[0])

    def test_another_thread_closes_it_and_the_one_that_waits_goes_on(self):
        stream, found, thread = self.waiting()
        stream.close()
        thread.join(10)
        self.assertFalse(thread.is_alive())
        self.assertIn(type(found[0]), (bytes, StopIteration))
        self.assertEqual(self.hub.streams, 0)

    def test_another_thread_closes_it_while_it_takes_its_place(self):
        stream = self.stream()
        admit = Pump.admit

        def closed_meanwhile(*args, **options):
            admit(*args, **options)
            stream.close()

        with mock.patch.object(Pump, "admit", closed_meanwhile):
            _, thread = self.in_thread(list, stream)
            thread.join(10)
        self.assertFalse(thread.is_alive())
        self.assertEqual(self.hub.streams, 0)

    def test_closed_it_gives_nothing_more(self):
        for begun in (0, 1):
            with self.subTest(begun=begun):
                stream = self.stream()
                self.assertEqual(len(list(itertools.islice(stream, begun))), begun)
                stream.close()
                stream.close()
                self.assertEqual(list(stream), [])
                self.assertEqual(self.hub.streams, 0)

    def test_it_has_one_iterator(self):
        stream = self.stream()
        first, second = iter(stream), iter(stream)
        next(first)
        self.hub.publish("a", "1")
        self.hub.publish("a", "2")
        self.assertIn(b"data: 1", next(second))
        self.assertIn(b"data: 2", next(first))

    def test_after_its_end_it_has_ended(self):
        stream = self.stream()
        next(stream)
        self.hub.request_close()
        self.assertIn(b"stream-end", b"".join(stream))
        self.assertEqual([list(stream), list(stream)], [[], []])
        self.assertEqual(self.hub.streams, 0)

    def test_a_dropped_stream_is_closed_whatever_thread_finds_it_and_whatever_locks_are_held(self):
        for reserved in (False, True):
            with self.subTest(reserved=reserved):
                stream = self.stream(**({ENVIRON_KEY: FakeHandover()} if reserved else {}))
                next(stream)
                circle = [stream]
                circle.append(circle)
                del stream, circle
                self.hub.before_fork()  # holds the locks that closing a stream takes
                try:
                    _, thread = self.in_thread(gc.collect)
                    thread.join(10)
                    self.assertFalse(thread.is_alive())
                finally:
                    self.hub.after_fork(in_child=False)
                wait_until(lambda: self.hub.streams == 0, message="no stream")
                wait_until(lambda: self.free_places() == MAX_STREAMS, message="all places")

    def test_asked_ahead_it_gives_its_parking_place_back_and_takes_a_thread(self):
        """A middleware that looks ahead by a chunk asks for more before the server can park the stream."""
        with (
            Hub() as hub,
            mock.patch.object(parking_budget, "limit", 1),
            mock.patch.object(process_budget, "limit", 1),
        ):
            before = parking_budget.taken, process_budget.taken
            self.assertEqual(before, (0, 0))
            handover = FakeHandover()
            ahead = hub.stream({"REQUEST_METHOD": "GET", ENVIRON_KEY: handover}, "a").response
            self.assertIn(b"stream-start", next(ahead))
            self.assertEqual((parking_budget.taken, process_budget.taken), (1, 0))
            found, thread = self.in_thread(next, ahead)
            wait_until(lambda: ahead.subscriber and ahead.subscriber.sleeper.is_asleep, message="it waits")
            self.assertEqual((parking_budget.taken, process_budget.taken), (0, 1))
            self.assertIsNone(ahead.park(handover, mock.Mock(), chunked=True), "it can be parked no more")
            other = hub.stream({"REQUEST_METHOD": "GET", ENVIRON_KEY: FakeHandover()}, "a").response
            self.assertIn(b"stream-start", next(other), "the parking place is free again")
            hub.publish("a", "hello")
            thread.join(10)
            self.assertIn(b"data: hello", found[0])
            ahead.close()
            other.close()
            self.assertEqual((parking_budget.taken, process_budget.taken), (0, 0))

    def test_a_stream_is_closed_however_it_is_dropped(self):
        def generator():
            yield from self.stream()

        def loop():
            for chunk in self.stream():  # noqa: UP028
                yield chunk

        def failing():
            for _ in self.stream():
                raise RuntimeError

        def drained(chunks):
            next(chunks)
            return chunks

        ways = {
            "del": lambda: drained(self.stream()),
            "generator": lambda: drained(generator()),
            "closed generator": lambda: drained(generator()).close(),
            "closed loop": lambda: drained(loop()).close(),
            "chain": lambda: drained(itertools.chain(self.stream(), [b""])),
            "map": lambda: drained(map(bytes, self.stream())),
            "zip": lambda: drained(zip(self.stream(), itertools.count(), strict=False)),
            "exception": lambda: self.assertRaises(RuntimeError, failing),
            "thrown": lambda: self.assertRaises(KeyError, drained(loop()).throw, KeyError()),
            "never begun": lambda: iter(self.stream()),
        }
        for name, way in ways.items():
            with self.subTest(name):
                way()
                wait_until(lambda: self.hub.streams == 0, message="no stream")
        self.assertEqual(self.free_places(), MAX_STREAMS)

    def test_a_thread_has_its_scheduling_policy_again(self):
        policies = []

        def drain():
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

            def wrapper():
                for chunk in self.stream():
                    yield chunk
                    if b"data: 1" in chunk:
                        return

            for _ in wrapper():
                pass
            policies.append(os.sched_getscheduler(0))

        _, thread = self.in_thread(drain)
        wait_until(lambda: self.hub.streams, message="the stream")
        self.hub.publish("a", "1")
        thread.join(10)
        self.assertEqual(policies, [os.SCHED_OTHER])

    def test_a_fork_leaves_the_parents_streams_alone_and_the_child_has_all_its_places(self):
        reserved = self.stream(**{ENVIRON_KEY: FakeHandover()})
        next(reserved)
        stream = self.stream()
        next(stream)
        mine, peer = socket.socketpair()
        self.addCleanup(mine.close)
        child = os.fork()
        if not child:
            status = b"failed"
            try:
                mine.close()
                self.assertEqual(self.hub.streams, 0)
                del stream, reserved
                gc.collect()
                own = self.stream()
                next(own)
                self.hub.publish("a", "hello")
                self.assertIn(b"data: hello", next(own))
                self.hub.publish("a", "again")  # in the turn before, the pump has closed what was dropped
                self.assertIn(b"data: again", next(own))
                status = b"%d of %d" % (MAX_STREAMS - self.free_places(), self.hub.streams)
            finally:
                peer.sendall(status)
                os._exit(0)
        peer.close()
        os.waitpid(child, 0)
        self.assertEqual(mine.recv(100), b"1 of 1")
        self.assertEqual(self.hub.streams, 1)
        self.hub.publish("a", "there")
        self.assertIn(b"data: there", next(stream))


if __name__ == "__main__":
    unittest.main()
