"""Several hosts and one Redis: their clients lose nothing when something fails; and a loss would be noticed.

See :mod:`tests.harness.struck_hosts`.
"""

from __future__ import annotations

import shutil
import unittest

from benchmarks.faults.cases import REDIS_CASES
from benchmarks.faults.clients import ReceivedEvent
from benchmarks.faults.delivery_check import DeliveryCheck, longest_silence
from benchmarks.faults.experiment import Result
from benchmarks.faults.loopback import Loopback
from sse_threaded import EventLog, HistoryGone, open_log
from sse_threaded.testing import EventStreamClient, request
from tests.harness.own_network import own_network
from tests.harness.redis_server import RedisServer
from tests.harness.struck_hosts import AllHosts, OneDeploymentCase, assert_nothing_lost, strike
from tests.support import enter, missing, wait_until

ONCE = True  # it says the same under every Python

NAMED = {case.name: case for case in REDIS_CASES}
GAP = 10_000_000_000


def setUpModule() -> None:
    if shutil.which("redis-server") is None:
        missing("redis-server (apt-get install redis-server)")
    own = own_network()
    own.__enter__()
    unittest.addModuleCleanup(own.__exit__, None, None, None)


class OneRedisCase(OneDeploymentCase):
    make_store = NAMED["kill-always"].make_store


class FaultsTest(OneRedisCase):
    def strike(self, name: str, seconds: float) -> Result:
        return strike(self, NAMED[name], seconds, deployment=self.deployment)

    def test_a_host_that_is_cut_off_from_redis_goes_on_where_it_was(self):
        result = self.strike("cut", 4)
        assert_nothing_lost(self, result)
        self.assertEqual(result.reconnections, 0)  # its streams stay open and wait

    def test_redis_is_killed_and_comes_back_with_all_it_acknowledged(self):
        assert_nothing_lost(self, self.strike("kill-always", 1))

    def test_redis_hangs_for_longer_than_an_answer_may_take(self):
        assert_nothing_lost(self, self.strike("pause", 4))

    def test_an_app_host_is_killed(self):
        result = self.strike("kill-app", 1)
        assert_nothing_lost(self, result)
        self.assertGreater(result.reconnections, 0)

    def test_app_hosts_are_reloaded(self):
        result = self.strike("reload", 1)
        assert_nothing_lost(self, result)
        self.assertGreater(result.reconnections, 0)

    def test_redis_is_flushed_and_every_client_is_told(self):
        self.assertEqual(self.strike("flush", 0).check.resets, 18)


class FailoverTest(unittest.TestCase):
    def test_a_replica_that_is_in_step_takes_over(self):
        # Redis answers before its replica has it: what was under way may be lost, and then clients are told.
        strike(self, NAMED["failover"], 0)

    def test_a_replica_that_lacks_events_takes_over_and_every_client_is_told(self):
        result = strike(self, NAMED["failover-behind"], 2)
        self.assertGreater(result.check.lost_by_store, 0)
        self.assertEqual(result.check.resets, result.clients)


class LoopbackTest(unittest.TestCase):
    """The network for where there are no namespaces."""

    def test_a_host_is_cut_off_from_redis(self):
        self.assertEqual(strike(self, NAMED["cut"], 3, network=Loopback()).check.resets, 0)


class HostsTest(AllHosts, OneRedisCase):
    def test_the_first_board_is_there_also_just_after_a_flush(self):
        deployment = self.deployment
        for base in deployment.urls:
            for path, made in (("/boards/board-1/tasks", "task-5"), ("/boards", "board-2")):
                enter(self, EventStreamClient(f"{base}/boards/board-1/events")).wait_for_retry()
                deployment.store.empty()
                with self.subTest(base=base, path=path):
                    answers = []

                    def answered(url=base + path, answers=answers) -> bool:
                        # It may also say that the log is away just now; but not that the board is.
                        answers.append(request("POST", url, json={"title": "The first"}))
                        return answers[-1].status != 503

                    wait_until(answered, timeout=30, message="an answer")
                    self.assertEqual(answers[-1].status, 201, answers[-1].body)
                    self.assertEqual(answers[-1].headers["Location"].rpartition("/")[2], made)


class DivergedTest(unittest.TestCase):
    def test_servers_that_went_on_apart_give_no_number_twice(self):
        master = RedisServer("--appendonly", "yes", "--appendfsync", "always")
        self.addCleanup(master.close)
        replica = RedisServer("--replicaof", f"127.0.0.1 {master.port}")
        self.addCleanup(replica.close)
        before = self.open(master)
        for number in range(3):
            before.append("a", str(number))
        with replica.client() as client, master.client() as other:

            def is_in_step() -> bool:
                state = client.info("replication")
                written = other.info("replication")["master_repl_offset"]
                return state["master_link_status"] == "up" and state["slave_repl_offset"] >= written

            wait_until(is_in_step, message="it is in step")
            client.replicaof("NO", "ONE")  # as good as cut off
        lost = [before.append("a", "lost") for _ in range(2)]
        master.kill()
        master.start()
        lost += [before.append("a", "lost") for _ in range(5)]
        master.kill()
        after = self.open(replica)
        new = [after.append("a", "new") for _ in range(20)]
        self.assertEqual(before.epoch, after.epoch)
        self.assertEqual(set(lost) & set(new), set())
        for each in lost:
            with self.subTest(each), self.assertRaises(HistoryGone):
                after.read(after.sequence_of(each), channels=["a"])
        self.assertEqual(len(after.read(3, channels=["a"])), 20)

    def open(self, server: RedisServer) -> EventLog:
        log = open_log(server.url(prefix="diverged"))
        self.addCleanup(log.close)
        return log


