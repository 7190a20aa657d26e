"""Breaks things under a board on three hosts, and counts what its clients lose: ``python -m benchmarks.faults``.

``--only NAME`` runs one fault, ``--seconds N`` limits the duration of the faults, ``--write`` writes
docs/faults.md. It takes some five minutes. It needs redis-server, and for network namespaces iproute2 and root.

A publisher posts tasks at a steady rate to two boards, each to a random host that answers, and keeps the event id
of each answer. Clients follow the events of the boards, each time at a random host, and resume after their last
event ID. In the end every client must have exactly the ids of the log, since its start or since its last
``reset``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..common import machine
from ..common.paths import DOCS
from . import host_latency
from .cases import CASES
from .deployment import HOSTS, Deployment
from .experiment import run
from .network_choice import open_network

DOCUMENT = DOCS / "faults.md"
CLIENTS = 60
RATE = 50.0  # events a second

HEAD = (
    "| fault | events sent | not answered | clients | reconnections | lost | doubled | longest silence "
    "| acknowledged, but lost by Redis | clients with `reset` |\n" + "|---" * 10 + "|"
)


def main() -> None:
    """Run the faults and print, or write, the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("--only", choices=[*(each.name for each in CASES), "distance"])
    parser.add_argument("--seconds", type=float, help="the longest duration of a fault")
    parser.add_argument("--write", action="store_true", help="write docs/faults.md")
    asked = parser.parse_args()
    if asked.write and (asked.only or asked.seconds):
        parser.error("--write needs a full run, without --only and --seconds")
    rows, title, is_clean = [], "", True
    print(HEAD)  # noqa: T201
    for case in CASES:
        if asked.only not in (None, case.name):
            continue
        seconds = min(case.seconds, asked.seconds or case.seconds)
        with open_network() as network:
            title = network.title
            if case.parts and not network.can_part:
                continue
            result = run(case, network, clients=CLIENTS, rate=RATE, seconds=seconds, settle=4)
        rows.append(result.row())
        is_clean = is_clean and not result.failures and case.allows(result.check)
        print("\n".join([rows[-1], *result.failures, *result.check.details]), flush=True)  # noqa: T201
    further = []
    if asked.only in (None, "distance"):
        with open_network() as network, Deployment(network) as deployment:
            title = network.title
            further = host_latency.measure(deployment)
        print("\n".join(further), flush=True)  # noqa: T201
    if asked.write:
        DOCUMENT.write_text(_document(title, machine.summary(), rows, further))
    sys.exit(not is_clean)


def _document(title: str, on: str, rows: Sequence[str], further: Sequence[str]) -> str:
    setup = f"""By `python -m benchmarks.faults --write`: {on}; {title}.

This page shows what clients lose when a host, Redis or the network fails. There are {HOSTS} app hosts. Each runs
gunicorn with two workers of the class `sse_threaded.worker.ThreadWorker`. Redis has a host of its own. In the
rows with a replica, the replica and a Sentinel have a host each. {CLIENTS} clients follow two boards (one for
FLUSHALL). They reconnect to a random host after 0.5 s and resume after their last event ID. During the whole
run {RATE:g} tasks a second are posted, each to a random host that answers."""
    meaning = """*Lost* counts ids that the log has at the end and a client has not received, since its start or
its last `reset`. *Doubled* counts ids that a client received twice. Both are sums over all clients. *Not
answered* counts POSTs without a 201: their events may be in the log, but do not count as acknowledged.
*Longest silence* is the longest time that any client waited for an event while tasks were posted."""
    text = ["# Faults", "", setup, "", meaning, "", HEAD, *rows, ""]
    text += ["## Latency from host to host, and connections to Redis", "", "| what | figure |", "|---|---|"]
    return "\n".join([*text, *further, ""])


if __name__ == "__main__":
    main()
