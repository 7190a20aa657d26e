"""The crew of a worker: every order of events for small crews, and its judgement of threads that compute."""

from __future__ import annotations

import select
import socket
import threading
import unittest
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from unittest import mock

from sse_threaded.server.crew import WAKE_AFTER, Crew, Sleeper
from sse_threaded.server.watchman import WatchmansSleep
from tests.support import wait_until

Step = tuple[str, int]


class _Thread(Sleeper):
    """A thread of the simulation: what it does, and whether it was woken."""

    def __init__(self) -> None:
        super().__init__()
        self.does = "begins"
        self.is_woken = False

    def wake(self) -> None:
        self.is_woken = True


class Simulation:
    """A crew without threads of the system; one step at a time."""

    def __init__(self, size: int, can_arm: bool = False) -> None:
        self.can_arm = can_arm
        self.is_armed = False  # whether an event wakes the watchman,
        self.is_event_waiting = False  # one came that no thread has led for,
        self.has_fired = False  # and it has woken the watchman
        self.now = 100.0
        self.used = 0.0
        self.size = size
        self.threads: list[_Thread] = []
        self.is_interrupted = False
        self.watchman_sleeps = False
        self.is_watchman_woken = False
        self.sleeps: list[float] = []  # of the watchman, in seconds
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

    def steps(self) -> Iterator[Step]:
        """What may happen now."""
        yield "put", 0
        if not any(thread.does == "leads" for thread in self.threads):
            yield "event", 0
        for at, thread in enumerate(self.threads):
            if thread.does == "begins" or (thread.does == "sleeps" and thread.is_woken):
                yield "next", at
            elif thread.does == "leads":
                yield "events", at
                yield "two events", at
                if self.is_interrupted:
                    yield "interruption", at
            elif thread.does == "works":
                yield "end", at
                yield "end with more", at
                if self.crew.is_busy:
                    yield "end during a brief lead", at
                    yield "end during a brief lead with an event", at
        if not self.watchman_sleeps or self.is_watchman_woken:
            yield "look", 0
            yield "late look", 0
            yield "look after work", 0
        if self.crew.is_busy:
            yield "brief lead", 0

    def step(self, kind: str, at: int) -> None:
        if kind in ("put", "event"):
            self.come() if kind == "event" else self.crew.put(self._task())
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
        elif kind == "brief lead":
            self.watchman_sleeps = False  # it is the one that leads, and then it looks
            self.crew.lead_briefly(lambda: self.crew.put_own(self._task()))
        elif kind.startswith("end during"):
            self.watchman_sleeps = False
            self.crew.lead_briefly(lambda: self._end_during_lead(at, has_event="event" in kind))
        else:
            if kind == "end with more":
                self.crew.put_own(self._task())
            self._go_on(self.threads[at])

    def _end_during_lead(self, at: int, has_event: bool) -> None:
        if has_event:
            self.crew.put_own(self._task())
        self._go_on(self.threads[at])

    def come(self) -> None:
        """An event comes while no thread leads."""
        self.is_event_waiting = True
        if self.is_armed:
            self.is_armed, self.has_fired, self.is_watchman_woken = False, True, True

    def look(self) -> None:
        if self.has_fired:
            self.has_fired = False
            self.crew.note_events()
        self.is_watchman_woken = False
        self.watchman_sleeps = self.crew.look() is None

    def _go_on(self, thread: _Thread) -> None:
        thread.is_woken = False
        does = self.crew.next(thread)
        if does == self.crew.follow_events:
            thread.does = "leads"
            self.is_event_waiting = False  # it sees the event at once
        elif does == thread.sleep:
            thread.does = "sleeps"
        else:
            thread.does = "works"
            self.waiting.remove(does.__name__)

    def state(self) -> tuple[object, ...]:
        """All that decides how it goes on."""
        numbers: list[object] = [self._since(value) for value in vars(self.crew).values()]
        threads = [(thread.does, thread.is_woken) for thread in self.threads]
        flags = (self.is_interrupted, self.watchman_sleeps, self.is_watchman_woken)
        flags += (self.is_armed, self.is_event_waiting, self.has_fired)
        return (*numbers, *threads, *flags)

    def _since(self, value: object) -> object:
        """A value of the crew's: a time as how long ago it was."""
        if isinstance(value, float) and value >= 100.0:
            return round(self.now - value, 5)
        if isinstance(value, deque):
            return tuple(self._since(when) for when, _ in value)
        if isinstance(value, list):
            return len(value)
        return value if isinstance(value, (int, float)) else None

    # What must hold.

    def settle(self) -> None:
        """Let all but the tasks go on, and an event come: the tasks at work never end."""
        for _ in range(40):
            if self.is_settled:
                return
            if not self.waiting and not any(thread.does == "leads" for thread in self.threads):
                self.come()
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
        """Whether no task waits and a thread leads; or each thread has a task that does not end."""
        at_work = sum(thread.does == "works" for thread in self.threads)
        leaders = sum(thread.does == "leads" for thread in self.threads)
        return at_work == len(self.threads) == self.size or (not self.waiting and leaders == 1)


