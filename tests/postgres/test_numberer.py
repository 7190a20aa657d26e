"""The numberer: when it is called, when it looks by itself, and that no event is forgotten in between."""

from __future__ import annotations

import itertools
import unittest
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any
from unittest import mock

import psycopg

from sse_threaded.log.postgres import numberer as numberer_module
from sse_threaded.log.postgres.driver import BoundedConnection
from sse_threaded.log.postgres.log import PostgresLog
from sse_threaded.log.postgres.numberer import NUMBERING, Numberer
from sse_threaded.log.postgres.schema import fill
from sse_threaded.log.postgres.timeouts import Timeouts
from sse_threaded.log.postgres.url import parse_url
from tests.postgres.patience import PATIENT
from tests.postgres.server_case import PostgresCase
from tests.support import wait_until

ONCE = True  # it says the same under every Python

# Looks until a numberer that is awake falls asleep, with room.
_MANY = 100


class Clock:
    """Time that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class NumbererCase(PostgresCase):
    def setUp(self) -> None:
        self.clock = Clock()
        patch = mock.patch.object(numberer_module, "time", self.clock)
        patch.start()
        self.addCleanup(patch.stop)
        self.log = PostgresLog(self.postgres.url(), timeouts=PATIENT)
        self.addCleanup(self.log.close)
        self.address = parse_url(self.postgres.url())
        self.app = self.connect()
        self.addCleanup(self.app.rollback)
        self.start = self.log.last_sequence()

    def connect(self) -> psycopg.Connection[Any]:
        connection = self.postgres.connect()
        connection.autocommit = False
        self.addCleanup(connection.close)
        return connection

    def make(self, connection: Any = None) -> Numberer:
        """A numberer with a connection of its own."""
        if connection is None:
            connection = BoundedConnection.connect(self.postgres.url(), autocommit=True)
            connection.answer = 60.0
            self.addCleanup(connection.close)
        made = Numberer(connection, self.address, self.log._give_numbers, Timeouts())
        made.look()
        return made

    def wake(self, numberer: Numberer) -> None:
        """Let it be called by many at once until it stays awake."""
        for _ in range(_MANY):
            numberer.hear_call()
            numberer.hear_call()
            numberer.number()
            if numberer.is_awake:
                return

    def idle(self, numberer: Numberer) -> None:
        """Let it look until it falls asleep."""
        for _ in range(_MANY):
            if not numberer.is_awake:
                return
            numberer.number()
        self.fail("it stays awake although nothing happens")

    def run_out(self, numberer: Numberer) -> float:
        """Let time pass until it waits to be called; returns how long that took."""
        begun = self.clock.now
        while numberer.next - self.clock.now < NUMBERING:
            self.assertLess(self.clock.now - begun, 600.0, "it looks again and again")
            self.clock.now = max(self.clock.now, numberer.next)
            numberer.number()
        return self.clock.now - begun

    def publish(self, connection: psycopg.Connection[Any], data: str = "one") -> bool:
        """Publish in the open transaction; returns what the function returns."""
        ((found,),) = connection.execute("SELECT sse_threaded_publish('a', %s)", [data]).fetchall()
        return bool(found)

    def numbered(self) -> list[str]:
        return [record.data for record in self.log.read(self.start)]


class AwakeTest(NumbererCase):
    def test_under_load_transactions_do_not_notify(self) -> None:
        numberer = self.make()
        self.assertTrue(numberer.has_role)
        self.run_out(numberer)
        with closing(self.postgres.connect()) as listening:
            listening.execute(f'LISTEN "{self.address.bell}"')
            self.assertFalse(self.publish(self.app))
            self.app.commit()
            self.assertEqual([note.payload for note in listening.notifies(timeout=60, stop_after=1)], ["pending"])
            self.wake(numberer)
            self.assertTrue(numberer.is_awake)
            before = self.numbered()
            self.assertTrue(self.publish(self.app, "two"))
            self.app.commit()
            numberer.number()
            self.assertEqual(self.numbered(), [*before, "two"])
            newest = self.log.last_event_id()
            heard: list[str] = [""]
            while heard[-1] != newest:
                heard += [note.payload for note in listening.notifies(timeout=60, stop_after=1)]
            self.assertNotIn("pending", heard)
        self.assertLess(numberer.next - self.clock.now, 0.1)

    def test_one_call_at_a_time_lets_it_sleep(self) -> None:
        numberer = self.make()
        for _ in range(_MANY):
            numberer.hear_call()
            numberer.number()
        self.assertFalse(numberer.is_awake)

    def test_it_stays_awake_as_long_as_events_come(self) -> None:
        numberer = self.make()
        self.wake(numberer)
        for _ in range(_MANY):
            self.publish(self.app)
            self.publish(self.app)
            self.app.commit()
            numberer.number()
        self.assertTrue(numberer.is_awake)
        self.idle(numberer)
        self.assertFalse(self.publish(self.app))

    def test_if_it_cannot_say_that_it_is_awake_transactions_notify(self) -> None:
        numberer = self.make()
        with self.postgres.connect() as other:
            other.execute("SELECT pg_advisory_lock_shared(%s)", [self.address.awake_key])
            self.wake(numberer)
            self.assertFalse(numberer.is_awake)
            self.assertFalse(self.publish(self.app))
            self.app.rollback()
            other.execute("SELECT pg_advisory_unlock_shared(%s)", [self.address.awake_key])
        self.wake(numberer)
        self.assertTrue(numberer.is_awake)

    def test_the_look_of_a_transaction_leaves_no_lock(self) -> None:
        count = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        numberer = self.make()
        for prepare in (self.run_out, self.wake):
            prepare(numberer)
            for _ in range(3):
                self.publish(self.app)
                self.assertEqual(self.app.execute(count).fetchall(), [(0,)])
            self.app.commit()

    def test_a_ring_leaves_the_event_to_a_numberer_that_is_awake(self) -> None:
        numberer = self.make()
        self.wake(numberer)
        self.log.append("a", "one", connection=self.app)
        self.app.commit()
        before = self.numbered()
        self.log.ring()
        self.assertEqual(self.numbered(), before)
        numberer.number()
        self.assertEqual(self.numbered(), [*before, "one"])
        self.idle(numberer)
        self.log.append("a", "two", connection=self.app)
        self.app.commit()
        self.log.ring()
        self.assertEqual(self.numbered(), [*before, "one", "two"])


class DrowsyTest(NumbererCase):
    def test_it_waits_for_transactions_that_have_not_notified(self) -> None:
        numberer = self.make()
        self.wake(numberer)
        self.assertTrue(self.publish(self.app, "late"))
        self.idle(numberer)
        before = self.numbered()
        for _ in range(50):
            self.clock.now = numberer.next
            numberer.number()
        self.assertLessEqual(numberer.next - self.clock.now, Timeouts().look)
        self.app.commit()
        self.clock.now = numberer.next
        numberer.number()
        self.assertEqual(self.numbered(), [*before, "late"])
        self.assertEqual(numberer.next - self.clock.now, NUMBERING)

    def test_it_looks_less_often_the_longer_they_last(self) -> None:
        numberer = self.make()
        self.wake(numberer)
        self.publish(self.app)
        self.idle(numberer)
        begun, looks = self.clock.now, 0
        while self.clock.now < begun + 60:
            self.clock.now = numberer.next
            numberer.number()
            looks += 1
        self.assertLess(looks, 200)
        self.app.commit()
        self.assertLess(self.run_out(numberer), 2)

    def test_a_transaction_that_began_later_does_not_keep_it(self) -> None:
        numberer = self.make()
        self.wake(numberer)
        self.idle(numberer)
        self.assertFalse(self.publish(self.app))
        self.run_out(numberer)

    def test_the_next_one_knows_that_the_last_one_was_awake(self) -> None:
        first = self.make()
        self.wake(first)
        second = self.make()
        self.assertFalse(second.has_role)
        self.assertTrue(self.publish(self.app, "late"))
        first._connection.close()

        def takes_over() -> bool:
            self.clock.now += 1.0
            second.look()
            return second.has_role

        wait_until(takes_over, message="it has the role")
        for _ in range(20):
            self.clock.now = second.next
            second.number()
        self.app.commit()
        before = self.numbered()
        self.run_out(second)
        self.assertEqual(self.numbered(), [*before, "late"])

    def test_others_notice_that_it_hangs(self) -> None:
        first = self.make()
        self.wake(first)
        second = self.make()
        self.publish(self.app, "late")
        self.app.commit()
        self.assertFalse(second.is_due)
        self.clock.now += Timeouts().look + 0.1
        second.look()
        self.assertTrue(second.is_due)
        second.number()
        self.assertEqual(self.numbered()[-1], "late")
        # And not, if numbers come.
        self.clock.now += 0.1
        second.look()
        second.hear_number()
        self.clock.now += Timeouts().look + 0.1
        self.assertFalse(second.is_due)

    def test_after_a_failure_it_leaves_the_role_and_transactions_notify(self) -> None:
        numberer = self.make()
        self.wake(numberer)
        numberer.leave_role()
        self.assertFalse(self.publish(self.app))
        numberer.look()
        self.assertFalse(numberer.has_role)
        self.clock.now += 60
        numberer.look()
        self.assertTrue(numberer.has_role)


class Scheduled:
    """A connection of a numberer. Before each of its statements, another program may take a step."""

    def __init__(self, connection: Any, before: Callable[[], object]) -> None:
        self.connection = connection
        self.before = before

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        self.before()
        rows: list[tuple[Any, ...]] = self.connection.rows(statement, values)
        return rows


class EveryOrderTest(NumbererCase):
    """One transaction beside a numberer that wakes up and falls asleep twice: every order of their steps."""

    points = 0

    def setUp(self) -> None:
        super().setUp()
        self.connection = BoundedConnection.connect(self.postgres.url(), autocommit=True)
        self.connection.answer = 60.0
        self.addCleanup(self.connection.close)
        for name in ("_TIMES_BUSY", "_TIMES_IDLE"):
            patch = mock.patch.object(numberer_module, name, 1)
            patch.start()
            self.addCleanup(patch.stop)
        self.heard = False

    def insert(self) -> None:
        self.app.execute("INSERT INTO sse_threaded_events (channel, data) VALUES ('a', 'one')")

    def look(self) -> None:
        ((is_awake,),) = self.app.execute(fill(self.address, "SELECT {is_awake}")).fetchall()
        self.heard = not is_awake

    def commit(self) -> None:
        self.app.commit()
        if self.heard:
            self.numberer.hear_call()

    def run_once(self, places: Sequence[int]) -> None:
        """Take the steps of the transaction before the statements with these numbers."""
        steps = [*zip(places, (self.insert, self.look, self.commit), strict=True)]
        points = itertools.count()

        def before() -> None:
            point = next(points)
            while steps and steps[0][0] <= point:
                steps.pop(0)[1]()

        def give() -> int:
            before()  # numbers are given in one statement, too
            return self.log._give_numbers()

        self.numberer = Numberer(Scheduled(self.connection, before), self.address, give, Timeouts())  # type: ignore[arg-type]
        self.numberer.look()
        for _ in range(2):
            self.wake(self.numberer)
            self.idle(self.numberer)
            for _ in range(3):
                if self.numberer.is_due or self.numberer.next < self.clock.now + NUMBERING:
                    self.numberer.number()
        self.points = next(points)
        for _, step in steps:
            step()
        steps.clear()
        if self.numberer.is_due:
            self.numberer.number()
        self.run_out(self.numberer)
        self.numberer.leave_role()

    def test_the_event_gets_its_number(self) -> None:
        self.run_once((1000, 1000, 1000))
        self.assertGreater(self.points, 10)
        count = self.log.last_sequence()
        for places in itertools.combinations_with_replacement(range(self.points + 1), 3):
            self.run_once(places)
            count += 1
            self.assertEqual(self.log.last_sequence(), count, f"the steps before the statements {places}")


if __name__ == "__main__":
    unittest.main()
