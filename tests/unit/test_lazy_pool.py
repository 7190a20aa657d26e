"""The lazy pool: short tasks on one thread after the other, and a thread more for each that takes its time."""

from __future__ import annotations

import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from sse_threaded.server.lazy_pool import LazyPool
from tests.support import wait_until


class LazyPoolTest(unittest.TestCase):
    def setUp(self):
        self.pool = ThreadPoolExecutor(4)
        self.addCleanup(self.pool.shutdown)
        self.idle = threading.Semaphore(0)
        self.lazy = LazyPool(self.pool, 4, self.note_idle)

    def note_idle(self):
        self.idle.release()

    def put(self, *tasks):
        for task in tasks:
            self.lazy.put(task)

    def dispatch_until(self, condition):
        """As the main thread does: again and again until the condition holds."""

        def done():
            self.lazy.dispatch()
            return condition()

        wait_until(done, message="the tasks")

    def test_every_task_is_run_once_and_in_order(self):
        ran = []
        self.lazy.is_awaited = True
        self.put(*(lambda n=n: ran.append(n) for n in range(1000)))
        self.dispatch_until(lambda: len(ran) == 1000)
        self.assertEqual(ran, list(range(1000)))
        self.assertTrue(self.idle.acquire(timeout=30), "it is said that a thread stops")

    def test_a_thread_that_stops_says_so_only_if_that_is_awaited(self):
        self.put(lambda: None)
        self.lazy.dispatch()
        self.pool.shutdown()  # waits for the thread
        self.assertFalse(self.idle.acquire(blocking=False))
        self.assertEqual(self.lazy.brisk_until, 0.0)

    def test_a_thread_is_expected_back_a_moment_after_it_took_a_task(self):
        begun, leave, before = threading.Semaphore(0), threading.Semaphore(0), time.monotonic()
        self.addCleanup(leave.release, 2)

        def task():
            begun.release()
            leave.acquire()

        self.put(task, task)
        self.lazy.dispatch()
        begun.acquire()
        first = self.lazy.brisk_until
        self.assertGreaterEqual(first, before + self.lazy.wake_after)
        leave.release()
        begun.acquire()
        self.assertGreater(self.lazy.brisk_until, first)

    def test_without_tasks_no_thread_is_woken(self):
        self.assertFalse(self.lazy.dispatch())
        self.assertEqual(self.lazy.brisk_until, 0.0)

    def test_a_task_that_waits_holds_nobody_up(self):
        leave, ran = threading.Event(), []
        self.addCleanup(leave.set)
        self.put(lambda: leave.wait(60), lambda: ran.append("after"))
        self.dispatch_until(lambda: ran)
        self.assertFalse(leave.is_set())

    def test_there_are_no_more_than_the_limit_and_a_free_one_takes_what_waits(self):
        leave, lock, ran = threading.Event(), threading.Lock(), []
        self.addCleanup(leave.set)
        together = [0, 0]

        def wait():
            with lock:
                together[0] += 1
                together[1] = max(together)
            leave.wait(60)
            with lock:
                together[0] -= 1

        self.put(*[wait] * 4, lambda: ran.append("after"))
        self.dispatch_until(lambda: together[0] == 4)
        wait_until(lambda: not self.lazy.dispatch(), message="nothing more to be done")
        self.assertFalse(ran)
        leave.set()
        wait_until(lambda: ran, message="the last task")  # without another dispatch
        self.assertEqual(together[1], 4)

    def test_those_that_wait_for_something_get_all_threads(self):
        lock, together = threading.Lock(), [0, 0]
        done = []

        def wait():
            with lock:
                together[0] += 1
                together[1] = max(together)
            threading.Event().wait(0.004)  # a database's answer: longer than WAKE_AFTER, shorter than _LONG
            with lock:
                together[0] -= 1
            done.append(None)

        self.put(*[wait] * 200)
        self.dispatch_until(lambda: len(done) == 200)
        self.assertEqual(together[1], 4)

    def test_where_threads_compute_no_more_are_woken_unless_it_takes_long(self):
        now = used = 1000.0
        pool = ThreadPoolExecutor(4)
        self.addCleanup(pool.shutdown)
        lazy = LazyPool(pool, 4, self.note_idle, clock=lambda: now, processor_clock=lambda: used)
        begun, leave = threading.Semaphore(0), threading.Semaphore(0)
        self.addCleanup(leave.release, 100)

        def task():
            begun.release()
            leave.acquire()

        for _ in range(100):
            lazy.put(task)
        threads = 0
        for seconds, share, takes, expected in (
            (0.0, 0.0, False, 1),
            (0.005, 1.0, True, 1),
            (0.005, 0.6, True, 1),
            (0.005, 0.1, True, 2),
            (0.005, 0.9, True, 2),
            (0.05, 1.0, False, 3),
            (0.005, 0.0, True, 4),
            (0.005, 0.0, True, 4),
        ):
            now += seconds
            used += seconds * share
            if takes:  # a thread ends its task and takes the next one
                leave.release()
                self.assertTrue(begun.acquire(timeout=30))
            lazy.dispatch()
            if threads < expected:
                self.assertTrue(begun.acquire(timeout=30))
                threads += 1
            self.assertFalse(begun.acquire(blocking=False))
            self.assertEqual(threads, expected)

    def test_one_that_fails_is_told_and_the_next_is_run(self):
        done = threading.Event()
        self.put(lambda: 1 / 0, done.set)
        with self.assertLogs("sse_threaded.server.lazy_pool", "ERROR"):
            self.dispatch_until(done.is_set)

    def test_a_task_put_while_the_last_thread_stops_is_not_forgotten(self):
        for _ in range(300):
            done = threading.Event()
            self.put(done.set)
            self.dispatch_until(done.is_set)