class _Watchman(Sleeper):
    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation

    def wake(self) -> None:
        self._simulation.is_watchman_woken = True

    def sleep(self, timeout: float = -1) -> bool:
        self._simulation.sleeps.append(timeout)
        self._simulation.now += timeout
        return False

    def arm(self) -> bool:
        if not self._simulation.can_arm:
            return False
        self._simulation.is_armed = True
        if self._simulation.is_event_waiting:
            self._simulation.come()
        return True

    def disarm(self) -> None:
        self._simulation.is_armed = False


class EveryOrderTest(unittest.TestCase):
    def explore(self, size: int, depth: int, can_arm: bool) -> int:
        """Try every order of so many steps. Orders that lead to the same state go on in the same way."""
        known = set()
        orders: list[tuple[Step, ...]] = [()]
        for length in range(depth + 1):
            longer = []
            for order in orders:
                simulation = _replay(size, order, can_arm)
                state = simulation.state()
                if state in known:
                    continue
                known.add(state)
                if length < depth:
                    longer += [(*order, step) for step in simulation.steps()]
                leaders = [thread for thread in simulation.threads if thread.does == "leads"]
                self.assertLessEqual(len(leaders), 1, order)
                simulation.settle()
                found = (order, [thread.does for thread in simulation.threads], simulation.waiting)
                self.assertTrue(simulation.is_settled, found)
            orders = longer
        return len(known)

    def test_no_task_waits_for_one_that_does_not_end(self) -> None:
        for size, depth in ((1, 7), (2, 7), (3, 6)):
            for can_arm in (False, True):
                with self.subTest(size=size, can_arm=can_arm):
                    self.assertGreater(self.explore(size, depth, can_arm), 1000)


def _replay(size: int, order: tuple[Step, ...], can_arm: bool) -> Simulation:
    simulation = Simulation(size, can_arm)
    for kind, at in order:
        simulation.step(kind, at)
    return simulation


