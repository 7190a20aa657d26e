"""Times of publishing to SQLite: many events in the log, and two processes that publish."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from sse_threaded import Retention, open_log

from .rows import Row, in_milliseconds

# Runs in another process.
_APPEND_WITHOUT_PAUSE = """
import sys
from sse_threaded import open_log
log = open_log(sys.argv[1])
print("begun", flush=True)
while True:
    log.append("a", "x" * 110)
"""


def appends(option: str) -> Callable[[], Row]:
    """Return a function that measures appends to a SQLite log of 1,000 events, and to one of 200,000.

    :param option: the query of the log's URL.
    """

    def run() -> Row:
        costs = {}
        for held in (1_000, 200_000):
            with tempfile.TemporaryDirectory() as directory:
                log = open_log(f"sqlite:///{directory}/log.db{option}", Retention(count=held // 10, age=None))
                with log.transaction() as transaction:
                    for number in range(held):
                        transaction.append(f"channel-{number % 10}", "x" * 110)
                times = []
                for number in range(3000):
                    start = time.perf_counter()
                    log.append(f"channel-{number % 10}", "x" * 110)
                    times.append(time.perf_counter() - start)
                costs[held] = statistics.median(times)
                log.close()
        small, large = costs[1_000], costs[200_000]
        figures = f"{1e6 * small:.0f} µs with 1,000 events in the log, {1e6 * large:.0f} µs with 200,000 "
        figures += f"(x {large / small:.2f})"
        return Row(f"publish to SQLite, `synchronous={option[-6:] or 'full'}`, trimming included", figures)

    return run


def beside_another_process() -> Row:
    """Measure appends of this process, now and then, while another appends as fast as it can."""
    times = []
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/log.db"
        log = open_log(url)
        other = subprocess.Popen([sys.executable, "-c", _APPEND_WITHOUT_PAUSE, url], stdout=subprocess.PIPE)
        assert other.stdout is not None
        other.stdout.readline()  # it has begun
        try:
            for _ in range(200):
                time.sleep(0.02)
                start = time.perf_counter()
                log.append("a", "x" * 110)
                times.append(time.perf_counter() - start)
        finally:
            other.kill()
            other.communicate()
        log.close()
    return Row("publish to SQLite while another process publishes without a pause", in_milliseconds(times))
