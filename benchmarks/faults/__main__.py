"""Breaks things under a board on three hosts, and counts what its clients lost: ``python -m benchmarks.faults``.

``--only NAME`` runs one fault, ``--seconds N`` bounds how long cuts and pauses last, ``--write`` writes
docs/faults.md. It takes some five minutes; redis-server must be there, and for namespaces iproute2 and root.

A publisher makes tasks at a steady rate on two boards, each at a random host that is well, and notes the event id
of each answer. Clients follow the boards' events, each time at another host, and resume by their last event ID. In
the end every client must have exactly the log's ids, from its start or from its last ``reset`` on.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence

from . import host_latency as distance
from .cases import DISASTERS, run
from .deployment import HOSTS, Stage
from .namespaces import open_network
from .programs import ROOT

DOCUMENT = ROOT / "docs" / "faults.md"
CLIENTS = 60
RATE = 50.0  # events a second

HEAD = (
    "| what was done | events sent | not answered | clients | reconnections | lost | doubled | longest silence "
    "| acknowledged, but lost by Redis | clients told `reset` |\n" + "|---" * 10 + "|"
)


def main() -> None:
    """Run what was asked for and print, or write, the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("--only", choices=[*(each.name for each in DISASTERS), "distance"])
    parser.add_argument("--seconds", type=float, help="how long cuts and pauses last at most")
    parser.add_argument("--write", action="store_true", help="write docs/faults.md")
    asked = parser.parse_args()
    if asked.write and (asked.only or asked.seconds):
        parser.error("--write writes all of it, as it is without --only and --seconds")
    rows, title, is_clean = [], "", True
    print(HEAD)  # noqa: T201
    for disaster in DISASTERS:
        if asked.only not in (None, disaster.name):
            continue
        seconds = min(disaster.seconds, asked.seconds or disaster.seconds)
        with open_network() as network:
            title = network.title
            if disaster.parts and not network.can_part:
                continue
            result = run(disaster, network, clients=CLIENTS, rate=RATE, seconds=seconds, settle=4)
        rows.append(result.row())
        is_clean = is_clean and not result.failures and disaster.allows(result.verdict)
        print("\n".join([rows[-1], *result.failures, *result.verdict.details]), flush=True)  # noqa: T201
    further = []
    if asked.only in (None, "distance"):
        with open_network() as network, Stage(network) as stage:
            title = network.title
            further = distance.measure(stage)
        print("\n".join(further), flush=True)  # noqa: T201
    if asked.write:
        machine = f"CPython {platform.python_version()}, {platform.system()}, a shared machine with two cores"
        DOCUMENT.write_text(_document(title, machine, rows, further))
    sys.exit(not is_clean)


def _document(title: str, machine: str, rows: Sequence[str], further: Sequence[str]) -> str:
    setup = f"""By `python -m benchmarks.faults --write`: {machine}; {title}.

{HOSTS} app hosts, each gunicorn with two parking workers; Redis on a host of its own, and in the rows with a
replica that and a Sentinel on two more. {CLIENTS} clients in all follow two boards (one for FLUSHALL), go to a
random host whenever they come back (after 0.5 s), and resume by their last event ID. Meanwhile {RATE:g} tasks a
second are posted, each to a random host that is well."""
    meaning = """*Lost* are ids that the log has in the end and a client has not, from its start or its last
`reset` on; *doubled* those it got twice; both summed over all clients. *Not answered* is what was posted and got
no 201: whether it was taken nobody was told, so it does not count as acknowledged. *Longest silence* is any
client's longest time without an event, while some were posted."""
    text = ["# Faults", "", setup, "", meaning, "", HEAD, *rows, ""]
    return "\n".join([*text, "## From host to host", "", "| what | figure |", "|---|---|", *further, ""])


if __name__ == "__main__":
    main()
