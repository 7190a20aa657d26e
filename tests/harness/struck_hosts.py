"""App hosts with their database, and the faults of ``python -m benchmarks.faults``, only shorter.

Each host is a network namespace; without root, or where the kernel refuses, an address of the loopback interface.
"""

from __future__ import annotations

import time
import unittest
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ClassVar

from benchmarks.faults.cases import FaultCase
from benchmarks.faults.deployment import Deployment
from benchmarks.faults.experiment import Result, run, run_on
from benchmarks.faults.network import Network
from benchmarks.faults.network_choice import open_network
from benchmarks.faults.store import Store
from sse_threaded import Hub
from sse_threaded.fanout.owners import DECISION
from sse_threaded.testing import EventStreamClient, request
from tests.support import enter, has_failed, wait_until

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


class AllHosts:
    """Tests of several hosts at peace, for a :class:`OneDeploymentCase` of one kind of store."""

    def connect(self: Any, each: int) -> list[EventStreamClient]:
        """Open so many streams on each host."""
        urls = [f"{base}/boards/board-1/events" for base in self.deployment.urls for _ in range(each)]
        clients = [enter(self, EventStreamClient(url, timeout=20)) for url in urls]
        for client in clients:
            client.wait_for_retry()
        return clients

    def test_an_event_posted_on_any_host_reaches_all_and_each_process_listens_once(self: Any) -> None:
        deployment = self.deployment
        clients = self.connect(20)
        ids = []
        for base in deployment.urls:
            made = request("POST", f"{base}/boards/board-1/tasks", json={"title": "For all"})
            ids.append(made.headers["Last-Event-ID"])
        for client in clients:
            self.assertEqual([client.next_event().last_event_id for _ in ids], ids)
        self.assertEqual(deployment.store.ids_in_log(["board-1"])["board-1"][-len(ids) :], ids)
        # Two processes a host; the kernel may have given all streams of a host to one.
        wait_until(
            lambda: len(deployment.urls) <= deployment.store.listeners() <= 2 * len(deployment.urls),
            message="one a process",
        )

    def test_a_disconnection_ends_the_streams_of_all_hosts(self: Any) -> None:
        clients = self.connect(6)
        with Hub(self.deployment.store.own_url()) as hub:
            hub.disconnect(channel="board-1")
            hub.publish("board-1", "late")
        for client in clients:
            client.wait_for_end()
            self.assertTrue(client.complete)
            self.assertEqual(client.pending(), [])
        time.sleep(DECISION)  # until then it also ends new streams
