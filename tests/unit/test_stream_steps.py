"""Steps of streams that no client sees by themselves: first bytes, what a wrapped one notes, what is counted."""

from __future__ import annotations

import socket
import sqlite3
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

from werkzeug.test import EnvironBuilder

from sse_threaded import Hub
from sse_threaded.fanout.audience import Audiences
from sse_threaded.fanout.handover import ENVIRON_KEY
from sse_threaded.fanout.socket_subscriber import SocketSubscriber
from sse_threaded.fanout.stream_state import EndReason
from sse_threaded.fanout.wrapped_subscriber import WrappedSubscriber
from sse_threaded.log import MemoryLog, Record
from sse_threaded.log.sqlite.app_connection import transaction_of
from sse_threaded.protocol.batch import Batch
from tests.unit.fake_handover import FakeHandover

EVENT = Batch(b"data: x\n\n")


class StartTest(unittest.TestCase):
    """The first bytes of a stream, whichever way they go."""

    def setUp(self) -> None:
        self.hub = Hub(retry=1234, max_streams=1)
        self.addCleanup(self.hub.close)
        self.connection, client = socket.socketpair()
        self.addCleanup(self.connection.close)
        self.addCleanup(client.close)
        self.last = self.hub.publish("a", "x")

    def firsts(self, last_event_id: str) -> Iterator[tuple[str, bytes]]:
        """Each way, and the first bytes."""
        for way in ("iterated", "joined", "wrapped", "parked"):
            handover = FakeHandover()
            environ = EnvironBuilder("/", multithread=True).get_environ()
            environ["HTTP_LAST_EVENT_ID"] = last_event_id
            if way in ("wrapped", "parked"):
                environ[ENVIRON_KEY] = handover
            stream: Any = self.hub.stream(environ, "a").response
            if way == "parked":
                parking = stream.park(handover, self.connection, True)
                parking.cancel()
                yield way, parking.first
            else:
                stream.joins = way == "joined"
                yield way, next(stream)
                stream.close()

    def test_it_has_the_usual_time_and_the_position(self) -> None:
        for last_event_id in ("", f"{self.hub.log.epoch}-0"):
            place = (last_event_id or self.last).encode()
            expected = b"retry: 1234\nevent: stream-start\nid: " + place + b"\ndata: {}\n\n"
            for way, first in self.firsts(last_event_id):
                with self.subTest(way=way, last_event_id=last_event_id):
                    events = b"data: x\nid: " + self.last.encode() + b"\n\n"
                    replay = events if way == "joined" and last_event_id else b""
                    self.assertEqual(first, expected + replay)

    def test_before_a_reset_it_has_no_position(self) -> None:
        expected = b"retry: 1234\nevent: stream-start\ndata: {}\n\n"
        for way, first in self.firsts("unknown"):
            with self.subTest(way):
                start, end, reset = first.partition(b"data: {}\n\n")
                self.assertEqual(start + end, expected)
                self.assertEqual(b"event: reset" in reset, way == "joined")


class WrappedTest(unittest.TestCase):
    def setUp(self) -> None:
        ours, self.client = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(self.client.close)
        self.server, self.keeper = mock.Mock(), mock.Mock()
        self.sleeper = mock.Mock()  # whose sleep ends at once
        self.subscriber: Any = WrappedSubscriber(("a",), 10, ours, self.server, self.keeper)
        self.subscriber.sleeper = self.sleeper

    def take_nothing(self) -> bool:
        """Take from the empty queue; returns whether it gave that at once. Otherwise it has waited."""
        self.keeper.reset_mock()
        self.sleeper.reset_mock()
        self.assertEqual(self.subscriber.take(), [])
        self.assertEqual(
            self.keeper.keep_thread.mock_calls, [mock.call(self.subscriber)] * self.sleeper.sleep.call_count
        )
        return not self.sleeper.sleep.called

    def take_events(self) -> None:
        self.subscriber.deliver(EVENT)
        self.assertEqual(self.subscriber.take(), [EVENT])

    def test_after_four_empty_chunks_without_an_answer_it_must_wait(self) -> None:
        gives = [self.take_nothing() for _ in range(6)]
        self.assertEqual(gives, [True] * 4 + [False] * 2)

    def test_a_thread_that_stays_waits_and_asks_no_more_whether_it_may(self) -> None:
        self.subscriber.keep_thread()
        self.assertEqual(self.subscriber.take(5.0), [])
        self.assertEqual(self.sleeper.sleep.call_args.args[1], 5.0)
        self.take_events()
        self.keeper.keep_thread.assert_not_called()

    def test_events_and_an_answer_of_the_server_let_it_begin_to_count_again(self) -> None:
        for note in (self.take_events, lambda: self.subscriber.is_idle(False)):
            for _ in range(5):
                self.take_nothing()
            note()
            self.assertTrue(all(self.take_nothing() for _ in range(4)))
            self.assertFalse(self.take_nothing())

    def test_it_is_idle_when_it_has_given_an_empty_chunk(self) -> None:
        self.assertFalse(self.subscriber.is_idle(False))
        self.assertFalse(self.subscriber.is_idle(True))
        self.take_nothing()
        self.assertTrue(self.subscriber.is_idle(False))
        self.assertFalse(self.subscriber.is_idle(False), "until the next one")

    def test_its_end_is_no_empty_chunk(self) -> None:
        self.subscriber.end(EndReason.LEASE, b"")
        self.assertTrue(all(self.take_nothing() for _ in range(6)))
        self.assertFalse(self.subscriber.is_idle(False))

    def test_where_the_wrapper_gave_bytes_for_it_the_server_asks_once_more(self) -> None:
        found = []
        for _ in range(4):
            self.take_nothing()
            found.append(self.subscriber.is_idle(True))
        self.assertEqual(found, [False, True, False, True])
        self.take_nothing()
        self.subscriber.is_idle(True)
        self.take_events()
        self.take_nothing()
        self.assertFalse(self.subscriber.is_idle(True), "after events it begins anew")

    def test_a_thread_that_stays_sends_what_waits_and_all_that_follows_at_once(self) -> None:
        self.subscriber.sendall(b"one ")
        self.assertFalse(self.subscriber.keeps_thread)
        self.subscriber.keep_thread()
        self.assertTrue(self.subscriber.keeps_thread)
        self.server.keep_thread.assert_called_once_with()
        self.subscriber.sendall(b"two")
        self.assertEqual(self.client.recv(100), b"one two")
        self.subscriber.connection.close()
        self.subscriber.keep_thread()
        self.assertTrue(self.subscriber.state.is_lost)

    def test_its_end_is_told_to_the_pump(self) -> None:
        self.subscriber.end_response()
        self.keeper.end_response.assert_called_once_with(self.subscriber)


