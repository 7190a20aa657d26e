"""Kills everything at random while apps append events: ``python -m benchmarks.transactions``.

``--database NAME`` runs one row, ``--seconds N`` is the duration of each, ``--write`` writes
docs/transactions.md. In the end the command compares the rows, the events and everything that the clients
received. It fails if there is a difference. It needs PostgreSQL.
"""

from __future__ import annotations

import argparse
import sys

from ..common import machine
from ..common.paths import DOCS
from .experiment import DATABASES, PROCESSES, Outcome, Plan, run

DOCUMENT = DOCS / "transactions.md"

_TEXT = """# An app's own transactions in PostgreSQL

By `{command}`: {seconds:g} seconds for each row; {machine}.

This page shows that rows and events stay together when processes and servers are killed. {writers} writers of
{processes} apps write rows in PostgreSQL and append an event for each. They pause at random inside a transaction.
A third of the transactions is rolled back. Some have savepoints, and half of these are rolled back. Some are
prepared (`PREPARE TRANSACTION`) and committed later. Some events are appended alone, and some in transactions of
the log. One further transaction has written and stays open for {held:g} s, again and again.

{clients} clients stream from {streaming} processes of gunicorn, and resume after their last event ID. A streaming
process is killed (-9) about every {kill_every:g} s, and sometimes all are. In the rows with a fault of PostgreSQL,
this happens about every {strike_every:g} s.

In the end these must agree, and every difference counts as a *fault*:

- Each row has its event, and each event its row. No row of a rolled-back transaction exists, and no event.
- Every acknowledged transaction exists, except where PostgreSQL itself has lost it.
- Numbers have no gap. The events of one writer are in the order in which it appended them.
- Each client has received exactly the events of its channels, in the log's order, each once.
- A client gets a `reset` only if it has received an event that PostgreSQL has lost. Then it must get one.

{table}

*Lost by PostgreSQL* counts the acknowledged events that the replica did not have when it took over. *Resets*
counts clients that received a `reset`. One client follows a channel that gets an event only at the end. So it
misses nothing, and must not get a `reset`.

| transactions | number in all rows |
|---|---|
{kinds}
"""

_HEAD = (
    "| PostgreSQL | faults of PostgreSQL | streaming processes killed | events | rolled back | delivered "
    "| reconnections | lost by PostgreSQL | resets | faults |\n" + "|---" * 10 + "|"
)


def _row(outcome: Outcome) -> str:
    comparison = outcome.comparison
    counts = [
        sum(outcome.strikes.values()),
        outcome.kills,
        outcome.events,
        len(outcome.ledger.rolled_back),
        comparison.delivered,
        outcome.reconnections,
        comparison.lost_by_database,
        comparison.check.resets,
        len(outcome.faults),
    ]
    return f"| {outcome.title} | {' | '.join(f'{count:,}' for count in counts)} |"


def main() -> int:
    """Run the rows, print or write the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transactions", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="of each row; default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default %(default)s")
    parser.add_argument("--database", choices=DATABASES, help="only this row")
    parser.add_argument("--write", action="store_true", help="write docs/transactions.md")
    asked = parser.parse_args()
    if asked.write and asked.database:
        parser.error("--write needs all rows, without --database")
    outcomes = []
    print(_HEAD)  # noqa: T201
    for database in DATABASES:
        if asked.database in (None, database):
            plan = Plan(database, asked.seconds, asked.seed)
            outcomes.append(run(plan))
            print("\n".join([_row(outcomes[-1]), *outcomes[-1].faults[:50]]), flush=True)  # noqa: T201
    if asked.write:
        DOCUMENT.write_text(_document(plan, outcomes))
    return int(any(each.faults for each in outcomes))


def _document(plan: Plan, outcomes: list[Outcome]) -> str:
    kinds: dict[str, int] = {}
    for each in outcomes:
        for kind, count in each.ledger.counts.items():
            kinds[kind] = kinds.get(kind, 0) + count
    return _TEXT.format(
        command=" ".join(["python -m benchmarks.transactions", *sys.argv[1:]]),
        seconds=plan.seconds,
        machine=machine.summary(),
        writers=plan.writers,
        processes=(plan.writers + 3) // 4,
        held=plan.held,
        clients=plan.clients,
        streaming=PROCESSES,
        kill_every=plan.kill_every,
        strike_every=plan.strike_every,
        table="\n".join([_HEAD, *map(_row, outcomes)]),
        kinds="\n".join(f"| {kind} | {count:,} |" for kind, count in sorted(kinds.items())),
    )


if __name__ == "__main__":
    sys.exit(main())
