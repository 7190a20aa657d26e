"""Several hosts and one PostgreSQL: their clients lose nothing when something fails.

See :mod:`tests.harness.struck_hosts`.
"""

from __future__ import annotations

import unittest

from benchmarks.faults.cases import POSTGRES_CASES
from benchmarks.faults.experiment import Result
from benchmarks.faults.loopback import Loopback
from tests.harness.own_network import own_network
from tests.harness.struck_hosts import CLIENTS, AllHosts, OneDeploymentCase, assert_nothing_lost, strike

ONCE = True  # it says the same under every Python

NAMED = {case.name: case for case in POSTGRES_CASES}


def setUpModule() -> None:
    own = own_network()
    own.__enter__()
    unittest.addModuleCleanup(own.__exit__, None, None, None)


class OnePostgresCase(OneDeploymentCase):
    make_store = NAMED["none"].make_store


class FaultsTest(OnePostgresCase):
    def strike(self, name: str, seconds: float) -> Result:
        return strike(self, NAMED[name], seconds, deployment=self.deployment)

    def test_a_host_that_is_cut_off_from_postgresql_goes_on_where_it_was(self) -> None:
        result = self.strike("cut", 4)
        assert_nothing_lost(self, result)
        self.assertEqual(result.reconnections, 0)  # its streams stay open and wait

    def test_postgresql_is_killed_and_comes_back_with_all_it_acknowledged(self) -> None:
        assert_nothing_lost(self, self.strike("kill", 1))

    def test_postgresql_hangs_for_longer_than_an_answer_may_take(self) -> None:
        assert_nothing_lost(self, self.strike("pause", 4))

    def test_an_app_host_is_killed(self) -> None:
        result = self.strike("kill-app", 1)
        assert_nothing_lost(self, result)
        self.assertGreater(result.reconnections, 0)

    def test_app_hosts_are_reloaded(self) -> None:
        result = self.strike("reload", 1)
        assert_nothing_lost(self, result)
        self.assertGreater(result.reconnections, 0)

    def test_the_log_is_emptied_and_every_client_is_told(self) -> None:
        self.assertEqual(self.strike("empty", 0).check.resets, CLIENTS)


class FailoverTest(unittest.TestCase):
    def test_a_synchronous_replica_takes_over_and_no_client_gets_a_reset(self) -> None:
        assert_nothing_lost(self, strike(self, NAMED["failover"], 0))

    def test_a_replica_that_lacks_events_takes_over_and_every_client_is_told(self) -> None:
        result = strike(self, NAMED["failover-behind"], 2)
        self.assertGreater(result.check.lost_by_store, 0)
        self.assertEqual(result.check.resets, result.clients)


class LoopbackTest(unittest.TestCase):
    """The network for where there are no namespaces."""

    def test_a_host_is_cut_off_from_postgresql(self) -> None:
        self.assertEqual(strike(self, NAMED["cut"], 3, network=Loopback()).check.resets, 0)

    def test_a_replica_that_lacks_events_takes_over(self) -> None:
        self.assertGreater(strike(self, NAMED["failover-behind"], 2, network=Loopback()).check.lost_by_store, 0)


class HostsTest(AllHosts, OnePostgresCase):
    pass


if __name__ == "__main__":
    unittest.main()