class JudgementTest(unittest.TestCase):
    """How many threads get tasks, by the processor time that the threads at work use."""

    def setUp(self) -> None:
        self.simulation = Simulation(4)
        self.simulation.step("next", 0)
        self.simulation.look()

    def put_own(self, tasks: int) -> None:
        """The leader puts tasks, and takes the first one."""
        for _ in range(tasks - 1):
            self.simulation.crew.put_own(self.simulation._task())
        self.simulation.step("events", 0)

    def pass_time(self, seconds: float, share: float) -> None:
        self.simulation.now += seconds
        self.simulation.used += seconds * share
        self.simulation.look()
        for at, thread in enumerate(self.simulation.threads):
            if thread.does == "begins" or (thread.does == "sleeps" and thread.is_woken):
                self.simulation.step("next", at)

    @property
    def at_work(self) -> int:
        return sum(thread.does == "works" for thread in self.simulation.threads)

    def test_how_many_take_the_tasks_that_wait(self) -> None:
        for tasks, seconds, share, expected in (
            (9, 0.0001, 0.0, 1),  # a thread may come back soon
            (9, 0.005, 1.0, 1),  # it computes, and another one would only compete with it
            (9, 0.005, 0.6, 1),
            (9, 0.005, 0.4, 2),
            (9, 0.005, 0.05, 4),  # it waits
            (3, 0.005, 0.05, 3),
            (9, 0.05, 1.0, 2),  # it takes long, so it may compute without the interpreter
            (9, 0.05, 0.05, 4),
        ):
            with self.subTest(tasks=tasks, seconds=seconds, share=share):
                self.setUp()
                self.put_own(tasks)
                self.pass_time(seconds, share)
                self.assertEqual(self.at_work, expected)

    def test_a_leader_comes_after_a_moment_also_without_tasks(self) -> None:
        self.put_own(1)
        self.pass_time(0.005, 0.0)
        self.assertEqual([thread.does for thread in self.simulation.threads], ["works", "leads"])

    def test_one_that_found_the_watchman_leading_leads_after_it(self) -> None:
        self.simulation = Simulation(1)
        self.simulation.step("next", 0)
        self.put_own(1)
        self.simulation.step("end during a brief lead", 0)
        (thread,) = self.simulation.threads
        self.assertEqual((thread.does, thread.is_woken), ("sleeps", True))
        self.simulation.step("next", 0)
        self.assertEqual(thread.does, "leads")

    def test_of_several_that_compute_one_stops(self) -> None:
        self.put_own(9)
        self.pass_time(0.005, 0.3)
        self.assertEqual(self.at_work, 2)
        self.pass_time(0.005, 1.0)
        self.simulation.step("end", 0)
        self.assertEqual([thread.does for thread in self.simulation.threads], ["sleeps", "works"])
        self.pass_time(0.005, 1.0)
        self.simulation.step("end", 1)
        self.assertEqual(self.at_work, 1, "the last one goes on")

    def test_one_that_has_stopped_is_the_first_to_be_woken(self) -> None:
        self.test_of_several_that_compute_one_stops()
        self.pass_time(0.005, 0.3)
        self.assertEqual([thread.does for thread in self.simulation.threads], ["works", "works"])

    def test_the_watchman_sleeps_between_two_looks_and_longer_while_nothing_happens(self) -> None:
        self.simulation.crew.watch(0.25)
        self.assertEqual(self.simulation.sleeps, [0.25])
        self.put_own(1)
        self.simulation.used = 100.0  # so no other thread is woken
        self.simulation.sleeps.clear()
        self.simulation.crew.watch(WAKE_AFTER * 2.5)
        for found, expected in zip(self.simulation.sleeps, (1.0, 1.0, 0.5), strict=True):
            self.assertAlmostEqual(found, WAKE_AFTER * expected)
        self.simulation.crew.wake_watchman()
        self.simulation.crew.watch(60.0)
        self.assertEqual(len(self.simulation.sleeps), 3)

    def test_it_is_judged_no_sooner_than_after_a_moment(self) -> None:
        self.put_own(9)
        self.pass_time(0.005, 1.0)
        self.pass_time(0.0001, 0.0)
        self.assertEqual(self.at_work, 1)

    def test_it_is_judged_by_the_time_since_the_last_judgement(self) -> None:
        self.put_own(9)
        self.pass_time(0.005, 1.0)
        self.simulation.step("end", 0)  # so a task was taken just now
        self.pass_time(0.005, 0.05)
        self.assertEqual(self.at_work, 4)


class ArmedTest(unittest.TestCase):
    """Where an event can wake the watchman, a request that comes alone does not."""

    def setUp(self) -> None:
        self.simulation = Simulation(4, can_arm=True)
        self.simulation.step("next", 0)
        self.simulation.look()

    def ask(self, after: float) -> None:
        """A request comes, and is being answered."""
        self.simulation.now += after
        self.simulation.step("events", 0)

    def does(self) -> list[str]:
        return [thread.does for thread in self.simulation.threads]

    def test_requests_with_pauses_leave_it_asleep(self) -> None:
        for _ in range(10):
            self.ask(WAKE_AFTER)
            self.assertTrue(self.simulation.is_armed)
            self.simulation.step("end", 0)
            self.assertFalse(self.simulation.is_armed)
        self.assertEqual((self.simulation.is_watchman_woken, self.simulation.watchman_sleeps), (False, True))

    def test_requests_without_pauses_have_it_look_now_and_then(self) -> None:
        self.ask(WAKE_AFTER)
        self.simulation.step("end", 0)
        self.ask(WAKE_AFTER / 2)
        self.assertTrue(self.simulation.is_watchman_woken)
        self.assertFalse(self.simulation.is_armed)
        self.simulation.look()
        self.assertFalse(self.simulation.watchman_sleeps)

    def test_a_request_during_another_that_takes_long_gets_a_leader_at_once(self) -> None:
        self.ask(1.0)
        self.simulation.now += WAKE_AFTER
        self.simulation.come()
        self.simulation.look()
        self.simulation.step("next", 1)
        self.assertEqual(self.does(), ["works", "leads"])

    def test_a_request_during_another_that_is_quick_gets_one_if_that_goes_on(self) -> None:
        for goes_on in (False, True):
            with self.subTest(goes_on=goes_on):
                self.setUp()
                self.ask(1.0)
                self.simulation.come()
                self.simulation.look()
                self.assertEqual(self.does(), ["works"])
                self.assertFalse(self.simulation.watchman_sleeps)
                if not goes_on:
                    self.simulation.step("end", 0)
                self.simulation.now += WAKE_AFTER
                self.simulation.look()
                self.assertEqual(self.does(), ["works", "begins"] if goes_on else ["leads"])

    def test_an_event_that_wakes_it_too_late_changes_nothing(self) -> None:
        self.ask(1.0)
        self.simulation.come()
        self.simulation.step("end", 0)
        self.simulation.look()
        self.simulation.look()  # and goes to sleep
        self.assertEqual((self.does(), self.simulation.watchman_sleeps), (["leads"], True))

    def test_a_thread_that_computes_gets_no_help_for_a_moment(self) -> None:
        self.ask(1.0)
        self.simulation.now += WAKE_AFTER
        self.simulation.used += WAKE_AFTER
        self.simulation.come()
        self.simulation.look()
        self.assertEqual(self.does(), ["works"])
        self.simulation.now += 5 * WAKE_AFTER
        self.simulation.used += 5 * WAKE_AFTER
        self.simulation.look()
        self.assertEqual(self.does(), ["works", "begins"])

    def test_one_that_stops_leaves_its_task_to_a_watchman_who_is_awake(self) -> None:
        for kind, at in (("two events", 0), ("late look", 0), ("next", 1), ("look after work", 0), ("look", 0)):
            self.simulation.step(kind, at)
        self.assertTrue(self.simulation.watchman_sleeps)
        self.simulation.step("end with more", 0)
        self.assertTrue(self.simulation.is_watchman_woken)


