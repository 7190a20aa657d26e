"""Turns: few tasks at once, in their order, and none forgotten."""

from __future__ import annotations

import unittest
from functools import partial

from sse_threaded.server.permits import Turns


class TurnsTest(unittest.TestCase):
    def setUp(self):
        self.limit = 2
        self.started = []  # by who wakes a thread
        self.put = []  # by a thread that looks for more itself
        self.done = []
        self.turns = Turns(lambda: self.limit, self.started.append, self.put.append)

    def ask(self, *names):
        for name in names:
            self.turns.ask(partial(self.run_task, name))

    def run_task(self, name, turn):
        self.done.append(name)

    def test_no_more_than_the_limit_are_started_and_each_that_ends_lets_the_next_one_begin(self):
        self.ask("a", "b", "c", "d")
        self.assertEqual((len(self.started), self.turns.waiting), (2, 2))
        self.started.pop(0)()
        self.assertEqual((self.done, len(self.put), self.turns.waiting), (["a"], 1, 1))
        self.put.pop()()
        self.put.pop()()
        self.started.pop(0)()
        self.assertEqual(self.done, ["a", "c", "d", "b"])
        self.ask("e", "f")
        self.assertEqual(len(self.started), 2)

    def test_who_ends_its_turn_early_has_a_thread_woken_and_ends_it_once(self):
        self.limit = 1
        self.turns.ask(lambda turn: [turn.end(), turn.end()])
        self.ask("b", "c")
        self.started.pop()()
        self.assertEqual((len(self.started), self.put), (1, []))
        self.started.pop()()
        self.put.pop()()
        self.assertEqual(self.done, ["b", "c"])

    def test_a_task_that_raises_gives_its_turn_back(self):
        self.limit = 1
        self.turns.ask(lambda turn: 1 // 0)
        self.ask("b")
        with self.assertRaises(ZeroDivisionError):
            self.started.pop()()
        self.put.pop()()
        self.assertEqual(self.done, ["b"])

    def test_a_lower_limit_takes_effect_as_turns_end(self):
        self.ask("a", "b", "c")
        self.limit = 1
        self.started.pop(0)()
        self.assertEqual((self.put, self.turns.waiting), ([], 1))
        self.started.pop(0)()
        self.put.pop()()
        self.assertEqual(self.done, ["a", "b", "c"])


if __name__ == "__main__":
    unittest.main()
