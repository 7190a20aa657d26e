"""Publishes a second, and how long one takes, with 1, 8 and 32 writers that publish without a pause."""

from __future__ import annotations

from typing import Any

from .programs import percentile, run
from .servers import LOGS, Servers

WRITERS = (1, 8, 32)


def publishing(servers: Servers, seconds: float) -> list[dict[str, Any]]:
    """Measure all logs; threads of one process, and processes of one thread.

    :param seconds: for how long each number of writers publishes.
    """
    found = []
    for writers in WRITERS:
        for kind, threads, processes in (("threads", writers, 1), ("processes", 1, writers)):
            if kind == "processes" and writers == 1:
                continue
            for log in LOGS:
                answer = run("writers", servers.url(log), threads, processes, seconds, seconds=seconds)
                times = answer["times"]
                found.append(
                    {
                        "log": log,
                        "kind": kind,
                        "writers": writers,
                        "rate": len(times) / answer["seconds"],
                        "p50_ms": percentile(times, 0.5) / 1000,
                        "p99_ms": percentile(times, 0.99) / 1000,
                        "writer_us": 1e6 * answer["processor"] / len(times),
                    }
                )
    return found
