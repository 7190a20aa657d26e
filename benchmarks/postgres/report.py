"""Writes the page from the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..common.paths import DOCS
from .publishing import WRITERS
from .servers import LOGS
from .sizes import CHANNELS, KEPT, RATE
from .ways import SLOW_MICROSECONDS

FIGURES, DOCUMENT = DOCS / "postgresql-measured.json", DOCS / "postgresql-measured.md"

_MB = 1024 * 1024

_ABOUT = """
This page compares the log in PostgreSQL with the logs in SQLite and Redis, in one run on one machine. The event
has 110 bytes of data. PostgreSQL has its defaults except `shared_buffers = 128MB`: each commit is on the disk
before its answer. SQLite has `synchronous=full`, and Redis `appendfsync everysec`. All servers and clients share
the machine's cores.
""".strip()

_WAYS = {
    "publish": "`hub.publish`",
    "append-ring": "`append(connection=...)`, commit, `ring()`",
    "append": "`append(connection=...)`, commit",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(found: dict[str, Any]) -> str:
    """Return the page; parts that were not measured are left out."""
    versions = found["versions"]
    commands = " and ".join(f"`{command}`" for command in dict.fromkeys(found["commands"].values()))
    text = [
        "# PostgreSQL: measured",
        f"By {commands}: {found['machine']}; PostgreSQL {versions['postgres']}, Redis {versions['redis']}.",
        _ABOUT,
    ]
    text += [f"## {title}\n\n{show(found[name])}" for name, (title, show) in _PARTS.items() if found.get(name)]
    return "\n\n".join(text) + "\n"


def _publishing(figures: list[dict[str, Any]]) -> str:
    rows = []
    for kind, writers in dict.fromkeys((each["kind"], each["writers"]) for each in figures):
        of = {each["log"]: each for each in figures if (each["kind"], each["writers"]) == (kind, writers)}
        name = f"{writers} {kind if writers > 1 else 'thread'}"
        rates = [f"{of[log]['rate']:,.0f}" for log in LOGS]
        times = [f"{of[log]['p50_ms']:.2f} / {of[log]['p99_ms']:.1f}" for log in LOGS]
        rows.append([name, *rates, *times])
    about = (
        "Writers call `hub.publish` without a pause. They are threads of one process, or processes with one "
        "thread each. The times are the median and the 99th percentile of one call."
    )
    head = ["writers", *(f"{log}, publishes/s" for log in LOGS), *(f"{log}, ms" for log in LOGS)]
    return f"{about}\n\n{table(head, rows)}"


def _delivery(figures: list[dict[str, Any]]) -> str:
    about = (
        "One process commits, and a client has a stream of another process (gunicorn, one worker). The time "
        "begins before the call that commits, so it includes the commit, and ends when the client has the "
        "event. The process that commits has no stream. `ring()` is called after the commit, where the row "
        "says so. *The call* is the median time of the commit itself, with `ring()`."
    )
    rows = [
        [
            each["log"],
            _WAYS[each["way"]],
            f"{each['p50_ms']:.1f} ms",
            f"{each['p99_ms']:.1f} ms",
            f"{each['call_ms']:.1f} ms",
        ]
        for each in figures
    ]
    return f"{about}\n\n{table(['log', 'how', 'median', '99th percentile', 'the call'], rows)}"


def _processor(figures: list[dict[str, Any]]) -> str:
    about = (
        "Ten events a second to 1000 streams of one process, each published by a POST. The processor time is that "
        "of gunicorn and of the log's server. *A publish* is a POST that no stream gets."
    )
    rows = [
        [each["log"], f"{each['us']:.2f} µs", f"{each['ratio']:.2f}", f"{each['publish_us']:,.0f} µs"]
        for each in figures
    ]
    return f"{about}\n\n{table(['log', 'a delivery', ': SQLite', 'a publish'], rows)}"


def _numbering(figures: list[dict[str, Any]]) -> str:
    about = (
        "Transactions a second in SQL alone, by `pgbench`, with one event in each, while one connection listens. "
        f"*Slow flush* has the most connections, and `commit_delay` makes each flush {SLOW_MICROSECONDS / 1000:g} "
        "ms longer, as on a slower disk or with a synchronous replica. The last three columns are figures while "
        "another transaction stays open that has added an event. They are for 8 connections: the first and the "
        "last three seconds, and the share of the other events that readers saw before it ended."
    )
    head = ["way", *(f"{writers} connection{'s' * (writers > 1)}" for writers in WRITERS), "slow flush"]
    head += ["beside it, first", "last", "seen"]
    rows = []
    for each in figures:
        beside = ["–"] * 3
        if "seen" in each:
            beside = [f"{each['open_first']:,.0f}", f"{each['open_last']:,.0f}", f"{100 * each['seen']:.0f} %"]
        rates = [f"{each[str(writers)]:,.0f}" for writers in WRITERS]
        rows.append([each["title"], *rates, f"{each['slow']:,.0f}", *beside])
    return f"{about}\n\n{table(head, rows)}"


def _beside_open(each: dict[str, Any]) -> str:
    return (
        f"A transaction of the app added a row and an event, and stayed open for {each['seconds']:.0f} s. In "
        f"this time {each['threads']} threads published {each['events']:,} events: {each['first_rate']:,.0f} a "
        f"second in the first {each['part']} s, and {each['last_rate']:,.0f} in the last {each['part']} s. A "
        f"call took {each['p50_ms']:.1f} ms at the median, and {each['p99_ms']:.1f} ms at the 99th percentile. "
        "After its commit, the event of this transaction was the newest one."
    )


def _sizes(found: dict[str, Any]) -> str:
    about = (
        f"{RATE} events a second for {found['minutes']:g} minutes in {CHANNELS} channels, of which each keeps "
        f"{KEPT} events: {found['events']:,} events in all. Every second one was added over a connection of "
        "the app. Sizes are in MB, the table and its indexes. *Dead* are rows that were deleted and not yet "
        "vacuumed."
    )
    head = ["minutes", "events kept", "`events`", "dead", "vacuums", "`numbers`", "dead", "vacuums"]
    rows = []
    for look in found["looks"]:
        row = [f"{look['minutes']:.1f}", f"{look['kept']:,}"]
        for name in ("events", "numbers"):
            of = look["tables"][name]
            row += [f"{of['table'] / _MB:.1f} + {of['indexes'] / _MB:.1f}", f"{of['dead']:,}", f"{of['vacuums']}"]
        rows.append(row)
    return f"{about}\n\n{table(head, rows)}"


_PARTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "publishing": ("Publishes a second", _publishing),
    "delivery": ("From a commit to a client", _delivery),
    "processor": ("Processor time a delivery", _processor),
    "ways": ("Ways to number events", _numbering),
    "open": ("Beside a transaction that stays open", _beside_open),
    "sizes": ("Sizes of the tables", _sizes),
}
PARTS = tuple(_PARTS)
