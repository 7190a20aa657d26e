"""Writes the results of a run as Markdown."""

from __future__ import annotations

import statistics
from typing import Any

from .figures import FLOOR, Results, median, ratios, rounds_of, values
from .goals import judged
from .request_report import requests_text
from .scenario_report import scenarios_text

# The share of a core above which the client itself may be the bottleneck.
_BUSY = 0.8

_METHOD = """\
## What is measured

Every server has the same two URLs, `GET /events?channel=X` and `POST /publish?channel=X`. Each event has 110
bytes of data. For each row the server is started again. A delivery is one event that one stream receives. The
floor is a program that only sends.

- **CPU µs**: processor time of all processes of the server for one delivery, publishing included. **: floor**:
  this time, divided by that of the floor in the same round.
- **p50 / p99 / max ms**: latency, from just before the POST is sent until the client has read the event. The
  data contains a time stamp.
- **KB a stream**: growth of the server's memory (PSS) by all streams, divided by their number. Before, there was
  a warm-up with ten streams.
- **connects/s**: how many streams open in a second, from the first connect to the first bytes of the last
  stream. The client opens 256 connections at a time. **with replay**: the same for streams that reconnect with a
  last event ID that is ten events old, until the last one has all ten. Only servers with a history have this
  figure.
- **CPU µs an opening**: processor time of all processes of the server while all streams open, divided by their
  number. After the stroke: the same for streams that reconnect with a last event ID that is ten events old.
- **burst, deliveries/s**: many events are published at once, and the time ends when the last stream has the last
  event. An app publishes them in the handler of one request, this package in one transaction. **by POSTs**: the
  same, but each event is a POST of its own, over 8 connections. nchan has no app, so both its bursts are by
  POSTs.
- **POSTs/s**, **CPU µs a POST**: one POST after the other over one connection, to a channel without streams,
  while all streams are open.
- **client's share**: how much of a core the client uses while events come / while it connects / in the burst.

The servers:
"""


