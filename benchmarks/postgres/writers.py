"""Threads and processes that publish as fast as they can: URL THREADS PROCESSES SECONDS.

Each process has so many threads, and each thread has its own channel. It prints one line of JSON: how many events
came in each second, in how many seconds, the times of all publishes in microseconds, and the processor time of the
processes in seconds.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

from sse_threaded import Hub

from .servers import DATA

# Events before the measurement: the first ones open the log.
_WARM_UP = 30

# Seconds that the start of all processes may take.
_START_SECONDS = 120.0


def write(url: str, name: str, threads: int, seconds: float, *, start: Barrier, pipe: Connection) -> None:
    """Publish in the threads of one process, and send the result."""
    hub = Hub(url)
    for _ in range(_WARM_UP):
        hub.publish("warm-up", DATA)
    ready = threading.Barrier(threads + 1)
    found: list[list[tuple[float, float]]] = [[] for _ in range(threads)]
    begun = 0.0

    def publish(number: int) -> None:
        channel, times = f"channel-{name}-{number}", found[number]
        ready.wait()
        end = begun + seconds
        before = time.perf_counter()
        while before < end:
            hub.publish(channel, DATA)
            after = time.perf_counter()
            times.append((before - begun, after - before))
            before = after

    running = [threading.Thread(target=publish, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    start.wait(_START_SECONDS)
    processor, begun = time.process_time(), time.perf_counter()
    ready.wait()
    for thread in running:
        thread.join()
    took = time.perf_counter() - begun
    hub.close()
    pipe.send((took, time.process_time() - processor, [each for times in found for each in times]))


def main(url: str, threads: int, processes: int, seconds: float) -> None:
    """Run the processes, and print the result."""
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(processes)
    pipes, children = [], []
    for number in range(processes):
        pipe, other = fork.Pipe(duplex=False)
        ends = {"start": start, "pipe": other}
        child = fork.Process(target=write, args=(url, str(number), threads, seconds), kwargs=ends, daemon=True)
        child.start()
        other.close()
        pipes.append(pipe)
        children.append(child)
    answers: list[Any] = [pipe.recv() for pipe in pipes]
    for child in children:
        child.join()
    counts = [0] * (int(seconds) + 1)
    for _, _, times in answers:
        for begun, _ in times:
            counts[int(begun)] += 1
    found = {
        "counts": counts,
        "seconds": max(took for took, _, _ in answers),
        "processor": sum(used for _, used, _ in answers),
        "times": [round(1e6 * took) for _, _, times in answers for _, took in times],
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
