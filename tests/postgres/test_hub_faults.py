"""A hub while PostgreSQL hangs, crashes or cuts sessions: streams stay open, and lose no acknowledged event."""

from __future__ import annotations

import logging
import threading
import time
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

from benchmarks.faults.tcp_proxy import TcpProxy
from sse_threaded import Hub, LogUnavailable
from sse_threaded.log.postgres import log as log_module
from sse_threaded.log.postgres.errors import AnswerLost
from sse_threaded.log.postgres.log import PostgresLog
from sse_threaded.log.postgres.timeouts import Timeouts
from sse_threaded.log.postgres.url import parse_url
from tests.harness.postgres_server import PgBouncer, PostgresServer
from tests.postgres.server_case import QUICK, ended
from tests.postgres.test_listener import LISTENERS
from tests.postgres.test_log_postgres_hub import Stream
from tests.support import enter, wait_until

ONCE = True  # it says the same under every Python


class FaultsCase(unittest.TestCase):
    def setUp(self) -> None:
        logging.getLogger("sse_threaded").setLevel(logging.CRITICAL)
        self.addCleanup(logging.getLogger("sse_threaded").setLevel, logging.NOTSET)
        self.postgres = enter(self, PostgresServer())

    def make_hub(self, url: str = "", **options: Any) -> Hub:
        hub = Hub(url or self.postgres.url(), **options)
        self.addCleanup(hub.close)
        return hub

    def open_stream(self, hub: Hub, last_event_id: str | None = None) -> Stream:
        environ = {"REQUEST_METHOD": "GET"}
        if last_event_id is not None:
            environ["HTTP_LAST_EVENT_ID"] = last_event_id
        return Stream(self, hub, environ)

    def publish_until_it_works(self, hub: Hub, text: str) -> None:
        def works() -> bool:
            try:
                return bool(hub.publish("a", text))
            except LogUnavailable:
                return False

        wait_until(works, timeout=60, message="it can publish")


class Follower:
    """A stream that a thread reads all the time: a hub ends the stream of a client that reads nothing."""

    def __init__(self, test: unittest.TestCase, hub: Hub) -> None:
        self.text = b""
        self._begin = 0
        self._response: Any = iter(hub.stream({"REQUEST_METHOD": "GET"}, "a").response)
        self._is_over = False
        thread = threading.Thread(target=self._read, daemon=True)
        thread.start()
        test.addCleanup(thread.join, 60)
        test.addCleanup(setattr, self, "_is_over", True)
        self.wait_for(b"stream-start")

    def _read(self) -> None:
        for chunk in self._response:
            self.text += chunk
            if self._is_over:
                self._response.close()
                return

    def wait_for(self, *parts: bytes) -> None:
        """Wait until the rest of the stream has these parts, one after the other."""
        for part in parts:
            wait_until(lambda part=part: part in self.text[self._begin :], timeout=60, message=f"{part!r} comes")
            self._begin = self.text.index(part, self._begin) + len(part)

    def skip(self) -> None:
        """Leave out everything that has come so far."""
        self._begin = len(self.text)