class WatchmansSleepTest(unittest.TestCase):
    """The real one, with the epoll object of a loop."""

    def setUp(self) -> None:
        self.loop = select.epoll()
        self.addCleanup(self.loop.close)
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)
        self.loop.register(self.ours, select.EPOLLIN)
        self.sleep = WatchmansSleep(self.loop.fileno())

    def test_it_ends_when_it_is_woken_also_in_advance(self) -> None:
        for _ in range(3):
            self.sleep.wake()
        self.assertFalse(self.sleep.sleep())
        self.assertFalse(self.sleep.sleep(0.0))
        sleeping = threading.Thread(target=self.sleep.sleep, daemon=True)
        sleeping.start()
        self.sleep.wake()
        sleeping.join(10)
        self.assertFalse(sleeping.is_alive())

    def test_an_event_ends_it_once_if_it_is_armed(self) -> None:
        self.theirs.send(b"x")
        self.assertFalse(self.sleep.sleep(0.0))
        self.assertTrue(self.sleep.arm())  # the event has come already
        self.assertTrue(self.sleep.sleep())
        self.assertFalse(self.sleep.sleep(0.0))
        self.sleep.arm()
        self.sleep.disarm()
        self.assertFalse(self.sleep.sleep(0.0))
        self.ours.recv(1)
        self.sleep.arm()
        self.assertFalse(self.sleep.sleep(0.0))
        threading.Timer(0.05, self.theirs.send, (b"x",)).start()
        self.assertTrue(self.sleep.sleep(10.0))


