"""The chain in which streams' threads are woken: one after the other, and nobody holds it up."""

import os
import sys
import threading
import time
import unittest
from unittest import mock

from werkzeug.test import EnvironBuilder

from sse_threaded import Hub
from sse_threaded.fanout import serial_wakeup as chain
from sse_threaded.fanout.serial_wakeup import PATIENCE, Link, SerialWakeup
from tests.support import FAREWELL, wait_until


class Clock:
    """Stands in for the time module of the chain."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


class Sleeper:
    """A thread that rests in a chain and, when it is woken, works until the test lets it come back."""

    def __init__(self, name, links, turns):
        self.name = name
        self.link = Link(links)
        self.todo = []
        self.raises = False
        self.back = threading.Semaphore(0)
        self.stops = False
        self._turns = turns
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.stops:
                self.link.rest(self.todo)
                self.todo.clear()
                self._turns.append(self.name)
                self.back.acquire()
                if self.raises:
                    return  # as an exception would: past everything but the `finally`
        finally:
            self.link.leave()

    @property
    def resting(self):
        return self.link.state == chain._RESTING

    def call(self):
        self.todo.append(True)
        self.link.call()


class ChainTest(unittest.TestCase):
    def setUp(self):
        self.clock = Clock()
        patch = mock.patch.object(chain, "time", self.clock)
        patch.start()
        self.addCleanup(patch.stop)
        # They begin with the first.
        patch = mock.patch.object(chain.random, "randrange", lambda number: 0)
        patch.start()
        self.addCleanup(patch.stop)
        self.chain = SerialWakeup()
        self.turns = []

    def sleepers(self, number):
        made = [Sleeper(name, self.chain, self.turns) for name in range(number)]
        self.addCleanup(self.stop, made)
        for sleeper in made:
            wait_until(lambda s=sleeper: s.resting, message="it to rest")
        return made

    def stop(self, sleepers):
        for sleeper in sleepers:
            sleeper.stops = True
            sleeper.back.release()
            sleeper.call()

        def over():
            self.clock.now += PATIENCE
            self.chain.tend()
            return not any(sleeper.thread.is_alive() for sleeper in sleepers)

        wait_until(over, message="the threads to end")

    def start(self, sleepers):
        for sleeper in sleepers:
            sleeper.call()
        self.chain.tend()

    def expect(self, turns):
        wait_until(lambda: len(self.turns) >= len(turns), message=f"the turns {turns}")
        self.assertEqual(self.turns, turns)

    def test_each_that_comes_back_wakes_the_next(self):
        sleepers = self.sleepers(6)
        self.start(sleepers)
        for number, sleeper in enumerate(sleepers):
            self.expect(list(range(number + 1)))
            self.assertEqual(len(self.chain._queue), 5 - number)
            sleeper.back.release()
        wait_until(lambda: all(sleeper.resting for sleeper in sleepers))
        self.assertEqual((self.chain._batons, self.chain.due), ({}, float("inf")))

    def test_few_are_woken_at_once(self):
        self.start(self.sleepers(4))
        wait_until(lambda: sorted(self.turns) == [0, 1, 2, 3])

    def test_nobody_is_always_the_last(self):
        sleepers = self.sleepers(6)
        with mock.patch.object(chain.random, "randrange", lambda number: number - 2):
            self.start(sleepers)
        for sleeper in sleepers:
            sleeper.back.release()
        self.expect([4, 5, 0, 1, 2, 3])

    def test_who_is_called_again_while_it_is_in_the_chain_keeps_its_place(self):
        sleepers = self.sleepers(6)
        self.start(sleepers)
        self.start(sleepers)
        self.assertEqual(len(self.chain._queue), 5)

    def test_a_busy_one_is_not_called_and_finds_its_work_by_itself(self):
        sleepers = self.sleepers(6)
        self.start(sleepers)
        self.expect([0])
        sleepers[0].call()
        self.assertEqual((self.chain._called, len(self.chain._queue)), ([], 5))
        sleepers[0].back.release()
        wait_until(lambda: len(self.turns) == 3, message="the next one's turn, and its own second")
        self.assertEqual((sorted(self.turns), len(self.chain._queue)), ([0, 0, 1], 4))

    def test_a_stuck_one_loses_the_baton(self):
        sleepers = self.sleepers(10)
        self.start(sleepers)
        self.expect([0])
        self.assertEqual(self.chain.due, self.clock.now + PATIENCE)
        self.clock.now += PATIENCE / 2
        self.chain.tend()
        self.assertEqual(len(self.chain._queue), 9, "it has time yet")
        self.clock.now += PATIENCE / 2
        self.chain.tend()
        # Twice as many from here on, in case that more are stuck.
        wait_until(lambda: sorted(self.turns) == [0, 1, 2])
        sleepers[0].back.release()
        wait_until(lambda: sleepers[0].resting)
        self.assertEqual(len(self.chain._queue), 7, "a baton that was taken is not passed on")
        self.clock.now += PATIENCE
        self.chain.tend()
        wait_until(lambda: sorted(self.turns) == list(range(7)))

    def test_many_stuck_ones_delay_the_others_by_few_intervals(self):
        stuck = self.sleepers(60)
        (last,) = self.sleepers(1)
        self.start([*stuck, last])
        rounds = 0
        while len(self.chain._queue):
            rounds += 1
            self.clock.now += PATIENCE
            self.chain.tend()
        self.assertEqual(rounds, 5, "1 + 2 + 4 + 8 + 16 + 32")

    def test_when_nothing_is_stuck_any_more_one_baton_is_left(self):
        sleepers = self.sleepers(20)
        self.start(sleepers[:10])
        for _ in range(2):
            self.clock.now += PATIENCE
            self.chain.tend()
        self.assertEqual(self.chain._width, 4)
        for sleeper in sleepers[:10]:
            sleeper.back.release()
        wait_until(lambda: len(self.turns) == 10 and all(sleeper.resting for sleeper in sleepers))
        for width, names in ((2, [10, 11]), (1, [10])):
            del self.turns[:]
            self.start(sleepers[10:])
            wait_until(lambda n=names: sorted(self.turns) == n)
            self.assertEqual((self.chain._width, len(self.chain._queue)), (width, 10 - width))
            for sleeper in sleepers[10:]:
                sleeper.back.release()
            wait_until(lambda: len(self.turns) == 10 and all(sleeper.resting for sleeper in sleepers))

    def test_slow_turns_are_taken_side_by_side(self):
        sleepers = self.sleepers(20)
        self.start(sleepers)
        for number in range(3):
            self.clock.now += PATIENCE / 2
            self.expect(list(range(number + 1)))
            sleepers[number].back.release()
            wait_until(lambda s=sleepers[number]: s.resting)
        self.assertEqual(self.chain._width, 1)
        self.chain.tend()
        self.assertEqual(self.chain._width, 2)

    def test_the_baton_is_passed_on_when_its_holder_ends_or_raises(self):
        sleepers = self.sleepers(8)
        self.start(sleepers)
        for number, sleeper in enumerate(sleepers[:6]):
            self.expect(list(range(number + 1)))
            setattr(sleeper, "raises" if number % 2 else "stops", True)
            sleeper.back.release()
            sleeper.thread.join(10)
            self.assertFalse(sleeper.thread.is_alive())
        self.expect(list(range(7)))

    def test_who_leaves_while_it_is_called_is_forgotten(self):
        sleepers = self.sleepers(6)
        self.start(sleepers)
        self.expect([0])
        sleepers[1].link.leave()
        sleepers[1].link.leave()
        sleepers[0].back.release()
        self.expect([0, 2])
        sleepers[1].link.wake()  # for the end of the test

    def test_a_deadline_ends_the_rest(self):
        link = Link(self.chain)
        link.rest((), self.clock.now)
        link.call()
        self.assertEqual(self.chain._called, [])

    def test_who_is_called_at_its_deadline_waits_for_its_turn(self):
        link, passed = Link(self.chain), threading.Event()
        bell = mock.Mock(wraps=link._bell)

        def acquire(timeout=None):
            if timeout is None:
                return bell_acquire()
            link.call()
            passed.set()
            return False

        bell_acquire = link._bell.acquire
        bell.acquire = acquire
        link._bell = bell
        thread = threading.Thread(target=link.rest, args=((), self.clock.now))
        thread.start()
        self.assertTrue(passed.wait(10))
        self.chain.tend()
        thread.join(10)
        self.assertFalse(thread.is_alive())

    @unittest.skipUnless(sys.platform == "linux", "a thread's scheduling policy is Linux's")
    def test_a_threads_scheduling_policy_is_given_back(self):
        found = []

        def run():
            link = Link(self.chain)
            found.append(os.sched_getscheduler(0))
            link.rest((), self.clock.now)
            found.append(os.sched_getscheduler(0))
            link.leave()
            found.append(os.sched_getscheduler(0))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(10)
        before, resting, after = found
        self.assertEqual(before, after)
        if before == os.SCHED_OTHER:
            self.assertEqual(resting, os.SCHED_BATCH)

    @unittest.skipUnless(sys.platform == "linux", "a thread's scheduling policy is Linux's")
    def test_where_the_policy_cannot_be_set_it_works_without(self):
        with mock.patch("os.sched_setscheduler", side_effect=PermissionError):
            link = Link(self.chain)
            link.rest((), self.clock.now)
            link.leave()


class Reader:
    """A thread that takes a stream's chunks, as a server does, and stops in each write while it is to stall."""

    def __init__(self, hub):
        environ = {**EnvironBuilder("/").get_environ(), "wsgi.multithread": True, "werkzeug.socket": None}
        self.body = hub.stream(environ, "a").response
        self.body.joins = True  # as a server does that iterates it itself
        self.chunks = []
        self.writes = 0
        self.gate = threading.Event()
        self.gate.set()
        self.fails = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        wait_until(lambda: self.subscriber is not None and self.resting, message="the stream to begin")

    def _run(self):
        try:
            for chunk in self.body:
                self.writes += 1
                self.gate.wait(60)
                if self.fails:
                    return  # as a broken pipe would
                self.chunks.append(chunk)
        finally:
            self.body.close()

    @property
    def subscriber(self):
        return self.body.subscriber

    @property
    def resting(self):
        return getattr(getattr(self.subscriber, "link", None), "state", None) == chain._RESTING

    @property
    def numbers(self):
        lines = b"".join(self.chunks).decode().split("\n")
        return [
            int(line.removeprefix("data: ")) for line in lines if line.startswith("data: ") and line[-1] != "}"
        ]


