"""Times of the board, as a user sees them: changes, first lines, the end of the server, a full pool."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.harness.nginx_server import Nginx

from ..common.paths import BOARD_CONFIG
from .rows import Row, in_milliseconds, in_seconds

EVENTS = "/boards/board-1/events"

# The plain worker: one process, 64 threads.
PLAIN = ("-k", "gthread", "--threads", "64", "-w", "1")

# Seconds that a line may take.
LINE_SECONDS = 30.0

# How often the end of the server is measured.
_FAREWELLS = 5


def serve(directory: str, args: Sequence[str] = PLAIN) -> GunicornServer:
    """Return the board, by default with one plain worker, whose pool streams can fill."""
    env = {"SSE_THREADED_URL": f"sqlite:///{directory}/log.db"}
    return GunicornServer(config=BOARD_CONFIG, args=args, env=env, cwd=directory)


def connected(server: GunicornServer, count: int) -> list[EventStreamClient]:
    """Open ``count`` streams and wait until all have begun."""
    clients = [EventStreamClient(server.url + EVENTS, timeout=30).open() for _ in range(count)]
    for client in clients:
        client.wait_for(lambda c=client: b"retry: " in c.raw)  # type: ignore[misc]
    return clients


def change_to_curl() -> Row:
    """Measure from the answer to a change until curl has printed its line."""
    with tempfile.TemporaryDirectory() as directory, serve(directory) as server:
        delays = change_delays(server, ["curl", "-sN", server.url + EVENTS])
    return Row("from the answer to a change until `curl -N` prints its event", in_milliseconds(delays))


@contextmanager
def behind_nginx() -> Iterator[tuple[GunicornServer, list[str]]]:
    """Run the board as deployed; yield its server, and the command that follows it through TLS and HTTP/2."""
    with (
        tempfile.TemporaryDirectory() as directory,
        serve(directory, ()) as server,
        Nginx(Path(directory), f"127.0.0.1:{server.port}") as nginx,
    ):
        yield server, ["curl", "-sN", "--http2", "--cacert", str(nginx.certificate), nginx.url + EVENTS]


def change_to_curl_behind_nginx() -> Row:
    """Measure the same through nginx."""
    with behind_nginx() as (server, command):
        delays = change_delays(server, command)
    return Row(
        "the same as deployed: parked streams, two workers, through nginx over HTTP/2", in_milliseconds(delays)
    )


def first_line_behind_nginx() -> Row:
    """Measure from the start of curl until it has printed the first line of a stream; nothing is published."""
    times = []
    with behind_nginx() as (_, command):
        for _ in range(50):
            start = time.perf_counter()
            with following(command) as lines:
                assert next(lines) == b"retry: 5000\n"
                times.append(time.perf_counter() - start)
    what = "as deployed: from the start of curl, TLS handshake included, until it prints a stream's first line"
    return Row(what, in_milliseconds(times))


@contextmanager
def following(command: list[str]) -> Iterator[Iterator[bytes]]:
    """Yield the lines of a stream that curl prints; end curl when the ``with`` is left."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        try:
            yield iter(curl.stdout)
        finally:
            curl.kill()


def change_delays(server: GunicornServer, command: list[str]) -> list[float]:
    """Make 120 changes; return the seconds from each answer until curl has printed the line of the change."""
    delays: list[float] = []
    with following(command) as lines:
        assert next(lines) == b"retry: 5000\n"
        printed: list[float] = []

        def read() -> None:
            for line in lines:
                if line.startswith(b'data: {"type"'):  # not an event of the stream about itself
                    printed.append(time.perf_counter())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        tasks = server.url + "/boards/board-1/tasks"
        for _ in range(40):
            made = request("POST", tasks, json={"title": "New task"})
            delays.append(wait_for_line(printed, time.perf_counter(), len(delays)))
            task = f"{tasks}/{json.loads(made.body)['id']}"
            request("PATCH", task, json={"listId": "list-done"})
            delays.append(wait_for_line(printed, time.perf_counter(), len(delays)))
            request("DELETE", task)
            delays.append(wait_for_line(printed, time.perf_counter(), len(delays)))
    return delays


def wait_for_line(printed: list[float], answered: float, index: int) -> float:
    """Return the seconds from the answer to the line; 0 when curl printed the line first."""
    while len(printed) <= index:
        assert time.perf_counter() - answered < LINE_SECONDS, "curl does not print an event"
        time.sleep(0.0002)
    return max(0.0, printed[index] - answered)


def farewell() -> Row:
    """Measure from SIGTERM, with 50 open streams, until master and workers have ended."""
    times = []
    for _ in range(_FAREWELLS):
        with tempfile.TemporaryDirectory() as directory, serve(directory) as server:
            clients = connected(server, 50)
            start = time.perf_counter()
            server.terminate()
            server.wait()
            times.append(time.perf_counter() - start)
            for client in clients:
                client.wait_for_end()
                assert client.complete and client.raw.endswith(b"\n\n") and 1000 <= (client.retry or 0) <= 5000
                assert client.raw.count(b"retry: ") == 2  # the second is the farewell
    return Row("from SIGTERM until each of 50 streams has its farewell and gunicorn has ended", in_seconds(times))


def full_pool() -> Row:
    """Measure an ordinary request while all places for streams are taken, and more clients want one."""
    times = []
    with tempfile.TemporaryDirectory() as directory, serve(directory) as server:
        clients = connected(server, 64)
        for _ in range(100):
            start = time.perf_counter()
            assert request("GET", server.url + "/healthz").status == 200
            times.append(time.perf_counter() - start)
        for client in clients:
            client.close()
    return Row("`GET /healthz` while all places for streams are taken", in_milliseconds(times))
