"""The crew of a worker: every order of events for small crews, and its judgement of threads that compute."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from itertools import count

from sse_threaded.server.crew import WAKE_AFTER, Crew, Sleeper


class _Thread(Sleeper):
    """A thread of the simulation: what it does, and whether it was woken."""

    def __init__(self) -> None:
        super().__init__()
        self.does: object = "begins"
        self.is_woken = False

    def wake(self) -> None:
        self.is_woken = True


class Simulation:
    """A crew without threads of the system; one step at a time."""

    def __init__(self, size: int) -> None:
        self.now = 100.0
        self.used = 0.0
        self.size = size
        self.threads: list[_Thread] = []
        self.is_interrupted = False
        self.watchman_sleeps = False
        self.is_watchman_woken = False
        self.names = count()
        self.waiting: list[str] = []
        self.crew = Crew(
            size,
            lambda: None,
            self._interrupt,
            clock=lambda: self.now,
            processor_clock=lambda: self.used,
            start=self._start,
            watchman=_Watchman(self),
        )
        self.crew.begin()

    def _interrupt(self) -> None:
        self.is_interrupted = True

    def _start(self, _run: Callable[[], None]) -> None:
        self.threads.append(_Thread())

    def _task(self) -> Callable[[], None]:
        name = f"task {next(self.names)}"
        self.waiting.append(name)

        def task() -> None:
            pass

        task.__name__ = name
        return task

    # Steps. Each is what one thread does with the crew's lock held, so an order of them is an order of events.

    def steps(self) -> list[tuple[str, int]]:
        """What may happen now."""
        found = [("put", 0)]
        for at, thread in enumerate(self.threads):
            if thread.does == "begins" or (thread.does == "sleeps" and thread.is_woken):
                found.append(("next", at))
            elif thread.does == "leads":
                found += [("events", at), ("two events", at)]
                if self.is_interrupted:
                    found.append(("interruption", at))
            elif str(thread.does).startswith("task"):
                found.append(("end", at))
        if not self.watchman_sleeps or self.is_watchman_woken:
            found += [("look", 0), ("late look", 0), ("look after work", 0)]
        return found

    def step(self, kind: str, at: int) -> None:
        if kind == "put":
            self.crew.put(self._task())
        elif kind in ("look", "late look", "look after work"):
            self.now += 0.0001 if kind == "look" else WAKE_AFTER
            if kind == "look after work":
                self.used += WAKE_AFTER
            self.look()
        elif kind in ("events", "two events", "interruption"):
            if kind == "interruption":
                self.is_interrupted = False
            else:
                self.crew.put_own(self._task())
                if kind == "two events":
                    self.crew.put_own(self._task())
            if self.crew.leave_lead():
                self._go_on(self.threads[at])
        else:
            self._go_on(self.threads[at])

    def look(self) -> None:
        self.is_watchman_woken = False
        self.watchman_sleeps = self.crew.look() is None

    def _go_on(self, thread: _Thread) -> None:
        thread.is_woken = False
        does = self.crew.next(thread)
        if does == self.crew.follow_events:
            thread.does = "leads"
        elif does == thread.sleep:
            thread.does = "sleeps"
        else:
            thread.does = does.__name__
            self.waiting.remove(does.__name__)

    # What must hold.

    def settle(self) -> None:
        """Let all but the tasks go on: the tasks at work never end."""
        for _ in range(40):
            self.now += 20 * WAKE_AFTER
            if not self.watchman_sleeps or self.is_watchman_woken:
                self.look()
            for thread in tuple(self.threads):
                if thread.does == "begins" or (thread.does == "sleeps" and thread.is_woken):
                    self._go_on(thread)
                elif thread.does == "leads" and self.is_interrupted:
                    self.is_interrupted = False
                    if self.crew.leave_lead():
                        self._go_on(thread)

    @property
    def is_settled(self) -> bool:
        """Whether no task waits and somebody leads; or each thread has a task that does not end."""
        at_work = sum(str(thread.does).startswith("task") for thread in self.threads)
        leaders = sum(thread.does == "leads" for thread in self.threads)
        return at_work == self.size or (not self.waiting and leaders == 1)


class _Watchman(Sleeper):
    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation

    def wake(self) -> None:
        self._simulation.is_watchman_woken = True


class EveryOrderTest(unittest.TestCase):
    def explore(self, size: int, depth: int) -> int:
        tried = 0
        orders: list[tuple[tuple[str, int], ...]] = [()]
        while orders:
            order = orders.pop()
            simulation = _replay(size, order)
            if len(order) < depth:
                orders += [(*order, step) for step in simulation.steps()]
            tried += 1
            leaders = [thread for thread in simulation.threads if thread.does == "leads"]
            self.assertLessEqual(len(leaders), 1, order)
            simulation.settle()
            self.assertTrue(
                simulation.is_settled, (order, [t.does for t in simulation.threads], simulation.waiting)
            )
        return tried

    def test_no_task_waits_for_one_that_does_not_end(self) -> None:
        for size, depth in ((1, 7), (2, 6), (3, 6)):
            with self.subTest(size=size):
                self.assertGreater(self.explore(size, depth), 1000)


def _replay(size: int, order: tuple[tuple[str, int], ...]) -> Simulation:
    simulation = Simulation(size)
    for kind, at in order:
        simulation.step(kind, at)
    return simulation