class StreamsTest(unittest.TestCase):
    def readers(self, number, **settings):
        self.hub = Hub("memory://", max_streams=None, heartbeat=None, **settings)
        self.addCleanup(self.hub.close)
        made = [Reader(self.hub) for _ in range(number)]
        for reader in made:
            self.addCleanup(reader.gate.set)
        return made

    def publish(self, numbers):
        with self.hub.log.transaction() as transaction:
            for number in numbers:
                transaction.append("a", str(number))

    def stand_still(self):
        """The chain gives no further baton until the returned function is called."""
        links = self.hub._pump._chain
        with links.lock:
            links._batons[Link(links)] = time.monotonic() + 3600
        patch = mock.patch.object(links, "_set_width")
        patch.start()

        def go_on():
            with links.lock:
                links._batons.clear()
            patch.stop()
            self.hub._pump._wake.ring()

        self.addCleanup(go_on)
        return go_on

    def test_all_get_everything_in_order_while_one_in_ten_stalls(self):
        readers = self.readers(50)
        stalled = readers[::10]
        for reader in stalled:
            reader.gate.clear()
        for number in range(300):
            self.publish([number])
        for reader in readers:
            if reader not in stalled:
                wait_until(lambda r=reader: len(r.numbers) == 300, message="all events")
                self.assertEqual(reader.numbers, list(range(300)))
        for reader in stalled:
            reader.gate.set()
        for reader in stalled:
            wait_until(lambda r=reader: len(r.numbers) == 300, message="all events")
            self.assertEqual(reader.numbers, list(range(300)))
            self.assertLess(reader.writes, 300, "what waited leaves in one write")

    def test_what_comes_while_one_is_in_the_chain_leaves_in_one_write(self):
        readers = self.readers(8)
        before = [reader.writes for reader in readers]
        go_on = self.stand_still()
        for number in range(5):
            self.publish([number])
            wait_until(lambda n=number: self.hub._pump.position == n + 1)
        wait_until(lambda: len(self.hub._pump._chain._queue) == 8)
        go_on()
        for reader, writes in zip(readers, before, strict=True):
            wait_until(lambda r=reader: len(r.numbers) == 5)
            self.assertEqual((reader.numbers, reader.writes), (list(range(5)), writes + 1))

    def test_the_bound_of_a_slow_client_holds_in_the_chain_too(self):
        readers = self.readers(8, queue_size=10)
        go_on = self.stand_still()
        for number in range(11):
            self.publish([number])
            wait_until(lambda n=number: self.hub._pump.position == n + 1)
        wait_until(lambda: all(r.subscriber.ended == "slow" for r in readers))
        go_on()
        for reader in readers:
            reader.thread.join(10)
            self.assertFalse(reader.thread.is_alive())
            self.assertEqual(reader.numbers, [], "what waits is a part of what it missed")
            self.assertRegex(reader.chunks[-1], rb"\A" + FAREWELL + rb"\Z")

    def test_streams_that_break_pass_the_baton_on(self):
        readers = self.readers(30)
        for reader in readers[::2]:
            reader.fails = True
        self.publish([1])
        for reader in readers[1::2]:
            wait_until(lambda r=reader: r.numbers == [1])
        wait_until(lambda: self.hub.streams == 15)

    def test_a_close_in_the_midst_of_a_chain_gives_all_their_events_and_their_farewell(self):
        readers = self.readers(40)
        for reader in readers[::4]:
            reader.gate.clear()
        go_on = self.stand_still()
        self.publish(range(3))
        wait_until(lambda: len(self.hub._pump._chain._queue) == 40)
        self.hub._pump.request_close()
        wait_until(lambda: all(r.subscriber.ended == "shutdown" for r in readers))
        go_on()
        stalled = readers[::4]
        for reader in readers:
            if reader not in stalled:
                reader.thread.join(10)
                self.assertFalse(reader.thread.is_alive(), "a stalled one must not hold it up")
        for reader in stalled:
            reader.gate.set()
        for reader in readers:
            reader.thread.join(10)
            self.assertEqual(reader.numbers, [0, 1, 2])
            self.assertRegex(reader.chunks[-1], FAREWELL + rb"\Z")
        self.assertEqual(self.hub.streams, 0)

    def test_a_single_stream_does_without_the_watch(self):
        (reader,) = self.readers(1)
        with mock.patch.object(self.hub._pump._chain, "_take_from_stuck", wraps=lambda now: None):
            for number in range(50):
                self.publish([number])
                wait_until(lambda n=number: len(reader.numbers) == n + 1)


if __name__ == "__main__":
    unittest.main()
