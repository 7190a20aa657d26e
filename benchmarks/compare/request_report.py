"""Writes the results of the scenarios of requests and of publishing threads as tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .figures import FLOOR, Results, median, values
from .publish_scenarios import LOGS, PUBLISHERS, publish_figure
from .request_scenarios import BARE, BOARDS, CONNECTIONS, request_figure
from .servers import Server, at_package

_GETS = """\
A GET of an app that answers two bytes, over kept connections. Each connection has one request on the way. The
client is a C program. Its share of a core is in the last columns."""

_POSTS = """\
A POST of a new task to the board, over kept connections; the log is a SQLite file."""

_PUBLISHERS = """\
Threads of one process call `hub.publish()`, each for its own channel; the log is a SQLite file. CPU µs are those
of an event."""


def requests_text(results: Results) -> str:
    """Return the sections about requests and about publishing threads."""
    packages = results.get("packages", {})
    scenarios = results["scenarios"]
    parts = []
    if "gets" in scenarios:
        parts += ["## GETs over kept connections", _GETS, _requests(scenarios["gets"], _lines(BARE, packages))]
        parts += filter(None, [_client(scenarios["gets"])])
    if "board-posts" in scenarios:
        table = _requests(scenarios["board-posts"], _lines(BOARDS, packages))
        parts += ["## POSTs of the board", _POSTS, table]
    if "publishers" in scenarios:
        parts += ["## Threads that publish", _PUBLISHERS, _publishers(scenarios["publishers"], packages)]
    return "\n\n".join(parts)


def _client(rounds: list[Any]) -> str:
    """Say how many requests the client can make, by its figures with the floor."""
    most = CONNECTIONS[-1]
    rates = {server.key: median(rounds, request_figure(server.key, most, "rate")) for server in BARE}
    floor = rates.pop(FLOOR)
    others = {key: rate for key, rate in rates.items() if rate}
    if not floor or not others:
        return ""
    best = max(others, key=lambda key: others[key])
    share = median(rounds, request_figure(best, most, "client")) or 0.0
    return (
        f"With the floor and {most} connections the client makes {floor:,.0f} GETs/s; with the best server, "
        f"{best}, {others[best]:,.0f}. There it uses {100 * share:.0f} % of a core."
    )


def _lines(servers: Iterable[Server], packages: Iterable[str]) -> dict[str, str]:
    """Return the keys and the titles of servers, and of those of other checkouts."""
    found = {}
    for server in servers:
        found[server.key] = server.title
        if server.ours:
            found |= {at_package(server.key, name): f"{server.title}, {name}" for name in packages}
    return found


def _requests(rounds: list[Any], lines: dict[str, str]) -> str:
    names = [f"{count} connection{'s' * (count > 1)}" for count in CONNECTIONS]
    head = ["", *(f"CPU µs, {name}" for name in names), *(f"a second, {name}" for name in names)]
    head += [f"client's share, {name}" for name in names]
    rows = []
    for key, title in lines.items():
        if not values(rounds, request_figure(key, CONNECTIONS[0], "us")):
            continue
        row = [title]
        row += [_some(rounds, request_figure(key, count, "us"), 1) for count in CONNECTIONS]
        row += [_some(rounds, request_figure(key, count, "rate")) for count in CONNECTIONS]
        row += [_percent(rounds, request_figure(key, count, "client")) for count in CONNECTIONS]
        rows.append(row)
    return _table(head, rows) + _missing(rounds, lines)


def _publishers(rounds: list[Any], packages: Iterable[str]) -> str:
    names = [f"{count} thread{'s' * (count > 1)}" for count in PUBLISHERS]
    head = ["", *(f"a second, {name}" for name in names), "8 threads : 1 thread"]
    head += [f"CPU µs, {name}" for name in names]
    rows = []
    for log in LOGS:
        for key, title in [(log, log), *((at_package(log, name), f"{log}, {name}") for name in packages)]:
            row = [f"synchronous={title}"]
            row += [_some(rounds, publish_figure(key, count, "rate")) for count in PUBLISHERS]
            row.append(_some(rounds, f"{key}_ratio", 2))
            row += [_some(rounds, publish_figure(key, count, "us"), 1) for count in PUBLISHERS]
            rows.append(row)
    return _table(head, rows) + _missing(rounds, {})


def _missing(rounds: list[Any], lines: dict[str, str]) -> str:
    """Return the servers that were left out and the rounds that failed."""
    found = {}
    for entry in rounds:
        found |= {lines[key].replace("*", ""): why for key, why in entry.get("left_out", {}).items()}
    notes = [f"{title}: left out: {why}" for title, why in found.items()]
    notes += [f"One round failed: {entry['failed']}" for entry in rounds if "failed" in entry]
    return "".join(["\n\nMissing or incomplete:\n", *(f"\n- {note}." for note in notes)]) if notes else ""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _some(rounds: list[Any], figure: str, digits: int = 0) -> str:
    value = median(rounds, figure)
    return "–" if value is None else f"{value:,.{digits}f}"


def _percent(rounds: list[Any], figure: str) -> str:
    value = median(rounds, figure)
    return "–" if value is None else f"{100 * value:.0f} %"
