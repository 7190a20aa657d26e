"""Apps' own transactions while processes and servers are killed: the short form of ``benchmarks.transactions``."""

from __future__ import annotations

import logging
import unittest
from typing import Any
from unittest import mock

from benchmarks.faults.clients import ReceivedEvent
from benchmarks.faults.delivery_check import DeliveryCheck, EpochChain
from benchmarks.transactions.comparison import Comparison, LogContents
from benchmarks.transactions.experiment import Outcome, Plan, run
from benchmarks.transactions.writers import Ledger
from sse_threaded.log.postgres import schema

ONCE = True  # it says the same under every Python


class StressCase(unittest.TestCase):
    def strike(self, database: str, seconds: float) -> Outcome:
        logging.getLogger("sse_threaded").setLevel(logging.CRITICAL)
        self.addCleanup(logging.getLogger("sse_threaded").setLevel, logging.NOTSET)
        for longer in (1, 4):  # on a busy machine no client may have been connected when its server was killed
            outcome = run(Plan(database, longer * seconds, held=3.0, kill_every=1.0, strike_every=3.0))
            self.assertEqual(outcome.faults, [])
            if outcome.reconnections:
                break
        self.assertGreater(outcome.kills, 0)
        self.assertGreater(sum(outcome.strikes.values()), 0)
        self.assertGreater(len(outcome.ledger.committed), 50)
        self.assertGreater(len(outcome.ledger.rolled_back), 10)
        self.assertGreater(outcome.reconnections, 0)
        return outcome


class KilledTest(StressCase):
    def test_postgresql_and_streaming_processes_are_killed(self) -> None:
        with mock.patch.object(schema, "BATCH", 5):  # so that a few events are a backlog
            outcome = self.strike("killed", 4.0)
        self.assertEqual((outcome.epochs, outcome.comparison.check.resets), (1, 0))


class PooledTest(StressCase):
    def test_behind_pgbouncer_all_sessions_are_ended(self) -> None:
        outcome = self.strike("pooled", 3.0)
        self.assertEqual((outcome.epochs, outcome.comparison.check.resets), (1, 0))


class SynchronousTest(StressCase):
    def test_a_replica_that_has_everything_takes_over(self) -> None:
        outcome = self.strike("synchronous", 2.5)
        self.assertEqual((outcome.comparison.lost_by_database, outcome.comparison.check.resets), (0, 0))


class AsynchronousTest(StressCase):
    def test_a_replica_that_is_behind_takes_over(self) -> None:
        outcome = self.strike("asynchronous", 2.5)
        self.assertGreater(outcome.comparison.lost_by_database, 0)
        resets = outcome.comparison.check.resets
        self.assertGreater(resets, 0)
        self.assertLess(resets, 8)  # one client misses nothing