class CrewTest(unittest.TestCase):
    """A crew with threads. Each event is one release of a semaphore."""

    def setUp(self) -> None:
        self.events: deque[Callable[[], None]] = deque()
        self.wait = threading.Semaphore(0)
        self.leads = threading.Event()
        self.crew = self.make_crew()
        self.crew.begin()

    def make_crew(self, size: int = 4, start: Callable[[Callable[[], None]], None] | None = None) -> Crew:
        return Crew(size, self.lead, self.wait.release, start=start)

    def lead(self) -> None:
        self.leads.set()
        self.wait.acquire()
        if self.events:
            self.crew.put_own(self.events.popleft())

    def send(self, *tasks: Callable[[], None]) -> None:
        """Have the leader see so many events."""
        for task in tasks:
            self.events.append(task)
            self.wait.release()

    def watch_until(self, condition: Callable[[], object], message: str) -> None:
        """As the main thread does."""

        def is_met() -> object:
            self.crew.watch(0.001)
            return condition()

        wait_until(is_met, message=message)

    def test_every_task_is_run_once(self) -> None:
        ran: list[int] = []
        self.send(*(lambda n=n: ran.append(n) for n in range(500)))  # type: ignore[misc]
        for n in range(500, 1000):
            self.crew.put(lambda n=n: ran.append(n))  # type: ignore[misc]
        self.watch_until(lambda: len(ran) == 1000, "the tasks")
        self.assertEqual(sorted(ran), list(range(1000)))
        self.assertFalse(self.crew.has_tasks)

    def test_one_thread_runs_them_in_order(self) -> None:
        self.crew = self.make_crew(1)
        self.crew.begin()
        ran: list[int] = []
        for n in range(500):
            self.crew.put(lambda n=n: ran.append(n))  # type: ignore[misc]
        self.watch_until(lambda: len(ran) == 500, "the tasks")
        self.assertEqual(ran, list(range(500)))

    def test_a_task_that_waits_holds_no_other_up(self) -> None:
        leave, ran = threading.Event(), threading.Event()
        self.addCleanup(leave.set)
        self.send(lambda: leave.wait(60) and None, ran.set)
        self.watch_until(ran.is_set, "the second task")
        self.assertFalse(leave.is_set())

    def keep_all_at_work(self, leave: threading.Event) -> None:
        at_work: list[None] = []

        def wait() -> None:
            at_work.append(None)
            leave.wait(60)

        self.send(*[wait] * 4)
        self.watch_until(lambda: len(at_work) == 4, "all threads")
        self.assertTrue(self.crew.is_busy)

    def test_all_wait_and_one_that_is_free_again_takes_the_next(self) -> None:
        leave, ran = threading.Event(), threading.Event()
        self.addCleanup(leave.set)
        self.keep_all_at_work(leave)
        self.crew.put(ran.set)
        self.assertTrue(self.crew.has_tasks)
        leave.set()
        self.assertTrue(ran.wait(10), "without the watchman")

    def test_the_watchman_leads_where_no_thread_can(self) -> None:
        leave, ran = threading.Event(), threading.Event()
        self.addCleanup(leave.set)
        self.assertTrue(self.leads.wait(10))
        brief = mock.Mock()
        self.crew.lead_briefly(brief)
        brief.assert_not_called()
        self.keep_all_at_work(leave)
        self.crew.lead_briefly(lambda: self.crew.put_own(ran.set))
        self.assertTrue(self.crew.has_tasks)
        leave.set()
        self.assertTrue(ran.wait(10))

    def test_a_task_and_a_loop_that_fail_are_told_and_the_next_is_run(self) -> None:
        def fail() -> None:
            raise SystemExit(1)

        done = threading.Event()
        with self.assertLogs("sse_threaded.server.crew", "ERROR") as logs:
            self.send(fail, done.set)
            self.watch_until(done.is_set, "the second task")
            lead, self.lead = self.lead, fail  # type: ignore[method-assign]
            self.crew = self.make_crew(1)
            self.crew.begin()
            wait_until(lambda: len(logs.output) > 1, message="the second failure")
            self.crew._lead = lead
            done.clear()
            self.crew.put(done.set)
            self.watch_until(done.is_set, "the third task")
        self.assertIn("a task of the worker failed", logs.output[0])
        self.assertIn("the worker's loop failed", logs.output[1])

    def test_where_the_system_has_no_room_for_a_thread_those_that_there_are_go_on(self) -> None:
        allowed, ran = 1, threading.Event()

        def start(run: Callable[[], None]) -> None:
            nonlocal allowed
            if not allowed:
                raise RuntimeError("can't start new thread")
            allowed -= 1
            threading.Thread(target=run, daemon=True).start()

        leave = threading.Event()
        self.addCleanup(leave.set)
        self.wait = threading.Semaphore(0)
        self.crew = self.make_crew(2, start)
        self.crew.begin()
        with self.assertLogs("sse_threaded.server.crew", "WARNING") as logs:
            self.send(lambda: leave.wait(60) and None)
            self.watch_until(lambda: logs.output, "the warning")
        self.assertIn("1 of 2 threads: can't start new thread", logs.output[0])
        self.assertTrue(self.crew.is_busy)
        self.crew.put(ran.set)
        leave.set()
        self.assertTrue(ran.wait(10))
        with self.assertRaises(RuntimeError):
            self.make_crew(2, start).begin()

    def test_a_task_that_comes_as_the_last_thread_becomes_the_leader_is_not_forgotten(self) -> None:
        for put in [self.crew.put, self.send] * 150:
            done = threading.Event()
            put(done.set)
            self.assertTrue(done.wait(10), "without the watchman")

    def test_the_watchman_can_be_woken_also_in_advance(self) -> None:
        self.crew.wake_watchman()
        self.crew.watch(60)
        watching = threading.Thread(target=self.crew.watch, args=(60,), daemon=True)
        watching.start()
        self.crew.wake_watchman()
        watching.join(10)
        self.assertFalse(watching.is_alive())


class SleeperTest(unittest.TestCase):
    def test_it_sleeps_until_it_is_woken_and_a_waking_that_comes_first_is_kept(self) -> None:
        sleeper = Sleeper()
        for _ in range(2):
            sleeper.wake()  # also if it was woken already
        sleeper.sleep()
        sleeper.sleep(0.0)
        sleeping = threading.Thread(target=sleeper.sleep, daemon=True)
        sleeping.start()
        sleeper.wake()
        sleeping.join(10)
        self.assertFalse(sleeping.is_alive())
