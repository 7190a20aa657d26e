"""What a million streams need, on paper: ``python -m benchmarks.scale`` writes docs/scale.md.

Measures nothing. The figures are those of docs/benchmarks.json and docs/fan_in.json; all other numbers are
computed here, each by the formula that is shown beside it.
"""

from __future__ import annotations

import json
import math
import textwrap
from dataclasses import dataclass, field
from typing import Any

from ..compare.figures import median, rounds_of
from ..compare.servers import ROOT
from ..fan_in.report import FIGURES

BENCHMARKS, DOCUMENT = ROOT / "docs" / "benchmarks.json", ROOT / "docs" / "scale.md"

# The largest row that was measured.
_STREAMS = 15_000


@dataclass
class Sheet:
    """Named numbers, and the lines of the table in which they are shown."""

    names: dict[str, float] = field(default_factory=dict)

    def given(self, name: str, value: float, what: str, source: str) -> str:
        """A number from elsewhere."""
        self.names[name] = value
        return f"| {what} | `{name}` | {_shown(value)} | {source} |"

    def is_(self, name: str, formula: str, what: str) -> str:
        """A number that is computed: by the very formula that is shown."""
        self.names[name] = value = self.value(formula)
        return f"| {what} | `{name} = {formula}` | {_shown(value)} |"

    def value(self, formula: str) -> float:
        """What a formula gives."""
        return float(eval(formula, {"ceil": math.ceil, "__builtins__": {}}, dict(self.names)))


def _shown(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.3g}"


