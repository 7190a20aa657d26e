"""The goals of this package, the other figures that the first table shows, and whether a run meets the goals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .figures import FLOOR, Figure, Ratios, Results, full_size_rounds, values
from .goal import Goal, ratio, shown_ratio, shown_value, value
from .publish_scenarios import LOGS
from .servers import at_package

# Figures of cells, each for the worker that parks streams, with one channel.
DELIVERY = Figure("us_per_delivery", "parked", 1000)
P99 = Figure("p99_ms", "parked", 1000)
MEMORY = Figure("kb_per_stream", "parked", 5000)
BURST = Figure("burst_rate", "parked", 1000)
BURST_BY_POSTS = Figure("burst_posts_rate", "parked", 1000)
CONNECTS = Figure("connect_rate", "parked", 1000)
REPLAYS = Figure("replay_rate", "parked", 1000)
IN_CHANNELS = Figure("us_per_delivery", "parked", 1000, 1000)

# Figures of scenarios.
GET = Figure("1_us", "worker", scenario="gets")
GETS_OF_16 = Figure("16_us", "worker", scenario="gets")
GET_RATE = Figure("1_rate", "worker", scenario="gets")
GET_RATE_OF_16 = Figure("16_rate", "worker", scenario="gets")

# Servers whose GETs are compared with those of the worker, their names, and the limits of the ratios.
_OF_GETS = {
    "gthread": ("gunicorn gthread", 0.3),
    "uvicorn": ("uvicorn raw ASGI", 1.5),
    "m0serve": ("m0serve", None),
    "waitress": ("waitress", None),
}

# Numbers of streams with which openings are compared with those of uvicorn.
_OPENED = (3000, 10_000)


def at_streams(name: str, streams: int, server: str = "parked") -> Figure:
    """Return a figure of a cell with one channel."""
    return Figure(name, server, streams)


def _memory_kept(results: Results) -> Ratios:
    rounds = full_size_rounds(results, "stalled")
    grown = [
        max(0.0, entry["memory_beside_mb"] - entry["memory_without_mb"])
        for entry in rounds
        if "p99_ratio" in entry
    ]
    return [more / part for more, part in zip(grown, values(rounds, "unread_mb"), strict=True)]


def _deliveries() -> Iterator[Goal]:
    memory = DELIVERY.of("parked-memory")
    yield ratio("processor time a delivery, parked : floor", "<=", 1.3, DELIVERY, DELIVERY.of(FLOOR))
    yield ratio("processor time a delivery, parked : nchan", "<", 0.8, DELIVERY, DELIVERY.of("nchan"))
    yield ratio("p99 latency, parked : nchan", "<", 1.0, P99, P99.of("nchan"))
    yield ratio(
        "processor time a delivery, parked with its log in memory : nchan",
        "<",
        0.9,
        memory,
        memory.of("nchan"),
    )
    yield ratio(
        "p99 latency, parked with its log in memory : nchan",
        "<",
        1.0,
        P99.of("parked-memory"),
        P99.of("nchan"),
    )
    yield ratio(
        "processor time a delivery at 900 streams, parked with its log in memory : m0serve",
        "<=",
        1.1,
        at_streams("us_per_delivery", 900, "parked-memory"),
        at_streams("us_per_delivery", 900, "m0serve"),
    )
    yield shown_ratio(
        "p99 latency at 900 streams, parked with its log in memory : m0serve",
        at_streams("p99_ms", 900, "parked-memory"),
        at_streams("p99_ms", 900, "m0serve"),
    )
    yield ratio(
        "processor time a delivery, log in Redis : log in SQLite",
        "<=",
        1.1,
        DELIVERY.of("parked-redis"),
        DELIVERY,
    )
    yield ratio(
        "processor time a delivery, log in PostgreSQL : log in SQLite",
        "<=",
        1.1,
        DELIVERY.of("parked-postgres"),
        DELIVERY,
    )
    yield ratio(
        "processor time of an event to one of 1000 channels, parked : uvicorn raw ASGI",
        "<=",
        1.2,
        IN_CHANNELS,
        IN_CHANNELS.of("uvicorn"),
    )
    yield value("memory a stream, parked, at 5000, KB", "<=", 2.5, MEMORY)
    yield ratio("memory a stream at 5000, parked : nchan", "<", 1.0, MEMORY, MEMORY.of("nchan"))
    yield shown_ratio(
        "memory a stream at 900, parked : m0serve",
        at_streams("kb_per_stream", 900),
        at_streams("kb_per_stream", 900, "m0serve"),
    )
    yield ratio("burst of 100 events, deliveries/s, parked : nchan", ">", 4.0, BURST, BURST.of("nchan"))
    yield ratio(
        "burst of 100 events by POSTs, deliveries/s, parked : nchan",
        ">",
        1.0,
        BURST_BY_POSTS,
        BURST_BY_POSTS.of("nchan"),
    )


def _openings() -> Iterator[Goal]:
    yield ratio("connect rate, parked : uvicorn raw ASGI", ">", 1.0, CONNECTS, CONNECTS.of("uvicorn"))
    yield ratio(
        "connect rate, parked with a replay of ten events : uvicorn raw ASGI, which has no replay",
        ">",
        1.0,
        REPLAYS,
        CONNECTS.of("uvicorn"),
    )
    for streams in _OPENED:
        ours, theirs = at_streams("open_us", streams), at_streams("open_us", streams, "uvicorn")
        rates = at_streams("connect_rate", streams), at_streams("connect_rate", streams, "uvicorn")
        said = f"of {streams} streams, parked"
        yield ratio(f"processor time of an opening {said} : uvicorn raw ASGI", "<=", 0.7, ours, theirs)
        yield ratio(f"connect rate {said} : uvicorn raw ASGI", ">=", 1.3, *rates)
        yield shown_ratio(
            f"processor time of an opening {said} with a replay of ten events : uvicorn raw ASGI without replay",
            at_streams("replay_us", streams),
            theirs,
        )
        yield ratio(
            f"connect rate {said} with a replay of ten events : uvicorn raw ASGI without replay",
            ">=",
            1.0,
            at_streams("replay_rate", streams),
            rates[1],
        )
    yield ratio(
        "connect rate of 900 streams, parked : m0serve",
        ">=",
        0.6,
        at_streams("connect_rate", 900),
        at_streams("connect_rate", 900, "m0serve"),
    )
    for name, text in {
        "open_us": "processor time of an opening of 900 streams, parked : m0serve",
        "replay_us": "processor time of an opening of 900 streams with a replay of ten events, parked : m0serve",
        "replay_rate": "connect rate of 900 streams with a replay of ten events, parked : m0serve",
    }.items():
        yield shown_ratio(text, at_streams(name, 900), at_streams(name, 900, "m0serve"))
    flask = at_streams("open_us", 1000, "parked-flask")
    yield shown_value("processor time of an opening, view of Flask, parked, µs", flask)
    yield shown_ratio("processor time of an opening, parked, view of Flask : bare app", flask, flask.of("parked"))


def _requests() -> Iterator[Goal]:
    for server, (name, limit) in _OF_GETS.items():
        text = f"processor time of a GET, worker : {name}"
        if limit is None:
            yield shown_ratio(text, GET, GET.of(server))
        else:
            yield ratio(text, "<=", limit, GET, GET.of(server))
        yield shown_ratio(
            f"processor time of a GET over 16 connections, worker : {name}", GETS_OF_16, GETS_OF_16.of(server)
        )
    for log in LOGS:
        post = Figure("1_us", log, scenario="board-posts")
        yield shown_value(f"processor time of a POST of the board, SQLite log, synchronous={log}, µs", post)
    for log in LOGS:
        publishes = Figure("8_rate", log, scenario="publishers")
        text = f"publishes/s, SQLite log, synchronous={log}, 8 threads : 1 thread"
        one = Figure("1_rate", log, scenario="publishers")
        if log == "full":
            yield ratio(text, ">=", 3.0, publishes, one)
        else:
            yield shown_ratio(text, publishes, one)


def _others() -> Iterator[Goal]:
    yield ratio(
        "processor time a delivery, plain gthread : sse-starlette",
        "<",
        1.0,
        DELIVERY.of("plain"),
        DELIVERY.of("sse-starlette"),
    )
    yield shown_ratio(
        "processor time a delivery at 100 streams, plain, waitress : gthread",
        at_streams("us_per_delivery", 100, "waitress"),
        at_streams("us_per_delivery", 100, "plain"),
    )
    yield value(
        "15000 idle parked streams: share of a core", "<", 0.03, Figure("share", scenario="idle"), percent=True
    )
    yield value(
        "p99 latency of the streams that read, 5000 streams, one in ten stalled : none stalled",
        "<",
        1.2,
        Figure("p99_ratio", scenario="stalled"),
    )
    yield Goal(
        "memory growth with stalled streams : bytes that they left unread",
        "<",
        0.1,
        _memory_kept,
        (Figure("unread_mb", scenario="stalled"),),
    )
    yield value(
        "processor time of an event to 10 streams, beside 10000 other streams : alone",
        "<",
        1.2,
        Figure("ratio", scenario="others"),
    )
    yield value("deliveries/s of a burst, two workers : one worker", ">", 1.0, Figure("ratio", scenario="workers"))


GOALS = (*_deliveries(), *_openings(), *_requests(), *_others())

# The figures of this package that are compared with those of another checkout.
COMPARED = {
    "processor time a delivery at 1000 streams": DELIVERY,
    "p99 latency at 1000 streams": P99,
    "processor time a delivery at 1000 streams, log in memory": DELIVERY.of("parked-memory"),
    "processor time of an event to one of 1000 channels": IN_CHANNELS,
    "memory a stream at 5000": MEMORY,
    **{
        f"processor time of an opening of {streams} streams": at_streams("open_us", streams) for streams in _OPENED
    },
    **{f"connect rate of {streams} streams": at_streams("connect_rate", streams) for streams in _OPENED},
    **{
        f"processor time of an opening of {streams} streams with a replay": at_streams("replay_us", streams)
        for streams in _OPENED
    },
    **{
        f"connect rate of {streams} streams with a replay": at_streams("replay_rate", streams)
        for streams in _OPENED
    },
    "processor time of an opening, view of Flask": at_streams("open_us", 1000, "parked-flask"),
    "processor time a delivery, plain gthread": DELIVERY.of("plain"),
    "processor time a delivery at 100 streams, plain, in waitress": at_streams("us_per_delivery", 100, "waitress"),
    "processor time of a GET": GET,
    "processor time of a GET over 16 connections": GETS_OF_16,
    "GETs/s": GET_RATE,
    "GETs/s over 16 connections": GET_RATE_OF_16,
    **{
        f"processor time of a POST of the board, synchronous={log}": Figure("1_us", log, scenario="board-posts")
        for log in LOGS
    },
    **{
        f"publishes/s of {threads} thread{'s' * (threads > 1)}, synchronous={log}": Figure(
            f"{threads}_rate", log, scenario="publishers"
        )
        for log in LOGS
        for threads in (1, 8)
    },
}


def package_goals(packages: Iterable[str]) -> list[Goal]:
    """Return the ratios of this checkout to others.

    :param packages: the names of the other checkouts.
    """
    return [
        shown_ratio(f"{text}, now : {name}", figure, figure.of(at_package(figure.server, name)))
        for name in packages
        for text, figure in COMPARED.items()
    ]


def judged(results: Results) -> list[dict[str, Any]]:
    """Compare a run with all goals, and with other checkouts of this package.

    A figure without a limit is left out if it was not measured.
    """
    goals = (*GOALS, *package_goals(results.get("packages", {})))
    found = [(goal, goal.judge(results)) for goal in goals]
    return [result for goal, result in found if goal.sign or result["value"] is not None]
