"""What the tests of metrics share: gunicorn with two workers, clients that count, and scrapes that must agree."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from sse_threaded.testing import EventStreamClient, GunicornServer, StreamEnded, request
from tests.support import enter, temporary_directory, wait_until
from tests.unit.test_metrics import value_in

SECONDS = 30.0

_APP = """
import os, threading
from pathlib import Path
from urllib.parse import parse_qs

from sse_threaded import Hub
from sse_threaded.metrics import Metrics, MetricsApp
from werkzeug.wrappers import Request, Response

metrics = Metrics()
hub = Hub(Path(__file__).with_name("events.db"), observers=[metrics], max_streams_per_user=3, queue_size=100)
scrape = MetricsApp(metrics)


def app(environ, start_response):
    path = environ["PATH_INFO"]
    request = Request(environ)
    if path == "/metrics":
        return scrape(environ, start_response)
    if path == "/events":
        response = hub.stream(request, "a", user=request.args.get("user"))
        response.headers["X-Worker"] = str(os.getpid())
        if "filter" in request.args:
            response = Response((part for part in response.iter_encoded()), headers=response.headers)
    elif path == "/publish":
        for number in range(int(request.args["count"])):
            hub.publish("a", {"number": number, "padding": "x" * int(request.args.get("size", 0))})
        response = Response(str(os.getpid()))
    else:
        response = Response(str(os.getpid()))
    return response(environ, start_response)
"""

_SETTINGS = """
from sse_threaded.gunicorn_hooks import child_exit, on_starting, post_worker_init, worker_exit

