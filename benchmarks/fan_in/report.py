"""Writes the page."""

from __future__ import annotations

from typing import Any

from ..common.paths import DOCS
from .experiment import BULK, FLOOD

FIGURES, DOCUMENT = DOCS / "fan_in.json", DOCS / "fan_in.md"

_TEXT = """
Every process with a hub reads all events of its log, also those that none of its clients wants. This page shows
the cost. Real hubs run in real processes over one redis-server. Each process has one stream, to which nothing is
published. Events of 110 bytes come in 100 other channels. So the whole cost of a process is for events that its
stream does not want.

In the model Redis has a fixed cost for an event, and a cost for each process that reads it. There is one such
model for processor time, and one for bytes sent. The cost of a process does not depend on the number of
processes. The model is fitted to all rows except the last, and then predicts the last. *Off by* compares the
prediction with the measured figure. *Reads an event* is how often a process reads, divided by the number of
events. When events come fast, one read returns several of them.
""".strip()
_HEAD = "| processes | Redis, µs an event | a process, µs an event | bytes an event | reads an event | events/s |"
_COLUMNS = (("redis_us", 0), ("process_us", 0), ("out_bytes", 0), ("reads", 2), ("a_second", 0))
_MODELLED = {
    "redis_us": "Redis, µs an event",
    "out_bytes": "bytes an event",
    "process_us": "a process, µs an event",
}
_APPENDS_HEAD = (
    "| publishing processes | events at a time | appends/s | Redis, µs an append | its share of a core | "
    "publisher, µs an append |"
)


def report(found: dict[str, Any]) -> str:
    """Return the page."""
    text = [
        "# Fan-in: the cost of reading all events in each process",
        f"By `python -m benchmarks.fan_in --write`: {found['machine']}; Redis {found['redis']}, appendfsync="
        f"everysec; medians of {found['rounds']} rounds.",
        _TEXT,
    ]
    for load, points in found["loads"].items():
        model = found["model"][load]
        lines = [f"## {_load(load)}", "", _HEAD, "|---|---|---|---|---|---|"]
        for point in points:
            shown = {**point, "a_second": point["events"] / point["seconds"]}
            figures = [f"{shown[name]:,.{digits}f}" for name, digits in _COLUMNS]
            lines.append(f"| {point['processes']} | {' | '.join(figures)} |")
        last = points[-1]["processes"]
        lines += [
            "",
            f"| model | fixed | a process | prediction for {last} | measured | off by |",
            "|---|---|---|---|---|---|",
        ]
        for name, title in _MODELLED.items():
            line = model[name]
            figures = [f"{line[part]:,.1f}" for part in ("fixed", "each", "says", "is")]
            lines.append(f"| {title} | {' | '.join(figures)} | {100 * line['off']:+.0f} % |")
        text.append("\n".join(lines))
    lines = [
        "## Appends as fast as possible, while no process listens",
        "",
        _APPENDS_HEAD,
        "|---|---|---|---|---|---|",
    ]
    for each in found["appends"]:
        step = f"{each['bulk']}, in one script" if each["inside"] else f"{each['bulk']}"
        lines.append(
            f"| {each['publishers']} | {step} | {each['a_second']:,.0f} | {each['redis_us']:,.0f} | "
            f"{100 * each['redis_share']:.0f} % | {each['publisher_us']:,.0f} |"
        )
    text.append("\n".join(lines))
    text.append(
        f"## How fast a process reads\n\nA process that was stopped while {FLOOD:,} events came then "
        f"reads {found['drained']:,.0f} of them a second."
    )
    lines = [
        "## While no event comes",
        "",
        "| hubs in the process | processor time, µs/s | of Redis for it, µs/s | memory, KB |",
    ]
    lines.append("|---|---|---|---|")
    for each in found["idle"]:
        lines.append(
            f"| {each['hubs']} | {each['process_us']:,.0f} | {each['redis_us']:,.0f} | {each['process_kb']:,.0f} |"
        )
    text.append("\n".join(lines))
    text.append(f"The kernel needs {found['kernel_kb']:.1f} KB for an open TCP connection without data (slab).")
    return "\n\n".join(text) + "\n"


def _load(load: str) -> str:
    if load == "flood":
        return f"{FLOOD:,} events in transactions of {BULK}, one immediately after the other"
    return f"{load} events a second, each with an append of its own"