class HangTest(FaultsCase):
    def outlive(self, url: str, hang: Callable[[], None], go_on: Callable[[], None]) -> None:
        """A hub meets a hang of PostgreSQL with an open stream, and goes on after it."""
        hub = self.make_hub(url, heartbeat=0.2)
        follower = Follower(self, hub)
        hub.publish("a", "before")
        follower.wait_for(b"data: before")
        for number in range(2):
            hang()
            try:
                self.assertRaises(LogUnavailable, ended, hub.publish, "a", "lost")
                wait_until(lambda: hub.log.listener.failure, timeout=60, message="it notices it")  # type: ignore[attr-defined]
                self.assertRaises(LogUnavailable, ended, hub.health)
                follower.skip()
                follower.wait_for(b": heartbeat", b": heartbeat")
            finally:
                go_on()
            self.publish_until_it_works(hub, f"after {number}")
            follower.wait_for(f"data: after {number}".encode())
            wait_until(lambda: hub.log.listener.failure is None, timeout=60, message="it is over")  # type: ignore[attr-defined]
            self.assertEqual(hub.health()["streams"], 1)
        self.assertNotIn(b"stream-end", follower.text)

    def test_a_stopped_postgresql(self) -> None:
        self.outlive(self.postgres.url(), self.postgres.pause, self.postgres.go_on)

    def test_a_network_that_swallows_all(self) -> None:
        proxy = TcpProxy("127.0.0.1", ("127.0.0.1", self.postgres.port))
        self.addCleanup(proxy.close)
        self.outlive(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres", proxy.cut, proxy.heal)

    def test_a_host_is_cut_off_in_a_transaction_and_others_go_on(self) -> None:
        proxy = TcpProxy("127.0.0.1", ("127.0.0.1", self.postgres.port))
        self.addCleanup(proxy.close)
        other = self.make_hub(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres")
        hub = self.make_hub()
        with self.assertRaises(LogUnavailable), other.log.transaction() as transaction:
            transaction.append("a", "never")
            proxy.cut()
            self.publish_until_it_works(hub, "one")  # the other one has the log's lock
            proxy.heal()
        self.publish_until_it_works(other, "two")
        self.assertEqual([record.data for record in hub.log.read(0)], ["one", "two"])

    def test_a_hub_is_closed_in_a_hang(self) -> None:
        hub = self.make_hub()
        self.open_stream(hub)
        self.postgres.pause()
        try:
            ended(hub.close)
        finally:
            self.postgres.go_on()

    def test_a_hub_is_made_in_a_hang(self) -> None:
        self.make_hub().publish("a", "before")
        self.postgres.pause()
        try:
            hub = ended(self.make_hub)
            self.assertRaises(LogUnavailable, ended, hub.publish, "a", "lost")
        finally:
            self.postgres.go_on()
        self.publish_until_it_works(hub, "after")
        log = PostgresLog(self.postgres.url(), timeouts=QUICK._replace(answer=30.0))
        self.addCleanup(log.close)
        self.assertEqual(next(record.data for record in log.read(0)), "before")


class LoadTest(FaultsCase):
    """Publishers and a stream while PostgreSQL is struck again and again."""

    def outlive(self, strike: Callable[[], object], url: str = "", times: int = 5) -> None:
        # The stream is read at the end.
        hub, other = self.make_hub(url), self.make_hub(url, queue_size=1_000_000)
        first = hub.publish("a", "first")
        stream = self.open_stream(other, first)
        acknowledged: list[tuple[str, str]] = []
        uncertain: list[str] = []
        stop = threading.Event()

        def publish(name: str) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                text = f"{name}-{number}"
                try:
                    acknowledged.append((hub.publish("a", text), text))
                    time.sleep(0.002)
                except AnswerLost:
                    uncertain.append(text)
                except LogUnavailable:
                    time.sleep(0.05)

        threads = [threading.Thread(target=publish, args=[name]) for name in "bcde"]
        for thread in threads:
            thread.start()
        try:
            for _ in range(times):
                before = len(acknowledged)
                wait_until(lambda before=before: len(acknowledged) > before + 20, timeout=60, message="it goes on")
                strike()
            before = len(acknowledged)
            wait_until(lambda: len(acknowledged) > before + 20, timeout=60, message="it goes on")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.publish_until_it_works(hub, "last")
        text = ended(stream.read, b"data: last").decode()
        blocks = [block for block in text.split("\n\n") if "data: " in block and "event: " not in block]
        found = [(block.partition("id: ")[2].split("\n")[0], _data(block)) for block in blocks]
        self.assertEqual(found[-1][1], "last")
        texts = [data for _, data in found]
        self.assertEqual(len(set(texts)), len(texts))  # none comes twice
        self.assertLessEqual({*acknowledged}, {*found})
        self.assertLessEqual({*texts} - {"last"}, {data for _, data in acknowledged} | {*uncertain})
        numbers = [int(event_id.partition("-")[2]) for event_id, _ in found]
        self.assertEqual(numbers, [*range(numbers[0], numbers[0] + len(numbers))])
        self.assertNotIn("stream-end", text)

    def test_sessions_are_ended(self) -> None:
        self.outlive(self.postgres.end_sessions)

    def test_it_is_restarted(self) -> None:
        self.outlive(self.postgres.restart, times=3)

    def test_it_is_killed(self) -> None:
        def strike() -> None:
            self.postgres.kill()
            self.postgres.start()

        self.outlive(strike, times=3)

    def test_one_of_its_processes_is_killed(self) -> None:
        def strike() -> None:
            (pid, _), *_ = self.postgres.sessions()
            self.postgres.kill_session(pid)
            wait_until(self.postgres.is_answering, timeout=60, message="it has recovered")

        self.outlive(strike, times=3)

    def test_it_is_paused(self) -> None:
        def strike() -> None:
            self.postgres.pause()
            time.sleep(0.3)
            self.postgres.go_on()

        self.outlive(strike, times=3)

    def test_behind_pgbouncer(self) -> None:
        pooler = PgBouncer(self.postgres)
        self.addCleanup(pooler.close)
        self.outlive(lambda: self.postgres.end_sessions("%"), pooler.url(listen=self.postgres.url()), times=3)


def _data(block: str) -> str:
    return block.partition("data: ")[2].split("\n")[0]


class LostEndTest(FaultsCase):
    def test_a_pump_that_is_the_first_to_notice_a_lost_end_goes_on(self) -> None:
        """It begins the new epoch itself, and takes it on."""
        with self.postgres.connect() as other:
            # This process must not be the numberer, which would be the first to notice it.
            other.execute("SELECT pg_advisory_lock(%s)", [parse_url(self.postgres.url()).role_key])
            hub = self.make_hub(heartbeat=0.2)
            follower = Follower(self, hub)
            ids = [hub.publish("a", str(number)) for number in range(3)]
            follower.wait_for(b"data: 2")
            self.postgres.ask("DELETE FROM sse_threaded_numbers WHERE sequence > 1")
            follower.wait_for(b"stream-end")
        self.assertNotEqual(hub.log.epoch, ids[0][:6])
        again = self.open_stream(hub, ids[2])
        hub.publish("a", "new")
        text = ended(again.read, b"data: new")
        self.assertIn(b"event: reset", text)


class ConnectionsTest(FaultsCase):
    def test_many_streams_have_one_listening_connection(self) -> None:
        with mock.patch.object(log_module, "Timeouts", lambda: Timeouts(idle=0.5)):
            hub = self.make_hub()
        streams = [self.open_stream(hub) for _ in range(100)]
        hub.publish("a", "one")
        for stream in streams:
            stream.read(b"data: one")
        self.assertEqual(len(self.postgres.sessions(LISTENERS)), 1)
        one = ["sse_threaded listener"]
        wait_until(
            lambda: [name for _, name in self.postgres.sessions()] == one, timeout=60, message="only that is left"
        )
        hub.publish("a", "two")
        for stream in streams:
            stream.read(b"data: two")

    def test_behind_pgbouncer_alone(self) -> None:
        pooler = PgBouncer(self.postgres)
        self.addCleanup(pooler.close)
        hubs = [self.make_hub(pooler.url()) for _ in range(2)]
        streams = [self.open_stream(hub) for hub in hubs]
        self.postgres.ask("SELECT 1")
        hubs[0].publish("a", "one")
        with self.postgres.connect() as connection:
            hubs[0].log.append("a", "two", connection=connection)
        for stream in streams:
            text = ended(stream.read, b"data: two")
            self.assertLess(text.index(b"data: one"), text.index(b"data: two"))


if __name__ == "__main__":
    unittest.main()
