"""Random load, faults and reloads for an hour: ``python -m benchmarks.soak --seconds 3600 --seed 1``.

Followers that behave like ``EventSource`` stay on the board, a publisher posts tasks, and visitors of thirteen
kinds come and go at random. About once a minute the workers are reloaded (SIGHUP), and about every five minutes
one is killed (SIGKILL). In the end the events of each follower are compared with the log. The command fails if
an event was lost, doubled or out of order, if a connection was refused, an answer was wrong, or one came more
than a second late. ``--write`` writes docs/soak.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ..common import machine
from ..common.file_limit import raise_file_limit
from ..common.paths import DOCS
from .experiment import Outcome, Plan, run

DOCUMENT = DOCS / "soak.md"

_TEXT = """# A soak

By `{command}`: {seconds:,.0f} seconds with {streams:,} followers, {rate:g} events a second and {visitors}
visitors at a time. The board ran under `{worker}` with two workers of 16 threads, on {machine}. About every
{reload_every:g} seconds the workers were reloaded by SIGHUP. About every {kill_every:g} seconds a worker got
SIGKILL.

{table}

| visits | number |
|---|---|
{visits}

A visitor whose connection was cut by a killed worker is counted in a row of its own, as such a connection cannot
be answered. An answer is late if it came more than a second after it could. Views that wait or compute may take
their time.
"""


def _rows(outcome: Outcome) -> list[str]:
    rows = {
        "events in the log": outcome.events,
        "deliveries to followers": outcome.deliveries,
        "events lost": outcome.lost,
        "events doubled": outcome.doubled,
        "followers with another order than the log": outcome.disordered,
        "events `reset`": outcome.resets,
        "connections refused": outcome.refused,
        "followers' and publisher's connections cut before an answer": outcome.cut,
        "followers without a stream at the end": outcome.away,
        "wrong answers, or none": sum(map(len, outcome.broken.values())),
        "connections cut by a killed worker": outcome.cut_by_kills,
        "answers more than a second late": len(outcome.stalls),
        "errors in the server's log": len(outcome.complaints),
        "reloads": outcome.reloads,
        "workers killed": outcome.kills,
    }
    lines = [f"| {what} | {count:,} |" for what, count in rows.items()]
    threads = max(outcome.threads, default=0)
    memory = max(outcome.kilobytes, default=0)
    return [
        "| | |",
        "|---|---|",
        *lines,
        f"| slowest answer, beyond its own time | {outcome.slowest * 1000:.0f} ms |",
        f"| most threads of a worker | {threads} |",
        f"| most memory of a worker | {memory / 1024:.0f} MB |",
    ]


def main() -> int:
    """Run the soak, print or write its table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600.0, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default %(default)s")
    parser.add_argument("--streams", type=int, default=300, help="how many followers; default %(default)s")
    parser.add_argument("--visitors", type=int, default=10, help="how many at a time; default %(default)s")
    parser.add_argument("--rate", type=float, default=10.0, help="events a second; default %(default)s")
    parser.add_argument(
        "--reload-every", type=float, default=60.0, help="seconds, on average; default %(default)s"
    )
    parser.add_argument("--kill-every", type=float, default=300.0, help="seconds, on average; default %(default)s")
    parser.add_argument("--worker", default=Plan.worker, help="default %(default)s")
    parser.add_argument("--write", action="store_true", help="write docs/soak.md")
    wanted = parser.parse_args()
    raise_file_limit()
    plan = Plan(
        wanted.seconds,
        wanted.seed,
        streams=wanted.streams,
        visitors=wanted.visitors,
        rate=wanted.rate,
        reload_every=wanted.reload_every,
        kill_every=wanted.kill_every,
        worker=wanted.worker,
    )
    with tempfile.TemporaryDirectory(prefix="sse_threaded-", ignore_cleanup_errors=True) as name:
        outcome = run(plan, Path(name))
    lines = _rows(outcome)
    faults = [f"{kind}: {reason}" for kind, reasons in outcome.broken.items() for reason in reasons[:5]]
    print("\n".join([*lines, *faults, *outcome.stalls[:20], *outcome.complaints[:20]]))  # noqa: T201
    if wanted.write:
        visits = "\n".join(f"| {kind} | {count:,} |" for kind, count in sorted(outcome.visits.items()))
        command = " ".join(["python -m benchmarks.soak", *sys.argv[1:]])
        text = _TEXT.format(
            command=command,
            seconds=plan.seconds,
            streams=plan.streams,
            rate=plan.rate,
            visitors=plan.visitors,
            reload_every=plan.reload_every,
            kill_every=plan.kill_every,
            worker=plan.worker,
            machine=machine.summary(),
            table="\n".join(lines),
            visits=visits,
        )
        DOCUMENT.write_text(text)
    return 0 if outcome.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
