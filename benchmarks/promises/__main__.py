"""Measures what the README promises in figures: ``python -m benchmarks.promises`` (some 40 seconds).

It runs the board on this machine, where nothing else is said under plain gthread, and prints a table; with
``--write`` it replaces the table in docs/measured.md. The package must be installed; curl, nginx and openssl must
be there.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sse_threaded import Retention, open_log
from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.harness.nginx_server import Nginx

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "deploy" / "gunicorn.conf.py"
DOCUMENT = ROOT / "docs" / "measured.md"
EVENTS = "/boards/board-1/events"
RUNS = 5
PATIENCE = 30.0  # seconds
RESTLESS = """
import sys
from sse_threaded import open_log
log = open_log(sys.argv[1])
print("begun", flush=True)
while True:
    log.append("a", "x" * 110)
"""
PLAIN = ("-k", "gthread", "--threads", "64", "-w", "1")


def serve(directory: str, args: Sequence[str] = PLAIN) -> GunicornServer:
    """The board, by default on one plain worker, so that a pool can be filled."""
    env = {"SSE_THREADED_URL": f"sqlite:///{directory}/log.db"}
    return GunicornServer(config=CONFIG, args=args, env=env, cwd=directory)


def connected(server: GunicornServer, count: int) -> list[EventStreamClient]:
    """So many clients whose streams have begun."""
    clients = [EventStreamClient(server.url + EVENTS, timeout=30).open() for _ in range(count)]
    for client in clients:
        client.wait_for(lambda c=client: b"retry: " in c.raw)  # type: ignore[misc]
    return clients


def exercise() -> tuple[str, str]:
    """From the answer to a change until curl has printed its line."""
    with tempfile.TemporaryDirectory() as directory, serve(directory) as server:
        late = changes(server, ["curl", "-sN", server.url + EVENTS])
    return "`curl -N` prints the line of a change, after the change's answer", several(late)


@contextmanager
def behind_nginx() -> Iterator[tuple[GunicornServer, list[str]]]:
    """The board as deploy/ has it; its server, and the command that follows its events through TLS and HTTP/2."""
    with (
        tempfile.TemporaryDirectory() as directory,
        serve(directory, ()) as server,
        Nginx(Path(directory), f"127.0.0.1:{server.port}") as nginx,
    ):
        yield server, ["curl", "-sN", "--http2", "--cacert", str(nginx.certificate), nginx.url + EVENTS]


def exercise_behind_nginx() -> tuple[str, str]:
    """From the answer to a change until curl has printed its line."""
    with behind_nginx() as (server, command):
        late = changes(server, command)
    return "the same as deployed: parked, two workers, through nginx over HTTP/2", several(late)


def first_bytes_behind_nginx() -> tuple[str, str]:
    """From the start of curl until it has printed a stream's first line, while nothing happens."""
    took = []
    with behind_nginx() as (_, command):
        for _ in range(50):
            start = time.perf_counter()
            with following(command) as lines:
                assert next(lines) == b"retry: 5000\n"
                took.append(time.perf_counter() - start)
    return "as deployed, a stream's first line, from the start of curl and with its TLS handshake", several(took)