def page(benchmarks: dict[str, Any], fan_in: dict[str, Any]) -> str:
    """The document."""
    sheet = Sheet()
    parts = [
        _BEGIN,
        _table("what | name | figure | source", _measured(sheet, benchmarks, fan_in)),
        _CHOSEN,
        _table("what | name | figure | why", _chosen(sheet)),
        _HOSTS,
        _table("what | formula | is", [sheet.is_(*line) for line in _HOST_LINES]),
        _FAN_IN,
        _far_off(fan_in),
        _table("what | formula | is", [sheet.is_(*line) for line in _FAN_IN_LINES]),
        _TOWARDS,
        _towards(sheet),
        _SHARDS,
        _table("what | formula | is", [sheet.is_(*line) for line in _SHARD_LINES]),
        _GIVES_UP,
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(head: str, rows: list[str]) -> str:
    return "\n".join([f"| {head} |", "|---" * (head.count("|") + 1) + "|", *rows])


def _measured(sheet: Sheet, benchmarks: dict[str, Any], fan_in: dict[str, Any]) -> list[str]:
    def figure(name: str) -> float:
        return _middle(rounds_of(benchmarks, "parked", _STREAMS), name, f"parked with {_STREAMS} streams")

    one, many = fan_in["idle"]
    more = many["hubs"] - one["hubs"]
    model = fan_in["model"]
    alone, flood = model["200"], model["flood"]
    row = "[benchmarks](benchmarks.md), parked, 15,000 streams, 1 worker"
    here = "[fan_in](fan_in.md)"
    single = f"{here}, 200 events a second"
    bulk = f"{here}, transactions"
    idle = _middle(benchmarks["scenarios"].get("idle", []), "share", "idle streams")
    return [
        sheet.given("stream_kb", figure("kb_per_stream"), "memory of the server for a stream, KB", row),
        sheet.given("kernel_kb", fan_in["kernel_kb"], "of the kernel for a connection, KB", here),
        sheet.given("process_kb", one["process_kb"], "a process with a hub and one stream, KB", here),
        sheet.given("delivery_us", figure("us_per_delivery"), "processor time of a delivery, µs", row),
        sheet.given("connects", figure("connect_rate"), "connects a second, a process", row),
        sheet.given(
            "idle_share",
            idle,
            "share of a core that heartbeats of 15,000 idle streams take",
            "[benchmarks](benchmarks.md), idle",
        ),
        sheet.given(
            "alone_us",
            alone["process_us"]["fixed"],
            "a process, for an event nobody in it wants, that comes alone, µs",
            single,
        ),
        sheet.given("flood_us", flood["process_us"]["fixed"], "the same where many come in one read, µs", bulk),
        sheet.given("redis_alone_us", alone["redis_us"]["fixed"], "Redis, for an append, µs", single),
        sheet.given("reader_alone_us", alone["redis_us"]["each"], "and for each process that reads, µs", single),
        sheet.given("redis_flood_us", flood["redis_us"]["fixed"], "Redis, for one of a transaction, µs", bulk),
        sheet.given("reader_flood_us", flood["redis_us"]["each"], "and for each process that reads, µs", bulk),
        sheet.given("event_bytes", alone["out_bytes"]["each"], "bytes to each process, of 110 of data", single),
        sheet.given(
            "hub_kb",
            (many["process_kb"] - one["process_kb"]) / more,
            "memory of one hub more in a process, KB",
            here,
        ),
        sheet.given(
            "hub_us",
            (many["process_us"] - one["process_us"]) / more,
            "processor time of one hub more to which nothing comes, µs a second",
            here,
        ),
        sheet.given(
            "hub_redis_us",
            (many["redis_us"] - one["redis_us"]) / more,
            "Redis, for one that waits, µs a second",
            here,
        ),
    ]


def _middle(rounds: list[Any], name: str, of: str) -> float:
    found = median(rounds, name)
    assert found is not None, f"docs/benchmarks.json has no {name} of {of}"
    return found


def _chosen(sheet: Sheet) -> list[str]:
    return [
        sheet.given("streams", 1_000_000, "open pages", "the question"),
        sheet.given("per_process", _STREAMS, "streams a process", "as many as were measured"),
        sheet.given("cores", 8, "cores, and so processes, a host", "a usual machine"),
        sheet.given("full", 0.5, "how busy a core may be", "the other half is for deploys and bursts"),
        sheet.given("told_ms", 5000, "the reconnection time, ms", "`Hub(retry=...)`'s default"),
        sheet.given("network_gbit", 10, "Redis's network, Gbit/s", "a usual machine"),
    ]


_HOST_LINES = [
    ("processes", "ceil(streams / per_process)", "gunicorn workers"),
    ("hosts", "ceil(processes / cores)", "hosts"),
    ("memory_gb", "(streams * (stream_kb + kernel_kb) + processes * process_kb) / 1e6", "memory of all, GB"),
    ("host_gb", "memory_gb / hosts", "memory of a host, GB"),
    ("beats", "processes * idle_share", "cores for heartbeats, where nothing happens"),
    ("to_all_s", "streams * delivery_us / 1e6", "core seconds for one event to all pages"),
    ("to_all_ms", "per_process * delivery_us / 1000", "a process takes for its share of that, ms"),
    ("to_all_rate", "full * 1000 / to_all_ms", "such events a second that all processes bear"),
    ("back_s", "streams / (processes * connects)", "seconds in which all processes can take all clients back"),
    ("jitter_s", "0.8 * told_ms / 1000", "seconds over which farewells spread them"),
    ("retry_ms", "told_ms * back_s / jitter_s / full", "`retry` with which all may be deployed at once"),
]

_FAN_IN_LINES = [
    ("process_alone", "full * 1e6 / alone_us", "events a second that a process bears, each read alone"),
    ("process_flood", "full * 1e6 / flood_us", "the same, read many at a time"),
    ("all_alone", "processes * alone_us / 1e6", "cores of all processes for one event a second"),
    (
        "redis_alone",
        "full * 1e6 / (redis_alone_us + processes * reader_alone_us)",
        "events a second that Redis bears, each alone",
    ),
    (
        "redis_flood",
        "full * 1e6 / (redis_flood_us + processes * reader_flood_us)",
        "the same, many at a time",
    ),
    ("event_kb", "processes * event_bytes / 1000", "KB that leave Redis for an event"),
    ("network", "full * network_gbit * 1e9 / 8 / (processes * event_bytes)", "events a second, by the network"),
    ("waiting", "processes * hub_redis_us / 1e6", "share of Redis's core for processes that only wait"),
]

_SHARD_LINES = [
    ("shards", "ceil(process_flood / redis_flood)", "Redis servers after which the processes are the end"),
    ("shard_mb", "(shards - 1) * hub_kb / 1000", "memory of a process for their hubs, MB"),
    ("shard_share", "(shards - 1) * hub_us / 1e6", "share of a core of a process for them, while nothing comes"),
    ("threads", "2 * shards", "threads of a process for them: a pump and a listener each"),
    ("groups", "10", "groups of hosts, each for a part of the channels (chosen)"),
    ("in_group", "ceil(processes / groups)", "processes that read one Redis then"),
    ("grouped", "full * 1e6 / (redis_flood_us + in_group * reader_flood_us)", "events a second of one Redis then"),
    ("grouped_all", "groups * grouped", "of all"),
    ("grouped_process", "grouped * flood_us / 1e6", "share of a core of a process for reading its part"),
]


def _far_off(fan_in: dict[str, Any]) -> str:
    def off(load: str) -> str:
        model = fan_in["model"][load]
        return f"{100 * model['redis_us']['off']:+.0f} % and {100 * model['process_us']['off']:+.0f} %"

    text = (
        "The claim was checked by a simulation ([fan_in](fan_in.md)): fitted to 1 to 8 processes, these lines "
        f"were off for 16 by {off('200')} (Redis, a process) with events alone, and by {off('flood')} with many. "
        "That was twice as many as they were fitted to; what follows has eight times as many, where they may be "
        "off by more. One process that found thousands of events waiting read "
        f"{fan_in['drained']:,.0f} a second; one Redis took "
        f"{max(each['a_second'] for each in fan_in['appends']):,.0f} appends a second with nobody reading."
    )
    return textwrap.fill(text, 112)


_RATES = (10, 100, 1000, 10_000, 100_000)


def _towards(sheet: Sheet) -> str:
    rows = []
    for rate in _RATES:
        names = {**sheet.names, "rate": rate}
        at = Sheet(names)
        share = at.value("rate * flood_us / 1e6"), at.value("rate * alone_us / 1e6")
        of_redis = (
            at.value("rate * (redis_flood_us + processes * reader_flood_us) / 1e6"),
            at.value("rate * (redis_alone_us + processes * reader_alone_us) / 1e6"),
        )
        network = at.value("rate * processes * event_bytes * 8 / 1e9")
        servers = f"{at.value('ceil(rate / redis_flood)'):,.0f}" if rate <= at.names["process_flood"] else "–"
        cells = [f"{rate:,}", _between(*share), _between(*of_redis), f"{network:,.2g} Gbit/s", servers]
        rows.append(f"| {' | '.join(cells)} |")
    servers = "Redis servers: `ceil(rate / redis_flood)`"
    return _table(f"events a second | cores of a process | cores of Redis | from Redis | {servers}", rows)


def _between(low: float, high: float) -> str:
    return f"{_shown(low)} to {_shown(high)}"


_BEGIN = """
# Scale on paper

What a million open pages need: arithmetic by `python -m benchmarks.scale`, which measures nothing. Each number
is a figure that was measured, with its source, or chosen, and says so, or comes from those by the formula
beside it. All was measured on one shared machine with two cores; orders of magnitude carry over to others, the
last digit does not.

## Measured
"""
_CHOSEN = "## Chosen"
_HOSTS = """
## Hosts

Streams cost memory, deliveries and, after a deploy, connects. None of it asks for many machines:
"""
_FAN_IN = """
## Fan-in

A process reads all events of its hub, whoever wants them ([one connection a
process](design.md#the-log-in-redis), one order, and nothing to subscribe to when a page opens). An event that
nobody in a process wants costs it what follows. *Alone* is where each event wakes everybody. Where events come
faster than that, more of them are in one read, and the costs go down to *many* by themselves: a Redis or a
process that is busy has more at a time.
"""
_TOWARDS = """
With all these processes, by the rate of events: from where all come in large reads to where each comes alone,
that is `rate * flood_us / 1e6` to `rate * alone_us / 1e6` for a process, `rate * (redis_flood_us + processes *
reader_flood_us) / 1e6` to `rate * (redis_alone_us + processes * reader_alone_us) / 1e6` for Redis, and `rate *
processes * event_bytes * 8 / 1e9` for the network. Above 1 the second cannot be: then reads are larger. Where
no number of Redis servers is given, the rate is above `process_flood`, which no number of them raises.
"""
_SHARDS = """
## Where one Redis ends, and how it goes on

One Redis ends first at its processor, which appends and answers every reader on one core. Then several hubs, each
over a Redis of its own, and each channel in one of them, by a hash that is the same in all processes and for ever:

```python
hubs = [Hub(url) for url in ("redis://redis-0/0", "redis://redis-1/0", "redis://redis-2/0")]

def hub_of(channel: str) -> Hub:
    return hubs[zlib.crc32(channel.encode()) % len(hubs)]

hub_of("orders").publish("orders", event)
return hub_of("orders").stream(request, "orders")
```

That divides what each Redis has to do, not what a process reads: pages of all channels are in every process, so
it still reads all. What divides that too is a proxy that sends a channel's pages to a group of hosts (by the
same hash of a part of the URL): then a process has one hub, and reads the events of its group alone.
"""
_GIVES_UP = """
What several hubs give up: one order across them; a stream over channels of two hubs, as its last event ID is one
log's; a transaction over both. When their number changes, channels move, and the pages of those are told `reset`
once, as their ids are of another epoch.

What is not in here: the load balancer in front, which holds a million connections as well; TLS; what the
application's own requests take; Redis's disk; replicas, each of which reads what is written, once.
"""


def main() -> None:
    """Write the page."""
    text = page(json.loads(BENCHMARKS.read_text()), json.loads(FIGURES.read_text()))
    DOCUMENT.write_text(text)
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
