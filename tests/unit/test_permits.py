"""Permits for threads: few tasks at once, in their order, and none forgotten."""

from __future__ import annotations

import unittest
from functools import partial

from sse_threaded.server.permits import Permits


class PermitsTest(unittest.TestCase):
    def setUp(self):
        self.limit = 2
        self.started = []  # by who wakes a thread
        self.put = []  # by a thread that looks for more itself
        self.done = []
        self.permits = Permits(lambda: self.limit, self.started.append, self.put.append)

    def ask(self, *names):
        for name in names:
            self.permits.ask(partial(self.run_task, name))

    def run_task(self, name, permit):
        self.done.append(name)

    def test_no_more_than_the_limit_are_started_and_each_that_ends_lets_the_next_one_begin(self):
        self.ask("a", "b", "c", "d")
        self.assertEqual((len(self.started), self.permits.waiting), (2, 2))
        self.started.pop(0)()
        self.assertEqual((self.done, len(self.put), self.permits.waiting), (["a"], 1, 1))
        self.put.pop()()
        self.put.pop()()
        self.started.pop(0)()
        self.assertEqual(self.done, ["a", "c", "d", "b"])
        self.ask("e", "f")
        self.assertEqual(len(self.started), 2)

    def test_each_that_ends_makes_room_for_one(self):
        self.ask("a", "b")
        self.started.pop(0)()
        self.ask("c", "d")
        self.assertEqual((len(self.started), self.permits.waiting), (2, 1))

    def test_a_permit_given_back_early_wakes_a_thread_and_only_once(self):
        self.limit = 1
        self.permits.ask(lambda permit: [permit.give_back(), permit.give_back()])
        self.ask("b", "c")
        self.started.pop()()
        self.assertEqual((len(self.started), self.put), (1, []))
        self.started.pop()()
        self.put.pop()()
        self.assertEqual(self.done, ["b", "c"])

    def test_a_task_that_raises_gives_its_permit_back(self):
        self.limit = 1
        self.permits.ask(lambda permit: 1 // 0)
        self.ask("b")
        with self.assertRaises(ZeroDivisionError):
            self.started.pop()()
        self.put.pop()()
        self.assertEqual(self.done, ["b"])

    def test_a_lower_limit_takes_effect_as_permits_are_given_back(self):
        self.ask("a", "b", "c")
        self.limit = 1
        self.started.pop(0)()
        self.assertEqual((self.put, self.permits.waiting), ([], 1))
        self.started.pop(0)()
        self.put.pop()()
        self.assertEqual(self.done, ["a", "b", "c"])


if __name__ == "__main__":
    unittest.main()
