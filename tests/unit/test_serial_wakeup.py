"""Streams' threads are woken one after the other, and nobody holds them up."""

import contextlib
import os
import sys
import threading
import unittest
from functools import partial
from unittest import mock

from werkzeug.test import EnvironBuilder

from sse_threaded import Hub
from sse_threaded.fanout import serial_wakeup
from sse_threaded.fanout.serial_wakeup import SerialWakeup, Sleeper
from sse_threaded.fanout.stream_state import EndReason
from tests.support import FAREWELL, position, wait_until

STUCK = 0.01  # seconds


class Clock:
    """Stands in for the time module of the wake-up."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


class Worker:
    """A thread that sleeps and, when it is woken, works until the test lets it come back."""

    def __init__(self, name, wakeup, turns):
        self.name = name
        self.sleeper = Sleeper(wakeup)
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
                self.sleeper.sleep(self.todo)
                self.todo.clear()
                self._turns.append(self.name)
                self.back.acquire()
                if self.raises:
                    return  # as an exception would: past everything but the `finally`
        finally:
            self.sleeper.stop()

    @property
    def is_asleep(self):
        return self.sleeper.is_asleep

    def call(self):
        self.todo.append(True)
        self.sleeper.call()


class WakeupTest(unittest.TestCase):
    def setUp(self):
        self.clock = Clock()
        patch = mock.patch.object(serial_wakeup, "time", self.clock)
        patch.start()
        self.addCleanup(patch.stop)
        # They begin with the first.
        patch = mock.patch.object(serial_wakeup.random, "randrange", lambda number: 0)
        patch.start()
        self.addCleanup(patch.stop)
        self.wakeup = SerialWakeup(STUCK)
        self.turns = []

    def workers(self, number):
        made = [Worker(name, self.wakeup, self.turns) for name in range(number)]
        self.addCleanup(self.stop, made)
        for worker in made:
            wait_until(lambda w=worker: w.is_asleep, message="it to sleep")
        return made

    def stop(self, workers):
        for worker in workers:
            worker.stops = True
            worker.back.release()
            worker.call()

        def over():
            self.clock.now += STUCK
            self.wakeup.advance()
            return not any(worker.thread.is_alive() for worker in workers)

        wait_until(over, message="the threads to end")

    def start(self, workers):
        for worker in workers:
            worker.call()
        self.wakeup.advance()

    def expect(self, turns):
        wait_until(lambda: len(self.turns) >= len(turns), message=f"the turns {turns}")
        self.assertEqual(self.turns, turns)

    def test_each_that_comes_back_wakes_the_next(self):
        workers = self.workers(6)
        self.start(workers)
        for number, worker in enumerate(workers):
            self.expect(list(range(number + 1)))
            self.assertEqual(self.wakeup.waiting, 5 - number)
            worker.back.release()
        wait_until(lambda: all(worker.is_asleep for worker in workers))
        self.assertEqual(self.wakeup.due, float("inf"))

    def test_few_are_woken_at_once(self):
        self.start(self.workers(4))
        wait_until(lambda: sorted(self.turns) == [0, 1, 2, 3])

    def test_nobody_is_always_the_last(self):
        workers = self.workers(6)
        with mock.patch.object(serial_wakeup.random, "randrange", lambda number: number - 2):
            self.start(workers)
        for worker in workers:
            worker.back.release()
        self.expect([4, 5, 0, 1, 2, 3])

    def test_a_thread_that_is_called_again_keeps_its_place_in_the_queue(self):
        workers = self.workers(6)
        self.start(workers)
        self.start(workers)
        self.assertEqual(self.wakeup.waiting, 5)

    def test_a_busy_one_is_not_called_and_finds_its_work_by_itself(self):
        workers = self.workers(6)
        self.start(workers)
        self.expect([0])
        workers[0].call()
        self.assertEqual(self.wakeup.waiting, 5)
        workers[0].back.release()
        wait_until(lambda: len(self.turns) == 3, message="the next one's turn, and its own second")
        self.assertEqual((sorted(self.turns), self.wakeup.waiting), ([0, 0, 1], 4))

    def test_a_stuck_one_loses_the_token(self):
        workers = self.workers(10)
        self.start(workers)
        self.expect([0])
        self.assertEqual(self.wakeup.due, self.clock.now + STUCK)
        self.clock.now += STUCK / 2
        self.wakeup.advance()
        self.assertEqual(self.wakeup.waiting, 9, "it has time yet")
        self.clock.now += STUCK / 2
        self.wakeup.advance()
        # Twice as many from here on, in case that more are stuck.
        wait_until(lambda: sorted(self.turns) == [0, 1, 2])
        workers[0].back.release()
        wait_until(lambda: workers[0].is_asleep)
        self.assertEqual(self.wakeup.waiting, 7, "a token that was taken is not passed on")
        self.clock.now += STUCK
        self.wakeup.advance()
        wait_until(lambda: sorted(self.turns) == list(range(7)))

    def test_many_stuck_ones_delay_the_others_by_few_intervals(self):
        stuck = self.workers(60)
        (last,) = self.workers(1)
        self.start([*stuck, last])
        rounds = 0
        while self.wakeup.waiting:
            rounds += 1
            self.clock.now += STUCK
            self.wakeup.advance()
        self.assertEqual(rounds, 5, "1 + 2 + 4 + 8 + 16 + 32")

    def test_when_nothing_is_stuck_any_more_one_token_is_left(self):
        workers = self.workers(20)
        self.start(workers[:10])
        for _ in range(2):
            self.clock.now += STUCK
            self.wakeup.advance()
        self.assertEqual(self.wakeup.most_tokens, 4)
        for worker in workers[:10]:
            worker.back.release()
        wait_until(lambda: len(self.turns) == 10 and all(worker.is_asleep for worker in workers))
        for width, names in ((2, [10, 11]), (1, [10])):
            del self.turns[:]
            self.start(workers[10:])
            wait_until(lambda n=names: sorted(self.turns) == n)
            self.assertEqual((self.wakeup.most_tokens, self.wakeup.waiting), (width, 10 - width))
            for worker in workers[10:]:
                worker.back.release()
            wait_until(lambda: len(self.turns) == 10 and all(worker.is_asleep for worker in workers))

    def test_slow_turns_are_taken_side_by_side(self):
        workers = self.workers(20)
        self.start(workers)
        for number in range(3):
            self.clock.now += STUCK / 2
            self.expect(list(range(number + 1)))
            workers[number].back.release()
            wait_until(lambda w=workers[number]: w.is_asleep)
        self.assertEqual(self.wakeup.most_tokens, 1)
        self.wakeup.advance()
        self.assertEqual(self.wakeup.most_tokens, 2)

    def test_the_token_is_passed_on_when_its_holder_ends_or_raises(self):
        workers = self.workers(8)
        self.start(workers)
        for number, worker in enumerate(workers[:6]):
            self.expect(list(range(number + 1)))
            setattr(worker, "raises" if number % 2 else "stops", True)
            worker.back.release()
            worker.thread.join(10)
            self.assertFalse(worker.thread.is_alive())
        self.expect(list(range(7)))

    def test_a_called_thread_that_stops_is_forgotten(self):
        workers = self.workers(6)
        self.start(workers)
        self.expect([0])
        workers[1].sleeper.stop()
        workers[1].sleeper.stop()
        workers[0].back.release()
        self.expect([0, 2])
        workers[1].sleeper.wake()  # for the end of the test

    def test_a_deadline_ends_the_rest(self):
        sleeper = Sleeper(self.wakeup)

        def sleep():
            for _ in range(3):
                sleeper.sleep((), self.clock.now)

        thread = threading.Thread(target=sleep, daemon=True)
        thread.start()
        thread.join(10)
        self.assertFalse(thread.is_alive())
        sleeper.call()
        self.assertEqual(self.wakeup.waiting, 0)

    def test_a_thread_that_is_called_at_its_deadline_waits_for_its_token(self):
        lock, passed, waits = threading.Lock(), threading.Event(), []

        def acquire(timeout=None):
            if timeout is None:
                return lock.acquire()
            waits.append(timeout)
            sleeper.call()
            passed.set()
            return False

        with mock.patch("threading.Lock", return_value=mock.Mock(acquire=acquire, release=lock.release)):
            sleeper = Sleeper(self.wakeup)
        thread = threading.Thread(target=sleeper.sleep, args=((), self.clock.now))
        thread.start()
        self.assertTrue(passed.wait(10))
        self.wakeup.advance()
        thread.join(10)
        self.assertFalse(thread.is_alive())
        self.assertEqual(waits, [0.0])
        self.assertTrue(lock.locked(), "it has taken its call, so it will sleep the next time")

    @unittest.skipUnless(sys.platform == "linux", "a thread's scheduling policy is Linux's")
    def test_a_threads_scheduling_policy_is_given_back(self):
        sleeper = Sleeper(self.wakeup)
        steps = (lambda: None, lambda: sleeper.sleep((), self.clock.now), sleeper.stop)
        self.assertEqual(policies_after(*steps), [os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_OTHER])

    @unittest.skipUnless(sys.platform == "linux", "a thread's scheduling policy is Linux's")
    def test_a_thread_that_sleeps_without_a_deadline_has_another_policy_from_its_first_sleep_on(self):
        sleeper = Sleeper(self.wakeup)

        def wake():
            for _ in range(2):
                wait_until(lambda: sleeper.is_asleep)
                sleeper.call()
                self.wakeup.advance()

        waker = threading.Thread(target=wake)
        waker.start()
        steps = (lambda: sleeper.sleep(()), lambda: sleeper.sleep(()), sleeper.stop)
        self.assertEqual(policies_after(*steps), [os.SCHED_BATCH, os.SCHED_BATCH, os.SCHED_OTHER])
        waker.join(10)

    @unittest.skipUnless(sys.platform == "linux", "a thread's scheduling policy is Linux's")
    def test_where_the_policy_cannot_be_set_it_works_without(self):
        sleeper = Sleeper(self.wakeup)
        real, refused = os.sched_setscheduler, []

        def refuse(pid, policy, param):
            if policy == os.SCHED_BATCH:
                refused.append(policy)
                raise PermissionError
            real(pid, policy, param)

        with mock.patch("os.sched_setscheduler", refuse):
            steps = (lambda: sleeper.sleep((), self.clock.now), sleeper.stop)
            self.assertEqual(policies_after(*steps), [os.SCHED_OTHER] * 2)
        self.assertEqual(refused, [os.SCHED_BATCH])


def policies_after(*steps):
    """The scheduling policy after each step, on a thread that has the usual one before them."""
    found = []

    def run():
        # A thread inherits the policy of the one that starts it, and earlier tests may have changed that one's.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        for step in steps:
            step()
            found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    return found


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
        wait_until(lambda: self.subscriber and self.subscriber.sleeper.is_asleep, message="the stream to begin")

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
        """No thread is woken until the returned function is called."""
        stack = contextlib.ExitStack()
        stack.enter_context(mock.patch.object(SerialWakeup, "advance", lambda wakeup: None))
        stack.enter_context(mock.patch.object(SerialWakeup, "due", float("inf")))

        def go_on():
            stack.close()
            self.hub.log.ring()

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

    def test_events_that_come_while_a_thread_waits_for_its_token_leave_in_one_write(self):
        readers = self.readers(8)
        before = [reader.writes for reader in readers]
        go_on = self.stand_still()
        for number in range(5):
            self.publish([number])
            wait_until(lambda n=number: position(self.hub) == n + 1)
        go_on()
        for reader, writes in zip(readers, before, strict=True):
            wait_until(lambda r=reader: len(r.numbers) == 5)
            self.assertEqual((reader.numbers, reader.writes), (list(range(5)), writes + 1))

    def test_the_bound_of_a_slow_client_holds_while_its_thread_waits_too(self):
        readers = self.readers(8, queue_size=10)
        go_on = self.stand_still()
        for number in range(11):
            self.publish([number])
            wait_until(lambda n=number: position(self.hub) == n + 1)
        wait_until(lambda: all(r.subscriber.end_reason is EndReason.SLOW for r in readers))
        go_on()
        for reader in readers:
            reader.thread.join(10)
            self.assertFalse(reader.thread.is_alive())
            self.assertEqual(reader.numbers, [], "what waits is a part of what it missed")
            self.assertRegex(reader.chunks[-1], rb"\A" + FAREWELL + rb"\Z")

    def test_streams_that_break_pass_the_token_on(self):
        readers = self.readers(30)
        for reader in readers[::2]:
            reader.fails = True
        self.publish([1])
        for reader in readers[1::2]:
            wait_until(lambda r=reader: r.numbers == [1])
        wait_until(lambda: self.hub.streams == 15)

    def test_an_end_in_the_midst_of_a_wakeup_gives_all_their_events_and_their_farewell(self):
        readers = self.readers(40)
        for reader in readers[::4]:
            reader.gate.clear()
        go_on = self.stand_still()
        self.publish(range(3))
        wait_until(lambda: position(self.hub) == 3)
        self.hub.request_close()
        wait_until(lambda: all(r.subscriber.end_reason is EndReason.SHUTDOWN for r in readers))
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
        with mock.patch("sse_threaded.fanout.pump.SerialWakeup", partial(SerialWakeup, 3600)):
            (reader,) = self.readers(1)
        for number in range(50):
            self.publish([number])
            wait_until(lambda n=number: len(reader.numbers) == n + 1)


if __name__ == "__main__":
    unittest.main()
