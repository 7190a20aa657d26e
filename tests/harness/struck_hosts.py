"""App hosts with their database, and the faults of ``python -m benchmarks.faults``, only shorter.

Each host is a network namespace; without root, or where the kernel refuses, an address of the loopback interface.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable
from contextlib import ExitStack
from typing import ClassVar

from benchmarks.faults.cases import FaultCase
from benchmarks.faults.deployment import Deployment
from benchmarks.faults.experiment import Result, run, run_on
from benchmarks.faults.network import Network
from benchmarks.faults.network_choice import open_network
from benchmarks.faults.store import Store
from tests.support import has_failed

CLIENTS = 18


def strike(
    test: unittest.TestCase,
    case: FaultCase,
    seconds: float,
    *,
    network: Network | None = None,
    deployment: Deployment | None = None,
) -> Result:
    """Let a fault happen, for so many seconds, to 18 clients.

    :param deployment: where it happens; default: one in ``network``, with all that the fault needs.
    """
    if deployment:
        result = run_on(deployment, case, clients=CLIENTS, rate=30.0, seconds=seconds, settle=1.5)
    else:
        with network or open_network() as hosts:
            result = run(case, hosts, clients=CLIENTS, rate=30.0, seconds=seconds, settle=1.5)
    said = f"{result.row()}\n{result.failures} {result.check.details}"
    test.assertTrue(result.is_clean, said)
    test.assertEqual(result.check.needless, 0, said)
    test.assertGreater(result.acknowledged, 30)
    return result


def assert_nothing_lost(test: unittest.TestCase, result: Result) -> None:
    test.assertEqual((result.check.lost_by_store, result.check.resets), (0, 0))


class OneDeploymentCase(unittest.TestCase):
    """Tests that leave their hosts as they found them, so that all of a class have the same ones."""

    make_store: ClassVar[Callable[[Network], Store]]
    _shared: tuple[ExitStack, Deployment] | None = None

    @classmethod
    def _leave(cls) -> None:
        if cls._shared:
            cls._shared[0].close()
        cls._shared = None

    def setUp(self) -> None:
        cls = type(self)
        if cls._shared is None:
            with ExitStack() as resources:
                network = resources.enter_context(open_network())
                deployment = resources.enter_context(Deployment(network, cls.make_store))
                cls._shared = resources.pop_all(), deployment
            cls.addClassCleanup(cls._leave)
        self.deployment = cls._shared[1]
        self.addCleanup(self._leave_after_failure)

    def _leave_after_failure(self) -> None:
        if has_failed(self):
            self._leave()  # the next test has hosts of its own
