"""Steps of streams that no client sees by themselves: what a wrapped stream notes, and what is counted."""

from __future__ import annotations

import socket
import sqlite3
import unittest
from typing import Any
from unittest import mock

from sse_threaded.fanout.audience import Audiences
from sse_threaded.fanout.socket_subscriber import SocketSubscriber
from sse_threaded.fanout.wrapped_subscriber import WrappedSubscriber
from sse_threaded.log import MemoryLog, Record
from sse_threaded.log.sqlite.app_connection import transaction_of
from sse_threaded.protocol.batch import Batch


class WrappedTest(unittest.TestCase):
    def setUp(self) -> None:
        ours, self.client = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(self.client.close)
        self.server, self.keeper = mock.Mock(), mock.Mock()
        self.subscriber: Any = WrappedSubscriber(["a"], 10, ours, self.server, self.keeper)

    def test_after_four_empty_chunks_without_an_answer_it_must_wait(self) -> None:
        gives = [self.subscriber.note_empty_chunk() for _ in range(6)]
        self.assertEqual(gives, [True] * 4 + [False] * 2)

    def test_events_and_an_answer_of_the_server_let_it_begin_to_count_again(self) -> None:
        for note in (self.subscriber.note_events, lambda: self.subscriber.is_idle(False)):
            for _ in range(5):
                self.subscriber.note_empty_chunk()
            note()
            self.assertTrue(all(self.subscriber.note_empty_chunk() for _ in range(4)))
            self.assertFalse(self.subscriber.note_empty_chunk())

    def test_it_is_idle_when_it_has_given_an_empty_chunk(self) -> None:
        self.assertFalse(self.subscriber.is_idle(False))
        self.assertFalse(self.subscriber.is_idle(True))
        self.subscriber.note_empty_chunk()
        self.assertTrue(self.subscriber.is_idle(False))
        self.assertFalse(self.subscriber.is_idle(False), "until the next one")

    def test_where_the_wrapper_gave_bytes_for_it_the_server_asks_once_more(self) -> None:
        found = []
        for _ in range(4):
            self.subscriber.note_empty_chunk()
            found.append(self.subscriber.is_idle(True))
        self.assertEqual(found, [False, True, False, True])
        self.subscriber.note_empty_chunk()
        self.subscriber.is_idle(True)
        self.subscriber.note_events()
        self.subscriber.note_empty_chunk()
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
        parked = SocketSubscriber(["a"], 100, ours, chunked=chunked, cursor=None, finished=lambda: None)
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
        subscriber: Any = WrappedSubscriber(["a", "b"], 10, mock.Mock(), mock.Mock(), mock.Mock())
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
