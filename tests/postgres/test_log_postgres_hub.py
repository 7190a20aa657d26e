"""A hub on a log in PostgreSQL: streams, resuming, events of app transactions, restarts, failovers, forks."""

from __future__ import annotations

import logging
import os
import unittest
from collections.abc import Iterator
from typing import Any

from sse_threaded import Hub, LogUnavailable
from tests.harness.postgres_server import PostgresServer
from tests.postgres.patience import be_patient
from tests.support import enter, wait_until

ONCE = True  # it says the same under every Python


class HubCase(unittest.TestCase):
    def setUp(self) -> None:
        be_patient(self)
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

    def wait_for_numberer(self, *hubs: Hub) -> None:
        def numberers() -> int:
            return sum(hub.log.listener.is_numberer for hub in hubs)  # type: ignore[attr-defined]

        wait_until(lambda: numberers() == 1, message="one process has the role of the numberer")


class Stream:
    """A stream that a test reads."""

    def __init__(self, test: unittest.TestCase, hub: Hub, environ: dict[str, Any]) -> None:
        response: Iterator[bytes] = iter(hub.stream(environ, "a").response)  # type: ignore[arg-type]
        test.addCleanup(response.close)  # type: ignore[attr-defined]
        self._response = response
        self.text = next(response)

    def read(self, until: bytes) -> bytes:
        """Read until some bytes have come; returns everything that the stream has sent."""
        while until not in self.text:
            self.text += next(self._response)
        return self.text


class StreamTest(HubCase):
    def test_events_arrive_in_another_process_and_a_client_resumes(self) -> None:
        publisher, hub = self.make_hub(), self.make_hub()
        stream = self.open_stream(hub)
        first = publisher.publish("a", "one")
        publisher.publish("b", "other")
        publisher.publish("a", "two")
        self.assertIn(f"id: {first}\n".encode(), stream.read(b"data: two"))
        self.assertNotIn(b"data: other", stream.text)
        resumed = self.open_stream(hub, first)
        self.assertNotIn(b"data: one", resumed.read(b"data: two"))

    def test_an_event_of_an_app_transaction_arrives_after_the_commit(self) -> None:
        hub, other = self.make_hub(), self.make_hub()
        streams = [self.open_stream(hub), self.open_stream(other)]
        self.wait_for_numberer(hub, other)
        with self.postgres.connect() as connection:
            connection.execute("CREATE TABLE things (name text)")
            with connection.transaction():
                connection.execute("INSERT INTO things VALUES ('one')")
                self.assertEqual(hub.log.append("a", "one", connection=connection), "")
                hub.publish("a", "before")
            with self.assertRaises(ZeroDivisionError), connection.transaction():
                hub.log.append("a", "never", connection=connection)
                raise ZeroDivisionError
        for stream in streams:
            self.assertLess(stream.read(b"data: one").index(b"before"), stream.text.index(b"one"))
        hub.publish("a", "last")
        self.assertNotIn(b"never", streams[0].read(b"data: last"))

    def test_a_ring_gives_the_number_at_once(self) -> None:
        hub = self.make_hub()
        with self.postgres.connect() as connection:
            hub.log.append("a", "one", connection=connection)
        hub.log.ring()
        self.assertEqual([record.data for record in hub.log.read(0)], ["one"])

    def test_a_process_whose_numberer_dies_is_followed_by_another(self) -> None:
        first, second = self.make_hub(), self.make_hub()
        streams = [self.open_stream(first), self.open_stream(second)]
        self.wait_for_numberer(first, second)
        numberer = first if first.log.listener.is_numberer else second  # type: ignore[attr-defined]
        numberer.close()
        other = second if numberer is first else first
        self.wait_for_numberer(other)
        self.postgres.ask("SELECT sse_threaded_publish('a', 'one')")
        streams[1 if numberer is first else 0].read(b"data: one")

    def test_a_child_has_connections_and_a_listener_of_its_own(self) -> None:
        hub = self.make_hub()
        stream = self.open_stream(hub)
        hub.publish("a", "parent")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                own = self.open_stream(hub)
                hub.publish("a", "child")
                own.read(b"data: child")
                status = 0
            finally:
                os._exit(status)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertIn(b"data: parent", stream.read(b"data: child"))


class FaultTest(HubCase):
    def test_streams_stay_open_over_a_restart(self) -> None:
        hub = self.make_hub(heartbeat=0.2)
        stream = self.open_stream(hub)
        hub.publish("a", "before")
        stream.read(b"data: before")
        for end in (self.postgres.kill, self.postgres.stop):
            stream.text = b""
            with self.assertLogs("sse_threaded", logging.ERROR):
                end()
                stream.read(b": heartbeat")
                wait_until(lambda: hub.log.listener.failure, message="the listener notices it")  # type: ignore[attr-defined]
                self.assertRaises(LogUnavailable, hub.health)
                stream.text = b""
                stream.read(b": heartbeat")
            self.postgres.start()
            hub.publish("a", "after")
            self.assertNotIn(b"retry", stream.read(b"data: after"))
        self.assertEqual(hub.health()["streams"], 1)

    def fail_over(self, *, is_behind: bool) -> tuple[Hub, Stream, list[str]]:
        """Publish three events, promote a replica that may lack the last, and go on there."""
        replica = enter(self, self.postgres.replica())
        if not is_behind:
            self.postgres.make_synchronous()
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in (self.postgres, replica))
        hub = self.make_hub(f"postgresql://postgres@{hosts}/postgres")
        stream = self.open_stream(hub)
        ids = [hub.publish("a", "one"), hub.publish("a", "two")]
        wait_until(lambda: self.postgres.is_in_step(replica))
        if is_behind:
            replica.hold_back()
        ids.append(hub.publish("a", "three"))
        stream.read(b"data: three")
        with self.assertLogs("sse_threaded", logging.WARNING):
            self.postgres.kill()
            replica.promote()
            wait_until(lambda: hub.log.epoch != ids[0][:6], timeout=30, message="a new epoch")
        stream.read(b"event: stream-end")
        return hub, stream, ids

    def test_a_failover_without_a_loss_resets_no_client(self) -> None:
        hub, _, ids = self.fail_over(is_behind=False)
        hub.publish("a", "four")
        for event_id, missed in ((ids[0], b"two"), (ids[2], b"four")):
            resumed = self.open_stream(hub, event_id)
            self.assertIn(missed, resumed.read(b"data: four"))
            self.assertNotIn(b"event: reset", resumed.text)

    def test_a_failover_with_a_loss_resets_those_that_saw_more(self) -> None:
        hub, _, ids = self.fail_over(is_behind=True)
        hub.publish("a", "four")
        self.assertNotIn(b"event: reset", self.open_stream(hub, ids[1]).read(b"data: four"))
        self.open_stream(hub, ids[2]).read(b"event: reset")

    def test_an_emptied_log_is_noticed_before_the_next_event(self) -> None:
        hub = self.make_hub()
        stream = self.open_stream(hub)
        first = hub.publish("a", "one")
        stream.read(b"data: one")
        with self.assertLogs("sse_threaded", logging.WARNING):
            self.postgres.ask("TRUNCATE sse_threaded_events, sse_threaded_numbers")
            wait_until(lambda: hub.log.epoch != first[:6], timeout=30, message="a new epoch")
        stream.read(b"event: stream-end")
        resumed = self.open_stream(hub, first)
        resumed.read(b"event: reset")
        hub.publish("a", "two")
        resumed.read(b"data: two")


if __name__ == "__main__":
    unittest.main()