class DeliveryCheckTest(unittest.TestCase):
    """That a loss would be seen."""

    def judge(
        self, start: str, got: list[str], kept: list[str], acknowledged: list[str] | None = None
    ) -> DeliveryCheck:
        """``got`` has a reset as ``!id``."""
        check = DeliveryCheck()
        taken = [ReceivedEvent(each.lstrip("!"), each[0] == "!", 0.0) for each in got]
        check.add(start, taken, kept, kept if acknowledged is None else acknowledged)
        return check

    def test_what_is_lost_doubled_or_strange(self):
        one, two, three = "aaaaaa-1", "aaaaaa-2", "aaaaaa-3"
        kept = [one, two, three]
        after_gap = f"aaaaaa-{GAP + 3}"
        # What it is, start, what came, what the log has, what was acknowledged: lost, doubled, strange, reset.
        table = [
            ("all", "aaaaaa-0", kept, kept, kept, (0, 0, 0, 0)),
            ("all since its start", one, [two, three], kept, kept, (0, 0, 0, 0)),
            ("one is missing", "aaaaaa-0", [one, three], kept, kept, (1, 0, 0, 0)),
            ("the end is missing", "aaaaaa-0", [one], kept, kept, (2, 0, 0, 0)),
            ("nothing came", "aaaaaa-0", [], kept, kept, (3, 0, 0, 0)),
            ("one came twice", "aaaaaa-0", [one, two, two, three], kept, kept, (0, 1, 0, 0)),
            ("one came thrice", "aaaaaa-0", [one, one, one, two, three], kept, kept, (0, 2, 0, 0)),
            ("the wrong order", "aaaaaa-0", [two, one, three], kept, kept, (0, 0, 1, 0)),
            ("lost by Redis and not told", "aaaaaa-0", kept, [one, two], kept, (0, 0, 1, 0)),
            ("lost by Redis and told", "aaaaaa-0", [*kept, f"!{two}"], [one, two], kept, (0, 0, 0, 1)),
            ("told, then one missing", "aaaaaa-0", [one, f"!{two}"], kept, kept, (1, 0, 0, 1)),
            ("one missing, then told", "aaaaaa-0", [two, f"!{three}"], kept, kept, (1, 0, 0, 1)),
            ("a gap", one, [after_gap], [one, after_gap], [one, two], (0, 0, 0, 0)),
            ("another log, told", "aaaaaa-0", [one, "!bbbbbb-0", "bbbbbb-1"], ["bbbbbb-1"], [one], (0, 0, 0, 1)),
            ("one missing before", "aaaaaa-0", [two, "!bbbbbb-1"], ["bbbbbb-1"], [one, two], (1, 0, 0, 1)),
            ("one of another log", "aaaaaa-0", ["bbbbbb-1", two, three], kept, kept, (1, 0, 1, 0)),
            ("another log and not told", "aaaaaa-0", [one], ["bbbbbb-1"], [one], (1, 0, 0, 0)),
        ]
        for what, start, got, in_log, told, expected in table:
            with self.subTest(what):
                check = self.judge(start, got, in_log, told)
                found = (check.lost, check.doubled, check.unexpected, check.resets)
                self.assertEqual(found, expected, check.details)
                self.assertEqual(check.is_clean, expected[:3] == (0, 0, 0))

    def test_a_reset_is_allowed_only_where_redis_loses_events(self):
        for check, without, with_loss in (
            (DeliveryCheck(), True, True),
            (DeliveryCheck(resets=1), False, True),
            (DeliveryCheck(lost_by_store=1, resets=1), False, True),
            (DeliveryCheck(lost=1, resets=1), False, False),
        ):
            with self.subTest(check):
                self.assertEqual(NAMED["kill-app"].allows(check), without)
                self.assertEqual(NAMED["failover-behind"].allows(check), with_loss)

    def test_the_longest_silence_counts_from_the_first_event_to_the_last(self):
        got = [ReceivedEvent("aaaaaa-1", False, at) for at in (0.5, 2.0, 5.0, 6.0, 20.0)]
        self.assertEqual(longest_silence(got, 1.0, 8.0), 3.0)
        self.assertEqual(longest_silence([], 1.0, 8.0), 7.0)


if __name__ == "__main__":
    unittest.main()
