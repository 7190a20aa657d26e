"""How a log in PostgreSQL is trimmed: in small steps, by one process at a time, beside writers and old readers."""

from __future__ import annotations

import random
import threading
import unittest
from contextlib import closing
from typing import Any
from unittest import mock

from sse_threaded import HistoryGone, Retention
from sse_threaded.log.postgres import trimmer
from sse_threaded.log.postgres.log import PostgresLog
from sse_threaded.log.retention import AS_OTHERS_KEEP
from tests.harness.postgres_server import PostgresServer
from tests.postgres.patience import be_patient
from tests.support import wait_until

ONCE = True  # it says the same under every Python


class TrimmerCase(unittest.TestCase):
    postgres: PostgresServer
    made = 0

    @classmethod
    def setUpClass(cls) -> None:
        cls.postgres = PostgresServer()
        cls.addClassCleanup(cls.postgres.close)

    def setUp(self) -> None:
        be_patient(self)
        TrimmerCase.made += 1
        self.prefix = f"t{self.made}"

    def open_log(self, retention: Retention | None = None, **options: int) -> PostgresLog:
        log = PostgresLog(self.postgres.url(prefix=self.prefix), retention, **options)
        self.addCleanup(log.close)
        return log

    def append_all(self, log: PostgresLog, channels: str, count: int) -> None:
        with log.transaction() as transaction:
            for number in range(count):
                transaction.append(channels[number % len(channels)], str(number))

    def make_older(self) -> None:
        self.postgres.ask(f"UPDATE {self.prefix}_numbers SET numbered = numbered - interval '2 hours'")

    def step(self, after: str, channels: int, events: int, keep: int | None, **bounds: float | None) -> Any:
        values = {"seconds": None, "slack": 0, "slack_seconds": 0.0, **bounds}.values()
        statement = f"SELECT * FROM {self.prefix}_trim(%s, %s, %s, %s::bigint, %s::float8, %s, %s)"
        return self.postgres.ask(statement, after, channels, events, keep, *values)[0]

    def count(self, table: str) -> int:
        return int(self.postgres.ask(f"SELECT count(*) FROM {self.prefix}_{table}")[0][0])