raw_env = ["PROMETHEUS_MULTIPROC_DIR={folder}/metrics"]
workers = 2
"""


class Reader:
    """A client that reads on a thread of its own, and counts.

    :ivar worker: the process that serves it.
    :ivar events: how many events of the app it has got.
    :ivar size: their bytes.
    """

    def __init__(self, url: str, last_event_id: str | None = None, **options: Any) -> None:
        self.client = EventStreamClient(url, last_event_id=last_event_id, timeout=SECONDS, **options)
        self.client.open()
        self.client.wait_for_retry()
        self.worker = int(self.client.headers["X-Worker"])
        self.events = 0
        self.resets = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(StreamEnded):
            while True:
                event = self.client.next_event(SECONDS)
                if event.event == "reset":
                    self.resets += 1
                else:
                    self.events += 1

    @property
    def size(self) -> int:
        """The bytes of the events so far: each block with data of the app."""
        sign = b'data: {"number"'
        blocks = [block for block in self.client.raw.split(b"\n\n") if sign in block]
        return sum(len(block) + 2 - block.index(sign) for block in blocks)

    def hang_up(self) -> None:
        self.client.interrupt()
        self.join()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(SECONDS)


class ExactnessCase:
    """All tests of one worker class."""

    args: tuple[str, ...]
    kind: str

    def setUp(self) -> None:
        self.folder = temporary_directory(self)
        (self.folder / "counted.py").write_text(_APP)
        (self.folder / "gunicorn.conf.py").write_text(_SETTINGS.format(folder=self.folder))
        self.readers: list[Reader] = []
        self.published = 0
        self.server = enter(
            self,
            GunicornServer("counted:app", args=[*self.args], cwd=self.folder, timeout=60),
        )

    def tearDown(self) -> None:
        for reader in self.readers:
            reader.client.interrupt()
            reader.join()
            reader.client.close()

    def open(self, query: str = "", last_event_id: str | None = None, **options: Any) -> Reader:
        reader = Reader(f"{self.server.url}/events?{query}", last_event_id, **options)
        self.readers.append(reader)
        return reader

    def open_on_both(self, count: int) -> list[Reader]:
        """So many readers, some on each worker."""
        readers = [self.open() for _ in range(count)]
        wait_until(
            lambda: len({reader.worker for reader in readers}) == 2 or bool(readers.append(self.open())),
            message="a reader on each worker",
        )
        for reader in readers:
            reader.start()
        return readers

    def publish(self, count: int, size: int = 0) -> int:
        """Publish in whichever worker answers; returns its process."""
        reply = request("POST", f"{self.server.url}/publish?count={count}&size={size}", timeout=SECONDS)
        assert reply.status == 200, reply
        self.published += count
        return int(reply.body)

    def scrape(self) -> str:
        reply = request("GET", f"{self.server.url}/metrics", timeout=SECONDS)
        assert reply.status == 200, reply
        return reply.body.decode()

    def value(self, name: str, **labels: str) -> float:
        return value_in(self.scrape(), name, **labels)

    def wait_for(self, wanted: Callable[[], dict[tuple[str, ...], float]], message: str) -> None:
        """Wait until a scrape has these values; the last differences are in the failure."""
        seen: dict[tuple[str, ...], tuple[float, float]] = {}

        def agrees() -> bool:
            seen.clear()
            text = self.scrape()
            for (name, *pairs), value in wanted().items():
                labels = dict(zip(pairs[::2], pairs[1::2], strict=True))
                found = value_in(text, name, **labels)
                if found != value:
                    seen[(name, *pairs)] = found, value
            return not seen

        try:
            wait_until(agrees, timeout=SECONDS)
        except AssertionError:
            raise AssertionError(f"{message}; scraped and counted: {seen}") from None

    def counted(self, readers: list[Reader]) -> dict[tuple[str, ...], float]:
        return {
            ("events_published_total",): self.published,
            ("events_sent_total", "kind", self.kind): sum(reader.events for reader in readers),
            ("sent_bytes_total", "kind", self.kind): sum(reader.size for reader in readers),
            ("streams_opened_total", "kind", self.kind): len(readers),
        }

    def all_have(self, readers: list[Reader], events: int) -> None:
        wait_until(
            lambda: all(reader.events >= events for reader in readers),
            timeout=SECONDS,
            message=f"{events} events: {Counter(reader.events for reader in readers)}",
        )

    # The tests.

    def test_a_scrape_is_what_clients_counted(self) -> None:
        readers = self.open_on_both(20)
        for _ in range(4):
            self.publish(10)
        self.all_have(readers, 40)
        wanted = self.counted(readers)
        wanted["streams_open", "kind", self.kind] = len(readers)
        self.wait_for(lambda: wanted, "open streams")
        for _ in range(4):  # whichever worker answers
            self.wait_for(lambda: wanted, "another scrape")
        # Some hang up, the others resume elsewhere, one with an id of another log.
        gone, stay = readers[::2], readers[1::2]
        for reader in gone:
            reader.hang_up()
        self.wait_for(
            lambda: {
                ("streams_open", "kind", self.kind): len(stay),
                ("streams_ended_total", "kind", self.kind, "reason", "gone"): len(gone),
            },
            "streams whose clients have gone",
        )
        self.publish(5)
        resumed = [self.open("", reader.client.last_event_id) for reader in gone]
        resumed.append(self.open("", "abcdef-1"))
        for reader in resumed:
            reader.start()
        self.publish(5)
        self.all_have(stay, 50)
        self.all_have(resumed[:-1], 10)
        self.all_have(resumed[-1:], 5)
        everyone = [*readers, *resumed]
        self.wait_for(
            lambda: {
                **self.counted(everyone),
                ("resets_total", "reason", "epoch"): 1,
                ("replay_events_sum",): 5 * len(gone),
                ("replay_events_count",): len(everyone),
                ("waiting_events",): 0,
            },
            "streams that resumed",
        )

    def test_slow_clients_and_refused_ones(self) -> None:
        readers = self.open_on_both(6)
        slow = [self.open("", receive_buffer=4096) for _ in range(4)]  # they do not read
        for _ in range(60):
            self.publish(5, size=50_000)
            self.all_have(readers, self.published)
            if self.value("streams_ended_total", kind=self.kind, reason="slow") == len(slow):
                break
        for reader in slow:
            reader.start()
            reader.join()
        everyone = [*readers, *slow]
        wanted = self.counted(everyone)
        wanted["streams_ended_total", "kind", self.kind, "reason", "slow"] = len(slow)
        wanted["streams_open", "kind", self.kind] = len(readers)
        self.wait_for(lambda: wanted, "slow clients")
        # Of one user only three get a stream, in each process.
        refused = 0
        for _ in range(12):
            client = enter(self, EventStreamClient(f"{self.server.url}/events?user=7", timeout=SECONDS))
            client.wait_for_retry()
            client.wait_for(lambda client=client: bool(client.notices), what="a notice")
            refused += client.notices[0] == "stream-unavailable"
        self.assertGreater(refused, 0)
        wanted = {
            ("streams_refused_total", "cause", "user"): refused,
            ("streams_opened_total", "kind", self.kind): len(everyone) + 12 - refused,
        }
        self.wait_for(lambda: wanted, "refused clients")

    def test_after_a_worker_was_killed(self) -> None:
        readers = self.open_on_both(20)
        self.publish(30)
        self.all_have(readers, 30)
        # Nothing is on its way now, and the notes of threads are at most a second old.
        self.wait_for(lambda: self.counted(readers), "before the kill")
        victim = readers[0].worker
        dead = [reader for reader in readers if reader.worker == victim]
        alive = [reader for reader in readers if reader.worker != victim]
        os.kill(victim, signal.SIGKILL)
        for reader in dead:
            reader.join()
        self.wait_for(lambda: {("streams_open", "kind", self.kind): len(alive)}, "the gauges of the dead")
        self.wait_for(lambda: self.counted(readers), "after the kill")
        wait_until(lambda: len(self.server.worker_pids()) == 2, timeout=SECONDS, message="a new worker")
        resumed = [self.open("", reader.client.last_event_id) for reader in dead]
        for reader in resumed:
            reader.start()
        self.publish(20)
        self.all_have(alive, 50)
        self.all_have(resumed, 20)
        everyone = [*readers, *resumed]
        self.wait_for(
            lambda: {
                **self.counted(everyone),
                ("streams_open", "kind", self.kind): len(alive) + len(resumed),
                ("streams_ended_total", "kind", self.kind, "reason", "gone"): 0,
            },
            "after the return",
        )

    def test_a_kill_in_the_middle(self) -> None:
        readers = self.open_on_both(20)
        self.publish(1)
        self.all_have(readers, 1)
        victim = readers[0].worker
        dead = [reader for reader in readers if reader.worker == victim]
        alive = [reader for reader in readers if reader.worker != victim]
        stop = threading.Event()
        accepted: list[int] = []
        unknown: list[int] = []  # publishes whose answer the kill has cut off

        def publish() -> None:
            while not stop.is_set():
                try:
                    reply = request("POST", f"{self.server.url}/publish?count=1", timeout=SECONDS)
                    accepted.append(int(reply.body))
                except OSError:
                    unknown.append(1)

        publishers = [threading.Thread(target=publish) for _ in range(2)]
        for publisher in publishers:
            publisher.start()
        self.all_have(readers, 60)
        os.kill(victim, signal.SIGKILL)
        for reader in dead:
            reader.join()
        before = max(reader.events for reader in alive)
        self.all_have(alive, before + 30)
        stop.set()
        for publisher in publishers:
            publisher.join()
        # Each reader of the other worker has all events, and so knows how many there were.
        (total,) = map(
            int, re.findall(r"^sse_threaded_log_end\{.*\} ([\d.]+?)(?:\.0)?$", self.scrape(), re.MULTILINE)
        )
        self.all_have(alive, total)
        self.assertEqual({reader.events for reader in alive}, {total})
        received = sum(reader.events for reader in readers)
        # The pump of the killed worker counts a page at the end of its turn. A page has 200 events at most, but
        # here one event came after the other, and a turn took one or two.
        text = self.scrape()
        published = value_in(text, "events_published_total")
        self.assertLessEqual(published, total)
        self.assertGreaterEqual(published, len(accepted) + 1)
        wait_until(
            lambda: self.value("events_sent_total", kind=self.kind) >= total * len(alive) + len(dead),
            timeout=SECONDS,
            message="the counts of the others",
        )
        sent = self.value("events_sent_total", kind=self.kind)
        self.assertLessEqual(sent, received)
        # Missing are at most the events of the killed worker's last second, and nothing of the other worker.
        missing = received - sent
        self.assertLessEqual(missing, sum(reader.events - 1 for reader in dead))
        self.wait_for(
            lambda: {
                ("streams_opened_total", "kind", self.kind): len(readers),
                ("streams_open", "kind", self.kind): len(alive),
            },
            "streams",
        )