def markdown(results: Results) -> str:
    """Return the page."""
    parts = [
        _head(results),
        _targets(results),
        _cells(results),
        scenarios_text(results),
        requests_text(results),
        _client(results),
        _method(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(results: Results) -> str:
    machine, settings = results["machine"], results["settings"]
    versions = [f"{name} {version}" for name, version in results["versions"].items()]
    half = (len(versions) + 1) // 2
    dirty = " with changes" if machine["dirty"] else ""
    place = f"{machine['cores']} cores ({machine['processor']}), {machine['kernel']}, Python {machine['python']}"
    rounds = settings["rounds"]
    others = ", ".join(f"{name} is commit {commit}" for name, commit in results.get("packages", {}).items())
    return "\n".join(
        [
            "# Benchmarks",
            "",
            f"By `{settings['command']}` on {machine['date']}, commit {machine['commit']}{dirty}: {place}.",
            *(f"{', '.join(part)}." for part in (versions[:half], versions[half:]) if part),
            "",
            f"This is one run on one machine over the loopback interface, of {rounds} round{'s' * (rounds > 1)}.",
            "In a round the servers run one after the other, in each second round in the reverse order.",
            "The figures are medians of the rounds.",
            *([f"Rows of this package may name another checkout of it: {others}."] if others else []),
            "Absolute figures depend on the machine and its load, so quote ratios. `A : B` means A divided by B.",
            "[The last section](#what-is-measured) explains the columns and the servers.",
            "",
            "![Processor time, latency, memory and bursts by the number of streams](benchmarks.svg)",
        ]
    )


def _targets(results: Results) -> str:
    rows = [
        "## Targets",
        "",
        "| at 1000 streams and 10 events/s, unless a row says otherwise | target | measured | range | result |",
    ]
    rows.append("|---|---|---|---|---|")
    words = {True: "met", False: "**missed**", None: "–"}
    for goal in judged(results):
        rows.append(
            f"| {goal['target']} | {goal['limit']} | {goal['shown']} | {goal['range']} | {words[goal['met']]} |"
        )
    rows += [
        "",
        "Each ratio is computed within one round. The median of the rounds is compared with the target. A row "
        "without a target only shows a figure.",
    ]
    return "\n".join(rows)


_COLUMNS = (
    "server",
    "CPU µs",
    ": floor",
    "p50 / p99 / max ms",
    "KB a stream",
    "connects/s",
    "with replay",
    "CPU µs an opening",
    "burst, deliveries/s",
    "by POSTs",
    "POSTs/s",
    "CPU µs a POST",
    "client's share",
)


def _cells(results: Results) -> str:
    parts = ["## All servers"]
    grid = dict.fromkeys((cell["streams"], cell["channels"], cell["workers"]) for cell in results["cells"])
    for streams, channels, workers in sorted(grid, key=lambda point: (point[2], point[1], point[0])):
        parts.append(_table(results, streams, channels, workers))
    return "\n\n".join(parts)


def _table(results: Results, streams: int, channels: int, workers: int) -> str:
    floor = rounds_of(results, FLOOR, streams, channels, workers)
    rows, rates, bursts, notes = [], set(), set(), []
    for key, server in results["servers"].items():
        rounds = rounds_of(results, key, streams, channels, workers)
        if key in results["left_out"]:
            rows.append(
                f"| {server['title']} | left out: {results['left_out'][key]} |" + " |" * (len(_COLUMNS) - 2)
            )
            continue
        reason = _not_measured(server, streams, workers)
        if not rounds:
            if reason:
                notes.append(f"{_plain(server['title'])}: {reason}")
            continue
        if not values(rounds, "us_per_delivery"):
            why = next((entry["failed"] for entry in rounds if entry and "failed" in entry), "no figures")
            rows.append(f"| {server['title']} | failed: {why} |" + " |" * (len(_COLUMNS) - 2))
            continue
        rates |= set(values(rounds, "rate"))
        bursts |= set(values(rounds, "burst_events"))
        rows.append(_row(server["title"], rounds, floor))
        missing = sum(values(rounds, "missing"))
        failed = [entry["failed"] for entry in rounds if entry and "failed" in entry]
        if missing:
            notes.append(f"{_plain(server['title'])}: {missing:.0f} deliveries are missing")
        if failed:
            notes.append(f"{_plain(server['title'])}: {len(failed)} of {len(rounds)} rounds failed ({failed[0]})")
    many = "" if channels == 1 else f" in {channels} channels"
    said = f"{_number(max(rates))} event{'s' * (max(rates) != 1)} a second" if rates else ""
    if channels > 1:
        said += ", each to one channel in turn"
    if bursts:
        said += f"; bursts of {_number(max(bursts))} events"
    title = f"### {streams} streams{many}, {workers} worker{'s' if workers > 1 else ''}"
    lines = [title, "", said + ".", "", "| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|", *rows]
    if notes:
        lines += ["", "Missing or incomplete:", "", *(f"- {note}." for note in notes)]
    return "\n".join(lines)


def _not_measured(server: dict[str, Any], streams: int, workers: int) -> str:
    if workers > server["workers"]:
        return "one process only, because its processes share no log"
    if server["streams"] and streams > max(server["streams"]):
        bound = server.get("bound", "because each holds a thread")
        return f"up to {max(server['streams'])} streams, {bound}" if bound else ""
    return ""


def _row(title: str, rounds: list[Any], floor: list[Any]) -> str:
    def of(figure: str, digits: int = 0) -> str:
        value = median(rounds, figure)
        return "–" if value is None else f"{value:,.{digits}f}"

    to_floor = ratios(rounds, "us_per_delivery", floor)
    shares = [median(rounds, name) for name in ("client_share", "connect_share", "burst_share")]
    columns = [
        title,
        of("us_per_delivery", 1),
        f"{statistics.median(to_floor):.2f}" if to_floor else "–",
        f"{of('p50_ms', 1)} / {of('p99_ms', 1)} / {of('max_ms', 1)}",
        of("kb_per_stream", 1),
        of("connect_rate"),
        of("replay_rate"),
        f"{of('open_us')} / {of('replay_us')}",
        of("burst_rate"),
        of("burst_posts_rate"),
        of("publish_rate"),
        of("publish_us"),
        " / ".join("–" if share is None else f"{100 * share:.0f}" for share in shares) + " %",
    ]
    return "| " + " | ".join(columns) + " |"


def _plain(title: str) -> str:
    return title.replace("*", "")


def _number(value: float) -> str:
    return f"{round(value, 1):g}"


def _client(results: Results) -> str:
    """Say whether the client was the bottleneck."""
    what = {"client_share": "delivering", "connect_share": "connecting", "burst_share": "in a burst"}
    busiest = dict.fromkeys(what, 0.0)
    above = []
    for cell in results["cells"]:
        for figure, doing in what.items():
            share = median(cell["rounds"], figure) or 0.0
            busiest[figure] = max(busiest[figure], share)
            if share > _BUSY and cell["server"] != FLOOR:
                above.append(
                    f"{cell['server']} with {cell['streams']} streams while {doing} ({100 * share:.0f} %)"
                )
    shares = ", ".join(f"{100 * share:.0f} %" for share in busiest.values())
    text = [
        "The client has one process that reads all streams by epoll, and another process that publishes. Its "
        "share of a core is in every row: while events come / while it connects / in the burst. The largest "
        f"shares of this run, in this order: {shares}.",
        _faster(results, "connect_rate", "connect_share", "connects/s"),
        _faster(results, "burst_rate", "burst_share", "deliveries/s in a burst"),
    ]
    disturbed = [share for cell in results["cells"] for share in values(cell["rounds"], "others_share")]
    if disturbed:
        text.append(
            "During the run other processes of the machine used "
            f"{100 * statistics.median(disturbed):.0f} % of a core (median of all rows and rounds), at most "
            f"{100 * max(disturbed):.0f} %."
        )
    if above:
        text.append("The client's share is above 80 % in these cases, so it may be the bottleneck there:\n")
        text.append("\n".join(f"- {case}" for case in above))
    else:
        text.append("The client's share is above 80 % for no server except the floor.")
    return "## Is the client the bottleneck?\n\n" + "\n".join(filter(None, text))


def _faster(results: Results, figure: str, share: str, what: str) -> str:
    floor = median(rounds_of(results, FLOOR, 1000), figure)
    found = {key: median(rounds_of(results, key, 1000), figure) for key in results["servers"] if key != FLOOR}
    others = {key: value for key, value in found.items() if value}
    if not floor or not others:
        return ""
    best = max(others, key=lambda key: others[key])
    text = f"With the floor and 1000 streams the client makes {floor:,.0f} {what}; with the best server, {best}, "
    text += f"{others[best]:,.0f}"
    if others[best] < floor:
        return f"{text}."
    # Then the floor shows no limit of the client; only the client's own share of a core does.
    used = median(rounds_of(results, best, 1000), share)
    return f"{text}, which is more. With {best} the client used {100 * (used or 0.0):.0f} % of a core."


def _method(results: Results) -> str:
    notes = [f"- {_plain(server['title'])}: {server['note']}." for server in results["servers"].values()]
    return "\n".join([_METHOD, *notes])