@contextmanager
def following(command: list[str]) -> Iterator[Iterator[bytes]]:
    """The lines of a stream, which curl prints until the ``with`` is left."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        try:
            yield iter(curl.stdout)
        finally:
            curl.kill()


def changes(server: GunicornServer, command: list[str]) -> list[float]:
    """Seconds from the answer to each of 120 changes until curl has printed its line."""
    late: list[float] = []
    with following(command) as lines:
        assert next(lines) == b"retry: 5000\n"
        printed: list[float] = []

        def read() -> None:
            for line in lines:
                if line.startswith(b'data: {"type"'):  # and not what the stream says about itself
                    printed.append(time.perf_counter())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        tasks = server.url + "/boards/board-1/tasks"
        for _ in range(40):
            made = request("POST", tasks, json={"title": "New task"})
            late.append(wait_for_line(printed, time.perf_counter(), len(late)))
            task = f"{tasks}/{json.loads(made.body)['id']}"
            request("PATCH", task, json={"listId": "list-done"})
            late.append(wait_for_line(printed, time.perf_counter(), len(late)))
            request("DELETE", task)
            late.append(wait_for_line(printed, time.perf_counter(), len(late)))
    return late


def wait_for_line(printed: list[float], answered: float, index: int) -> float:
    """Seconds from the answer to the line; 0 when curl was first."""
    while len(printed) <= index:
        assert time.perf_counter() - answered < PATIENCE, "curl does not print an event"
        time.sleep(0.0002)
    return max(0.0, printed[index] - answered)


def farewell() -> tuple[str, str]:
    """SIGTERM with 50 open streams, until master and workers are gone."""
    took = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as directory, serve(directory) as server:
            clients = connected(server, 50)
            start = time.perf_counter()
            server.terminate()
            server.wait()
            took.append(time.perf_counter() - start)
            for client in clients:
                client.wait_for_end()
                assert client.complete and client.raw.endswith(b"\n\n") and 1000 <= (client.retry or 0) <= 5000
                assert client.raw.count(b"retry: ") == 2  # the second is the farewell
    return "SIGTERM with 50 streams, all told farewell, until the process is gone", spread(took)


def full_pool() -> tuple[str, str]:
    """An ordinary request while every place for streams is taken and more clients want one."""
    took = []
    with tempfile.TemporaryDirectory() as directory, serve(directory) as server:
        clients = connected(server, 64)
        for _ in range(100):
            start = time.perf_counter()
            assert request("GET", server.url + "/healthz").status == 200
            took.append(time.perf_counter() - start)
        for client in clients:
            client.close()
    return "`GET /healthz` with the pool full of streams", several(took)


def appends(option: str) -> Callable[[], tuple[str, str]]:
    """Appending to a SQLite log that holds 1,000 events, and to one that holds 200,000."""

    def run() -> tuple[str, str]:
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
        figures = f"{1e6 * small:.0f} µs among 1,000, {1e6 * large:.0f} µs among 200,000 (x {large / small:.2f})"
        return f"publish to SQLite, `synchronous={option[-6:] or 'full'}`, trimming as it goes", figures

    return run


def beside_another() -> tuple[str, str]:
    """An append of one process, now and then, while another appends as fast as it can."""
    took = []
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/log.db"
        log = open_log(url)
        restless = subprocess.Popen([sys.executable, "-c", RESTLESS, url], stdout=subprocess.PIPE)
        assert restless.stdout is not None
        restless.stdout.readline()  # it has begun
        try:
            for _ in range(200):
                time.sleep(0.02)
                start = time.perf_counter()
                log.append("a", "x" * 110)
                took.append(time.perf_counter() - start)
        finally:
            restless.kill()
            restless.communicate()
        log.close()
    return "publish to SQLite while another process publishes without a pause", several(took)


def several(took: list[float]) -> str:
    return f"median {ms(statistics.median(took))}, longest {ms(max(took))}, of {len(took)}"


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def spread(took: list[float]) -> str:
    return f"median {statistics.median(took):.2f} s, longest {max(took):.2f} s, of {len(took)}"


def main() -> None:
    """Run all and print, or write, the table."""
    rows = []
    deployed = (exercise_behind_nginx, first_bytes_behind_nginx)
    logs = (appends(""), appends("?synchronous=normal"), beside_another)
    for measure in (exercise, *deployed, farewell, full_pool, *logs):
        what, figures = measure()
        rows.append(f"| {what} | {figures} |")
        print(rows[-1], flush=True)  # noqa: T201
    if "--write" in sys.argv:
        machine = f"CPython {platform.python_version()}, {platform.system()}, a shared machine with two cores"
        setup = f"By `python -m benchmarks.promises --write`: {machine}; "
        setup += "gthread, 64 threads, one worker, where nothing else is said."
        text = ["# Measured", "", setup, "", "| what | figure |", "|---|---|", *rows, ""]
        DOCUMENT.write_text("\n".join(text))


if __name__ == "__main__":
    main()
