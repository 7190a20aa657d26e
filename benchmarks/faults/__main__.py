"""Breaks things under a board on three hosts, and counts what its clients lose: ``python -m benchmarks.faults``.

``--store postgresql`` has PostgreSQL instead of Redis. ``--only NAME`` runs one fault, ``--seconds N`` limits the
duration of the faults, ``--write`` writes docs/faults.md or docs/faults-postgresql.md. It takes about five
minutes. It needs redis-server or PostgreSQL, and for network namespaces iproute2 and root.

A publisher posts tasks at a steady rate to two boards, each to a random host that answers, and keeps the event id
of each answer. Clients follow the events of the boards, each time at a random host, and resume after their last
event ID. In the end every client must have exactly the ids of the log, since its start or since its last
``reset``.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence

from ..common import machine
from ..common.paths import DOCS
from . import host_latency
from .cases import CASES
from .deployment import HOSTS, Deployment
from .experiment import run
from .network_choice import open_network

DOCUMENTS = {"redis": DOCS / "faults.md", "postgresql": DOCS / "faults-postgresql.md"}
NAMES = {"redis": "Redis", "postgresql": "PostgreSQL"}
CLIENTS = 60
RATE = 50.0  # events a second

HEAD = (
    "| fault | events sent | not answered | clients | reconnections | lost | doubled | longest silence "
    "| acknowledged, but lost by {} | clients with `reset` |\n" + "|---" * 10 + "|"
)
REPLICAS = {
    "redis": "the replica and a Sentinel have a host each.",
    "postgresql": "the replica has a host too, and the app hosts have both addresses. An operator, here this "
    "program, promotes the replica.",
}
BOARDS = {"redis": "two boards (one for FLUSHALL)", "postgresql": "two boards"}
RESETS = {
    "redis": "",
    "postgresql": "A client gets a `reset` only if it has received an event that PostgreSQL has lost. The command "
    "fails if another client gets one.",
}


def main() -> None:
    """Run the faults and print, or write, the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("--store", choices=CASES, default="redis", help="default %(default)s")
    names = dict.fromkeys(each.name for cases in CASES.values() for each in cases)
    parser.add_argument("--only", choices=[*names, "distance"])
    parser.add_argument("--seconds", type=float, help="the longest duration of a fault")
    parser.add_argument("--write", action="store_true", help="write the page of the store")
    asked = parser.parse_args()
    if asked.write and (asked.only or asked.seconds):
        parser.error("--write needs a full run, without --only and --seconds")
    rows, title, is_clean = [], "", True
    print(HEAD.format(NAMES[asked.store]))  # noqa: T201
    for case in CASES[asked.store]:
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
        make_store = CASES[asked.store][0].make_store
        with open_network() as network, Deployment(network, make_store) as deployment:
            title = network.title
            further = host_latency.measure(deployment)
        print("\n".join(further), flush=True)  # noqa: T201
    if asked.write:
        text = _document(asked.store, title, machine.summary(), rows, further)
        DOCUMENTS[asked.store].write_text(text)
    sys.exit(not is_clean)


def _document(store: str, title: str, on: str, rows: Sequence[str], further: Sequence[str]) -> str:
    name = NAMES[store]
    option = "" if store == "redis" else f" --store {store}"
    paragraphs = [
        f"""By `python -m benchmarks.faults{option} --write`: {on}; {title}.""",
        f"""This page shows what clients lose when a host, {name} or the network fails. There are {HOSTS} app
        hosts. Each runs gunicorn with two workers of the class `sse_threaded.worker.ThreadWorker`. {name} has a
        host of its own. In the rows with a replica, {REPLICAS[store]} {CLIENTS} clients follow {BOARDS[store]}.
        They reconnect to a random host after 0.5 s and resume after their last event ID. During the whole run
        {RATE:g} tasks a second are posted, each to a random host that answers.""",
        """*Lost* counts ids that the log has at the end and a client has not received, since its start or its last
        `reset`. *Doubled* counts ids that a client received twice. Both are sums over all clients. *Not answered*
        counts POSTs without a 201: their events may be in the log, but do not count as acknowledged. *Longest
        silence* is the longest time that any client waited for an event while tasks were posted.""",
        RESETS[store],
    ]
    filled = [part for each in paragraphs if each for part in (_filled(each), "")]
    heading = "# Faults" if store == "redis" else f"# Faults, with {name}"
    text = [heading, "", *filled, HEAD.format(name), *rows, ""]
    text += [f"## Latency from host to host, and connections to {name}", "", "| what | figure |", "|---|---|"]
    return "\n".join([*text, *further, ""])


def _filled(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    main()
