"""Runs one fault under load, and compares what the clients received with the log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sse_threaded.testing import request

from .cases import FaultCase
from .clients import RoamingClient
from .delivery_check import DeliveryCheck, EpochChain, longest_silence
from .deployment import Deployment
from .network import Network
from .publisher import TaskPublisher
from .waiting import wait_until

# Seconds that the clients may take to receive all events.
_CATCH_UP_SECONDS = 60.0

# Seconds between two checks, and after the last: an event that comes twice may still come.
_CHECK_SECONDS = 0.2


@dataclass
class Result:
    """One row of the table."""

    title: str
    acknowledged: int
    unanswered: int
    clients: int
    silence: float
    reconnections: int
    check: DeliveryCheck
    failures: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether clients lost nothing that the database has, and received nothing twice."""
        return self.check.is_clean and not self.failures

    def row(self) -> str:
        """Return the row as Markdown."""
        check = self.check
        by_store = f"{check.lost_by_store} | {check.resets}"
        sent = f"{self.acknowledged} | {self.unanswered}"
        counts = f"{sent} | {self.clients} | {self.reconnections} | {check.lost} | {check.doubled}"
        return f"| {self.title} | {counts} | {self.silence:.1f} s | {by_store} |"


def run(case: FaultCase, network: Network, *, clients: int, rate: float, seconds: float, settle: float) -> Result:
    """Start the deployment, cause the fault under load, and compare.

    :param clients: how many clients.
    :param rate: events a second.
    :param seconds: the duration of the fault.
    :param settle: seconds without a fault, before and after it.
    """
    with Deployment(network, case.make_store) as deployment:
        return run_on(deployment, case, clients=clients, rate=rate, seconds=seconds, settle=settle)


def run_on(
    deployment: Deployment, case: FaultCase, *, clients: int, rate: float, seconds: float, settle: float
) -> Result:
    """Cause the fault under load in a deployment that runs, and compare; see :func:`run`."""
    boards = ["board-1"]
    while len(boards) < case.boards:
        boards.append(request("POST", f"{deployment.urls[0]}/boards", json={"title": "Second"}).json()["id"])
    names = [boards[number % len(boards)] for number in range(clients)]
    clients_and_boards = [(RoamingClient(deployment.urls, f"/boards/{name}/events"), name) for name in names]
    try:
        wait_until(lambda: all(each.start for each, _ in clients_and_boards), "every client has a stream")
        publisher = TaskPublisher(deployment.urls, boards, rate)
        publisher.start()
        try:
            time.sleep(settle)
            case.act(deployment, seconds)
            before = len(publisher.acknowledged)
            wait_until(lambda: len(publisher.acknowledged) > before, "the hosts accept events again")
            time.sleep(settle)
        finally:
            publisher.stop()
        kept = _catch_up(deployment, publisher, clients_and_boards)
    finally:
        for each, _ in clients_and_boards:
            each.stop()
        for each, _ in clients_and_boards:
            each.join()
    title = case.title.format(seconds=seconds)
    return _result(title, clients_and_boards, publisher, kept, deployment.store.chain())


def _catch_up(
    deployment: Deployment, publisher: TaskPublisher, clients_and_boards: Sequence[tuple[RoamingClient, str]]
) -> dict[str, list[str]]:
    """Wait until all clients have the events of the log, or the time is over; return the ids in the log."""
    kept: dict[str, list[str]] = {}
    wait_until(lambda: kept.update(deployment.store.ids_in_log(publisher.boards)) or True, "the log can be read")

    def has_all(client: RoamingClient, board: str) -> bool:
        check = DeliveryCheck()
        check.add(client.start, list(client.received), kept[board], publisher.acknowledged_ids(board), chain)
        return client.failure is not None or check.is_clean

    chain = deployment.store.chain()
    deadline = time.monotonic() + _CATCH_UP_SECONDS
    behind = list(clients_and_boards)
    while behind and time.monotonic() < deadline:
        behind = [each for each in behind if not has_all(*each)]
        time.sleep(_CHECK_SECONDS)
    return kept


def _result(
    title: str,
    clients_and_boards: list[tuple[RoamingClient, str]],
    publisher: TaskPublisher,
    kept: dict[str, list[str]],
    chain: EpochChain | None,
) -> Result:
    check = DeliveryCheck()
    for board, ids in kept.items():
        acknowledged = publisher.acknowledged_ids(board)
        if chain is not None:
            acknowledged = {chain.in_current(each) for each in acknowledged}
        check.lost_by_store += len(acknowledged - {*ids})
    for client, board in clients_and_boards:
        check.add(client.start, client.received, kept[board], publisher.acknowledged_ids(board), chain)
    return Result(
        title,
        len(publisher.acknowledged),
        publisher.unanswered,
        len(clients_and_boards),
        max(longest_silence(each.received, publisher.begun, publisher.ended) for each, _ in clients_and_boards),
        sum(each.connections - 1 for each, _ in clients_and_boards),
        check,
        [each.failure for each, _ in clients_and_boards if each.failure is not None],
    )
