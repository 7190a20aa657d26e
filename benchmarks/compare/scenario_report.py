"""Writes the results of the scenarios as sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .figures import Results, median


def scenarios_text(results: Results) -> str:
    """Return the section about parked streams alone."""
    rows = []
    for name, rounds in results["scenarios"].items():
        if name not in _SCENARIOS:
            continue
        failed = next((entry["failed"] for entry in rounds if "failed" in entry), None)
        whole = [entry for entry in rounds if "failed" not in entry]
        text = _SCENARIOS[name](whole) if whole else f"failed: {failed}"
        rows.append(f"- **{name}**: {text}" + (f" One round failed: {failed}." if failed and whole else ""))
    return "## Parked streams alone\n\n" + "\n".join(rows) if rows else ""


def _some(rounds: list[Any], figure: str, digits: int = 1) -> str:
    value = median(rounds, figure)
    return "–" if value is None else f"{value:,.{digits}f}"


def _idle(rounds: list[Any]) -> str:
    share = 100 * (median(rounds, "share") or 0)
    return (
        f"{_some(rounds, 'streams', 0)} streams to which nothing is published, for "
        f"{_some(rounds, 'seconds', 0)} s: {share:.1f} % of a core; {_some(rounds, 'heartbeat_bytes', 0)} "
        "bytes of heartbeats a stream."
    )


def _stalled(rounds: list[Any]) -> str:
    return (
        f"{_some(rounds, 'streams', 0)} streams; the clients of {_some(rounds, 'stalled', 0)} never read. The p99 "
        f"latency of the others is {_some(rounds, 'p99_beside_ms')} ms, without stalled streams "
        f"{_some(rounds, 'p99_without_ms')} ms. The stalled streams left {_some(rounds, 'unread_mb', 0)} MB "
        f"unread. The server's memory grew by {_some(rounds, 'memory_beside_mb')} MB, without stalled streams by "
        f"{_some(rounds, 'memory_without_mb')} MB."
    )


def _others(rounds: list[Any]) -> str:
    return (
        f"an event to ten streams takes {_some(rounds, 'alone_us', 0)} µs of processor time, its POST "
        f"included. Beside {_some(rounds, 'others', 0)} streams in a thousand other channels it takes "
        f"{_some(rounds, 'beside_us', 0)} µs."
    )


def _workers(rounds: list[Any]) -> str:
    last = rounds[-1]
    return (
        f"{_some(rounds, 'streams', 0)} streams spread over two workers as "
        f"{' and '.join(map(str, last['spread_2']))}. A burst of 100 events makes "
        f"{_some(rounds, 'burst_2', 0)} deliveries/s, with one worker {_some(rounds, 'burst_1', 0)}. There are "
        f"{_some(rounds, 'connect_2', 0)} connects/s, with one worker {_some(rounds, 'connect_1', 0)}. The client "
        f"used {100 * (median(rounds, 'client_share_2') or 0):.0f} % of a core with two workers."
    )


_SCENARIOS: dict[str, Callable[[list[Any]], str]] = {
    "idle": _idle,
    "stalled": _stalled,
    "others": _others,
    "workers": _workers,
}