class StepTest(TrimmerCase):
    def test_a_step_has_a_bound_and_the_next_one_goes_on(self) -> None:
        self.append_all(self.open_log(), "ab", 100)
        self.assertEqual(self.step("", 10, 20, 10), ("", 20, False))
        self.assertEqual(self.step("", 10, 20, 10), ("", 20, False))
        self.assertEqual(self.step("", 10, 25, 10), ("a", 25, False))
        self.assertEqual(self.step("a", 10, 20, 10), ("", 15, True))
        self.assertEqual(self.step("", 1, 20, 10), ("a", 0, False))
        self.assertEqual((self.count("events"), self.count("numbers")), (20, 20))

    def test_one_channel_may_have_more_than_a_step_deletes(self) -> None:
        log = self.open_log(Retention(count=10, age=None))
        self.append_all(log, "ab", 2500)
        self.assertEqual(log.trim(), 2480)

    def test_a_channel_with_little_to_trim_waits_until_there_is_more(self) -> None:
        log = self.open_log()
        self.append_all(log, "a", 20)
        self.assertEqual(self.step("", 10, 100, 15, slack=5), ("", 0, True))
        self.append_all(log, "a", 1)
        self.assertEqual(self.step("", 10, 100, 15, slack=5), ("", 6, True))
        self.make_older()
        self.assertEqual(self.step("", 10, 100, None, seconds=3600.0, slack_seconds=3700.0), ("", 0, True))
        self.assertEqual(self.step("", 10, 100, None, seconds=3600.0, slack_seconds=3500.0), ("", 15, True))

    def test_one_process_at_a_time(self) -> None:
        log = self.open_log(Retention(count=5, age=None))
        self.append_all(log, "a", 20)
        with closing(self.postgres.connect()) as other:
            other.execute("BEGIN")
            other.execute(f"SELECT {self.prefix}_trim('', 1, 1, 5, NULL, 0, 0)")
            self.assertEqual(self.step("a", 10, 100, 5), ("a", 0, None))
            self.assertEqual(self.postgres.ask(f"SELECT {self.prefix}_fold(0, 10)"), [(0,)])
            other.execute("ROLLBACK")
        self.assertEqual(log.trim(), 15)

    def test_a_trim_of_everything_waits_for_the_step_of_another_process(self) -> None:
        log = self.open_log(Retention(count=5, age=None))
        self.append_all(log, "a", 20)
        trimmed: list[int] = []
        with closing(self.postgres.connect()) as other:
            other.execute("BEGIN")
            other.execute(f"SELECT {self.prefix}_trim('', 1, 3, 5, NULL, 0, 0)")
            thread = threading.Thread(target=lambda: trimmed.append(log.trim()))
            thread.start()
            other.execute("SELECT pg_sleep(0.1)")
            other.execute("COMMIT")
        thread.join(60)
        self.assertEqual(trimmed, [12])

    def test_the_newest_number_stays_and_goes_with_the_next_ones(self) -> None:
        log = self.open_log(Retention(count=None, age=3600.0))
        self.append_all(log, "ab", 4)
        self.make_older()
        self.assertEqual(log.trim(), 4)
        self.assertEqual((self.count("events"), self.count("numbers")), (0, 1))
        self.assertEqual(log.trim(), 0)
        self.assertRaises(HistoryGone, log.read, 3)
        self.assertEqual(log.append("a", "new")[7:], "5")
        self.assertEqual(log.trim(), 0)
        self.assertEqual((self.count("events"), self.count("numbers")), (1, 1))
        self.assertEqual([record.data for record in log.read(4)], ["new"])
        self.assertEqual(log.read(4, channels=["b"]), [])
        self.assertRaises(HistoryGone, log.read, 3, channels=["b"])

    def test_events_without_a_number_are_not_trimmed(self) -> None:
        log = self.open_log(Retention(count=1, age=1.0))
        self.postgres.ask(f"SELECT {self.prefix}_publish('a', 'one')")
        self.assertEqual(log.trim(), 0)
        log.ring()
        self.assertEqual([record.data for record in log.read(0)], ["one"])

    def test_an_old_snapshot_keeps_nothing_from_being_trimmed(self) -> None:
        log = self.open_log(Retention(count=5, age=None))
        with closing(self.postgres.connect()) as old:
            old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            old.execute("SELECT 1")
            for _ in range(5):
                self.append_all(log, "a", 20)
                log.trim()
            self.assertEqual(self.count("events"), 5)

    def test_the_newest_number_is_noted_now_and_then(self) -> None:
        log = self.open_log()
        self.append_all(log, "a", 10)
        log.trim()
        self.assertEqual(self.postgres.ask(f"SELECT high FROM {self.prefix}_state"), [(0,)])
        self.append_all(log, "a", 1500)
        log.trim()
        self.assertEqual(self.postgres.ask(f"SELECT high FROM {self.prefix}_state"), [(1510,)])

    def test_each_channel_keeps_its_newest_events(self) -> None:
        chance = random.Random(5)
        log = self.open_log(Retention(count=7, age=None))
        expected: dict[str, list[str]] = {}
        for number in range(40):
            with log.transaction() as transaction:
                for part in range(chance.randrange(12)):
                    channel = chance.choice("aaabbc")
                    transaction.append(channel, f"{number} {part}")
                    expected.setdefault(channel, []).append(f"{number} {part}")
            if chance.random() < 0.3:
                log.trim()
        log.trim()
        for channel, events in expected.items():
            statement = f"SELECT data FROM {self.prefix}_events WHERE channel = %s ORDER BY place"
            self.assertEqual([data for (data,) in self.postgres.ask(statement, channel)], events[-7:])
        self.assertEqual(self.count("numbers"), 21)

    def test_beside_writers(self) -> None:
        log, other = (self.open_log(Retention(count=10, age=None)) for _ in range(2))
        failures: list[BaseException] = []
        done = threading.Event()

        def guarded(work: Any) -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)

        def write() -> None:
            for number in range(100):
                log.append("abc"[number % 3], str(number))

        def trim() -> None:
            while not done.is_set():
                other.trim()

        writers = [threading.Thread(target=guarded, args=(write,)) for _ in range(4)]
        trimmers = [threading.Thread(target=guarded, args=(trim,)) for _ in range(2)]
        for thread in (*writers, *trimmers):
            thread.start()
        for thread in writers:
            thread.join(120)
        done.set()
        for thread in trimmers:
            thread.join(120)
        log.trim()
        self.assertEqual(failures, [])
        self.assertEqual((self.count("events"), self.count("numbers"), log.last_sequence()), (30, 30, 400))


class ThreadTest(TrimmerCase):
    def test_a_process_with_a_doorbell_trims(self) -> None:
        with mock.patch.object(trimmer, "_SHORTEST", 0.01):
            log = self.open_log(Retention(count=10, age=None))
            self.append_all(log, "a", 100)
            self.addCleanup(log.open_doorbell().close)
            wait_until(lambda: self.count("events") == 10, timeout=30, message="it is trimmed")

    def test_a_process_that_must_not_decide_trims_nothing(self) -> None:
        log = self.open_log(AS_OTHERS_KEEP)
        self.append_all(log, "a", 10)
        self.addCleanup(log.open_doorbell().close)
        self.assertNotIn("sse_threaded trimmer", [thread.name for thread in threading.enumerate()])
        self.assertEqual(log.trim(), 0)

    def test_it_goes_on_after_a_fault(self) -> None:
        with mock.patch.object(trimmer, "_SHORTEST", 0.01), mock.patch.object(trimmer, "_LONGEST", 0.01):
            log = self.open_log(Retention(count=10, age=None))
            self.addCleanup(log.open_doorbell().close)
            with self.assertLogs("sse_threaded", "WARNING") as logged:
                self.postgres.ask(f"ALTER FUNCTION {self.prefix}_trim RENAME TO {self.prefix}_gone")
                wait_until(lambda: any("could not trim" in line for line in logged.output), timeout=30)
            self.postgres.ask(f"ALTER FUNCTION {self.prefix}_gone RENAME TO {self.prefix}_trim")
            self.append_all(log, "a", 100)
            wait_until(lambda: self.count("events") == 10, timeout=30, message="it is trimmed")


if __name__ == "__main__":
    unittest.main()