class ParkedTest(unittest.TestCase):
    def make_subscriber(self, *, chunked: bool) -> tuple[Any, socket.socket]:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        parked = SocketSubscriber(("a",), 100, ours, chunked=chunked, cursor=None, finished=lambda: None)
        return parked, theirs

    def test_events_that_leave_with_the_head_are_counted_and_the_head_is_not(self) -> None:
        for chunked, wire in ((True, b"head3\r\nabc\r\n"), (False, b"headabc")):
            with self.subTest(chunked=chunked):
                parked, theirs = self.make_subscriber(chunked=chunked)
                parked.begin(b"head", Batch(b"abc", 2))
                self.assertEqual(theirs.recv(100), wire)
                self.assertEqual((parked.waiting, parked.is_blocked, parked.sent), (0, False, 3))
                self.assertFalse(parked.connection.getblocking())

    def test_a_head_alone(self) -> None:
        for batch in (None, Batch(b"", 0)):
            parked, theirs = self.make_subscriber(chunked=True)
            parked.begin(b"head", batch)
            self.assertEqual(theirs.recv(100), b"head")
            self.assertEqual((parked.waiting, parked.is_blocked, parked.sent), (0, False, 0))


class AudienceTest(unittest.TestCase):
    def test_one_that_is_ahead_gets_the_events_behind_its_position_only(self) -> None:
        log = MemoryLog()
        self.addCleanup(log.close)
        audiences = Audiences(log)
        subscriber: Any = WrappedSubscriber(("a", "b"), 10, mock.Mock(), mock.Mock(), mock.Mock())
        subscriber.after = 2
        audiences.add(subscriber, 0)
        page = [Record(number, channel, None, "x") for number, channel in enumerate("aabcba", 1)]
        ((batch, broadcast, others),) = audiences.deliveries(page)
        self.assertEqual((broadcast, others, batch.count), (None, (subscriber,), 3))
        wires = [f"data: x\nid: {log.event_id(number)}\n\n".encode() for number in (3, 5, 6)]
        self.assertEqual((batch.parts, batch.body), (wires, b"".join(wires)))


class AppTransactionTest(unittest.TestCase):
    def setUp(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(self.connection.close)
        self.connection.execute("CREATE TABLE t (n)")

    def rows(self) -> int:
        return int(self.connection.execute("SELECT count(*) FROM t").fetchone()[0])

    def test_where_each_statement_would_commit_a_new_one_begins_and_ends_with_the_block(self) -> None:
        with transaction_of(self.connection) as is_new:
            self.connection.execute("INSERT INTO t VALUES (1)")
            self.assertTrue(self.connection.in_transaction)
        self.assertEqual((is_new, self.connection.in_transaction, self.rows()), (True, False, 1))
        with self.assertRaises(ZeroDivisionError), transaction_of(self.connection):
            self.connection.execute("INSERT INTO t VALUES (2)")
            raise ZeroDivisionError
        self.assertEqual((self.connection.in_transaction, self.rows()), (False, 1))

    def test_the_apps_own_is_left_to_the_app(self) -> None:
        self.connection.execute("BEGIN")
        with transaction_of(self.connection) as is_new:
            self.connection.execute("INSERT INTO t VALUES (1)")
        self.assertEqual((is_new, self.connection.in_transaction), (False, True))
        with self.assertRaises(ZeroDivisionError), transaction_of(self.connection):
            raise ZeroDivisionError
        self.assertTrue(self.connection.in_transaction)
        self.connection.execute("ROLLBACK")
        self.connection.isolation_level = "DEFERRED"
        with transaction_of(self.connection) as is_new:
            self.connection.execute("INSERT INTO t VALUES (1)")
        self.assertEqual((is_new, self.connection.in_transaction), (False, True))


if __name__ == "__main__":
    unittest.main()
