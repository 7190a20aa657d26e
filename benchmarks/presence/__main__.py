"""Measures what presence costs: ``python -m benchmarks.presence`` (about four minutes).

First processes tell each other of very many simulated people. Then real streams reconnect after a reload, with
presence and without. ``--write`` writes docs/presence-measured.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.harness.redis_server import RedisServer

from ..common import machine
from ..common.file_limit import raise_file_limit
from ..common.paths import DOCS
from . import deploy, gossip

DOCUMENT = DOCS / "presence-measured.md"

_TEXT = """
This page shows what [presence](presence.md) costs.

## Very many people on one channel

{processes} processes share a log in {log}. Their people are simulated, without sockets. So the figures are those
of counting, of the messages and of the lists. A join costs something in each process, as each knows the list.

| what | figure |
|---|---|
{gossip}

## A deploy with {streams:,} streams

gunicorn runs with two workers, and gets SIGHUP while all streams are open. Each client is a user of its own, and
reconnects as `EventSource` does. On one channel with so many people, clients get the number only.

| | {ways} |
|---|{columns}
{deploy}

The times include the start of the workers, and three seconds after the last client. `joined` and `left` name
users that have come or gone. After the reload no user has.
"""


@contextmanager
def _log(kind: str) -> Iterator[str]:
    if kind == "redis":
        with closing(RedisServer()) as server:
            yield server.url()
    else:
        with tempfile.TemporaryDirectory(prefix="sse_threaded-", ignore_cleanup_errors=True) as name:
            yield f"sqlite:///{Path(name)}/log.db"


def _deploy_rows(found: list[deploy.Figures]) -> Iterator[str]:
    rows = {
        "processor time of an opening": [f"{each.opening * 1e6:.0f} µs" for each in found],
        "processor time of an opening after the reload": [f"{each.reopening * 1e6:.0f} µs" for each in found],
        "bytes to a client before the reload": [f"{each.opening_bytes:,.0f}" for each in found],
        "bytes to a client from the reload on": [f"{each.reopening_bytes:,.0f}" for each in found],
        "events with `joined` or `left` after the reload, all clients": [f"{each.changes}" for each in found],
        "all back after": [f"{each.seconds:.1f} s" for each in found],
    }
    for what, figures in rows.items():
        yield f"| {what} | {' | '.join(figures)} |"


def main() -> None:
    """Measure; print the rows, or write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.presence", description=__doc__.partition("\n")[0])
    parser.add_argument("--people", type=int, default=100_000, help="simulated people; default %(default)s")
    parser.add_argument("--processes", type=int, default=4, help="processes for them; default %(default)s")
    parser.add_argument("--streams", type=int, default=5000, help="streams of the deploy; default %(default)s")
    parser.add_argument("--log", choices=("sqlite", "redis"), default="sqlite", help="default %(default)s")
    parser.add_argument("--write", action="store_true", help=f"write docs/{DOCUMENT.name}")
    wanted = parser.parse_args()
    raise_file_limit()
    lines = []
    with _log(wanted.log) as url:
        for what, figure in gossip.measure(url, wanted.people, wanted.processes):
            lines.append(f"| {what} | {figure} |")
            print(lines[-1], flush=True)  # noqa: T201
    found = []
    for way in deploy.WAYS:
        with _log(wanted.log) as url:
            found.append(deploy.measure(way, url, wanted.streams))
    rows = list(_deploy_rows(found))
    print("\n".join(rows))  # noqa: T201
    if wanted.write:
        command = " ".join(["python -m benchmarks.presence", *sys.argv[1:]])
        text = _TEXT.format(
            processes=wanted.processes,
            log={"sqlite": "SQLite", "redis": "Redis"}[wanted.log],
            gossip="\n".join(lines),
            streams=wanted.streams,
            ways=" | ".join(deploy.WAYS),
            columns="---|" * len(deploy.WAYS),
            deploy="\n".join(rows),
        )
        DOCUMENT.write_text(f"# Presence, measured\n\nBy `{command}`, on {machine.summary()}.\n{text}")


if __name__ == "__main__":
    main()