class ComparisonTest(unittest.TestCase):
    """That a fault would be seen."""

    def make_ledger(self, **known: Any) -> Ledger:
        ledger = Ledger()
        ledger.committed |= {"w0-1", "w0-2", "w1-1"}
        ledger.order = {"w0": ["w0-1", "w0-2"], "w1": ["w1-1"]}
        for name, value in known.items():
            setattr(ledger, name, value)
        return ledger

    def make_contents(self, events: str = "w0-1 w1-1 w0-2", rows: str = "w0-1 w0-2 w1-1") -> LogContents:
        numbered = [(number, "a", name) for number, name in enumerate(events.split(), 1) if name != "-"]
        return LogContents(EpochChain("bbbbbb", {"aaaaaa": 2}), numbered, [(name, "a") for name in rows.split()])

    def faults(self, contents: LogContents, ledger: Ledger, *, keeps_all: bool = True) -> list[str]:
        comparison = Comparison()
        comparison.compare_rows(contents, ledger, keeps_all=keeps_all)
        return comparison.faults

    def test_rows_and_events(self) -> None:
        self.assertEqual(self.faults(self.make_contents(), self.make_ledger()), [])
        three = {"w0-1", "w0-2", "w1-1"}
        table: list[tuple[str, LogContents, dict[str, Any]]] = [
            ("a row has no event", self.make_contents(rows="w0-1 w0-2 w1-1 w2-1"), {}),
            ("an event has no row", self.make_contents("w0-1 w1-1 w0-2 w2-1"), {}),
            ("an event is twice in the log", self.make_contents("w0-1 w1-1 w0-2 w1-1"), {}),
            ("a number is missing", self.make_contents("w0-1 - w1-1 w0-2"), {}),
            ("the first number is missing", self.make_contents("- w0-1 w1-1 w0-2"), {}),
            ("the wrong order", self.make_contents("w0-2 w0-1 w1-1"), {}),
            ("one was rolled back", self.make_contents(), {"rolled_back": {"w1-1"}}),
            ("one is lost", self.make_contents(), {"committed": three | {"w3-1"}}),
            ("another id was returned", self.make_contents(), {"ids": {"w1-1": ("a", "bbbbbb-3")}}),
            ("a writer complains", self.make_contents(), {"complaints": ["that"]}),
        ]
        for what, contents, known in table:
            with self.subTest(what):
                self.assertEqual(len(self.faults(contents, self.make_ledger(**known))), 1)

    def test_a_database_that_may_lose_transactions(self) -> None:
        ledger = self.make_ledger(committed={"w0-1", "w0-2", "w1-1", "w3-1"})
        self.assertEqual(self.faults(self.make_contents(), ledger, keeps_all=False), [])

    def client_faults(self, *got: tuple[str, str], ledger: Ledger | None = None) -> list[str]:
        comparison = Comparison()
        received = [ReceivedEvent(event_id.lstrip("!"), event_id[0] == "!", 0.0, data) for event_id, data in got]
        comparison.compare_client("aaaaaa-0", received, ["a"], self.make_contents(), ledger or self.make_ledger())
        return comparison.faults

    def test_what_a_client_received(self) -> None:
        first, second, third = ("aaaaaa-1", "w0-1"), ("aaaaaa-2", "w1-1"), ("bbbbbb-3", "w0-2")
        lost = ("aaaaaa-3", "w9-1")
        self.assertEqual(self.client_faults(first, second, third), [])
        self.assertEqual(self.client_faults(first, ("bbbbbb-2", "w1-1"), third), [])
        self.assertEqual(self.client_faults(first, second, lost, ("!bbbbbb-2", ""), third), [])
        self.assertEqual(self.client_faults(first, second, lost, ("!bbbbbb-3", "")), [])
        for what, got in (
            ("one is missing", (first, third)),
            ("one has other data", (first, ("aaaaaa-2", "w1-2"), third)),
            ("a needless reset", (first, second, ("!bbbbbb-2", ""), third)),
            ("a lost event and no reset", (first, second, lost, third)),
            ("one is missing before a lost one", (first, lost, ("!bbbbbb-2", ""), third)),
            ("one is missing before a reset", (first, lost, ("!bbbbbb-3", ""))),
        ):
            with self.subTest(what):
                self.assertEqual(len(self.client_faults(*got)), 1, self.client_faults(*got))
        undone = self.make_ledger(rolled_back={"w9-1"})
        self.assertEqual(len(self.client_faults(first, second, lost, ("!bbbbbb-3", ""), ledger=undone)), 1)

    def test_an_acknowledged_event_of_the_lost_end_was_skipped(self) -> None:
        chain = EpochChain("bbbbbb", {"aaaaaa": 1})
        got = [ReceivedEvent(each, False, 0.0) for each in ("aaaaaa-1", "aaaaaa-4")]
        got.append(ReceivedEvent("bbbbbb-1", True, 0.0))
        check = DeliveryCheck()
        check.add("aaaaaa-0", got, ["bbbbbb-1"], ["aaaaaa-1", "aaaaaa-3", "aaaaaa-4", "aaaaaa-5"], chain)
        self.assertEqual(
            (check.lost, check.doubled, check.unexpected, check.resets, check.needless), (1, 0, 0, 1, 0)
        )


if __name__ == "__main__":
    unittest.main()
